"""The sandbox: how commands end, and that nobody outlives them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from autoresearch import sandbox, supervisor
from autoresearch.errors import SlotLost
from autoresearch.sandbox import Execution, end_recorded, execute

pytestmark = pytest.mark.anyio

ENV = {"PATH": os.environ["PATH"]}
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs subreapers")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


Run = Callable[..., Coroutine[Any, Any, Execution]]
SOON_SECONDS = 30.0
"""Enough on a machine that is busy, and far from the minutes that victims live."""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """`execute` in a temporary folder, with short limits."""

    async def _run(command: str | list[str], **options: object) -> Execution:
        fixed = {"cwd": tmp_path, "env": ENV, "stdout": tmp_path / "out", "stderr": tmp_path / "err"}
        limits = {"timeout_seconds": 20.0, "grace_seconds": 0.2}
        return await execute(command, **{**fixed, **limits, **options})  # type: ignore[arg-type]

    return _run


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + SOON_SECONDS
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def pids(file: Path) -> list[int]:
    return [int(word) for word in file.read_text().split()] if file.exists() else []


def written(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


async def run_out(run: Run, command: str, begun: Path, **options: object) -> Execution:
    """The command at a time limit that lets it begin, of which the file `begun` tells. A busy machine needs longer."""
    for seconds in (0.2, 2.0, 20.0):
        execution = await run(command, timeout_seconds=seconds, **options)
        if written(begun):
            break
    return execution


async def when(true: Callable[[], bool]) -> None:
    with anyio.fail_after(SOON_SECONDS):
        while not true():  # noqa: ASYNC110  # another process tells
            await anyio.sleep(0.01)


# Victims: each writes the ids of its processes to `pids`, and lives for minutes unless it is killed.

DEAF = "trap '' TERM; echo $$ >> pids; while :; do sleep 0.05; done"
SETSID = "setsid bash -c 'echo $$ >> pids; exec sleep 300' & echo $$ >> pids; sleep 300"
DAEMON = "(setsid bash -c 'trap \"\" TERM; (echo $BASHPID >> pids; exec sleep 300) &' &) ; echo $$ >> pids; sleep 300"
NAMELESS = "setsid env -i sleep 300 & echo $! $$ >> pids; sleep 300"
CHAIN = """exec python3 -I -S -c '
import os, time
open("pids", "a").write(f"{os.getpid()} ")
os.setpgid(0, 0)
until = time.time() + 300
while time.time() < until:
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(0.0005)
' & sleep 300"""
VICTIMS = {"deaf": DEAF, "setsid": SETSID, "daemon": DAEMON, "nameless": NAMELESS, "chain": CHAIN}


def living_in(folder: Path) -> list[int]:
    """Processes whose working folder it is: all that a victim starts."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                inside = os.readlink(entry / "cwd") == str(folder)
            except OSError:
                continue
            if inside and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


@linux
@pytest.mark.parametrize("name", VICTIMS)
async def test_nobody_survives_the_timeout(name: str, run: Run, tmp_path: Path) -> None:
    execution = await run_out(run, VICTIMS[name], tmp_path / "pids")
    assert execution.timed_out
    assert pids(tmp_path / "pids")
    assert living_in(tmp_path) == []
    assert execution.survivors == 0


@linux
@pytest.mark.parametrize("name", ["setsid", "daemon", "nameless", "chain"])
async def test_nobody_survives_the_end_of_the_command(name: str, run: Run, tmp_path: Path) -> None:
    last = VICTIMS[name].replace("; sleep 300", "").replace("& sleep 300", "&")
    execution = await run(f"{last}\nuntil [ -s pids ]; do sleep 0.01; done; exit 7")
    assert (execution.exit_code, execution.timed_out) == (7, False)
    assert living_in(tmp_path) == []
    assert execution.wall_seconds < SOON_SECONDS


@linux
@pytest.mark.parametrize("name", ["deaf", "daemon", "chain"])
async def test_nobody_survives_cancelling(name: str, run: Run, tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, VICTIMS[name])
        await when(lambda: bool(pids(tmp_path / "pids")))
        began = time.monotonic()
        group.cancel_scope.cancel()
    assert time.monotonic() - began < SOON_SECONDS
    assert living_in(tmp_path) == []


@linux
@pytest.mark.parametrize("name", ["deaf", "daemon", "chain"])
def test_nobody_survives_the_coordinator(name: str, tmp_path: Path) -> None:
    coordinator = textwrap.dedent(f"""
        import anyio, pathlib
        from autoresearch.sandbox import execute
        here = pathlib.Path({str(tmp_path)!r})
        async def main():
            await execute({VICTIMS[name]!r}, cwd=here, env={ENV!r}, timeout_seconds=300, stdout=here / "out",
                          stderr=here / "err", record=here / "record")
        anyio.run(main)
    """)
    with subprocess.Popen([sys.executable, "-c", coordinator], cwd=Path(sandbox.__file__).parents[1]) as process:
        try:
            assert wait_until(lambda: len(pids(tmp_path / "pids")) > 0)
            supervising = int((tmp_path / "record").read_text().split()[0])
        finally:
            process.kill()
    assert wait_until(lambda: not alive(supervising))
    assert living_in(tmp_path) == []


@linux
async def test_a_killed_supervisor_takes_the_command_with_it(run: Run, tmp_path: Path) -> None:
    execution = await run("echo $$ > pids; kill -KILL $PPID; sleep 300")
    assert execution.exit_code == -signal.SIGKILL
    assert wait_until(lambda: living_in(tmp_path) == [])


async def test_without_descent_the_group_dies(run: Run, tmp_path: Path) -> None:
    execution = await run_out(run, DEAF, tmp_path / "pids", descend=False)
    assert (execution.timed_out, execution.survivors) == (True, 0)
    assert not any(map(alive, pids(tmp_path / "pids")))


async def test_a_held_pipe_does_not_delay_the_end(run: Run, tmp_path: Path) -> None:
    execution = await run("setsid sleep 300 & echo $! > pids; echo done", descend=False)
    for pid in pids(tmp_path / "pids"):
        supervisor.send(pid, signal.SIGKILL)  # beyond the reach of a group
    assert execution.wall_seconds < SOON_SECONDS
    assert (tmp_path / "out").read_text() == "done\n"


async def test_outputs_are_kept_apart_and_the_exit_status_told(run: Run, tmp_path: Path) -> None:
    execution = await run("echo out; echo err >&2; exit 3")
    assert ((tmp_path / "out").read_text(), (tmp_path / "err").read_text()) == ("out\n", "err\n")
    assert execution.exit_code == 3


@pytest.mark.parametrize(
    ("command", "code"),
    [("kill -SEGV $$", -signal.SIGSEGV), (["no-such-program"], 127), (["true", "\0"], 126), ("true", 0)],
)
async def test_exit_codes(command: str | list[str], code: int, run: Run) -> None:
    assert (await run(command)).exit_code == code


async def test_term_comes_first_and_may_be_used(run: Run, tmp_path: Path) -> None:
    command = "trap 'echo saved; exit 5' TERM; echo ready; while :; do sleep 0.02; done"
    execution = await run_out(run, command, tmp_path / "out", grace_seconds=90)
    assert (execution.exit_code, execution.timed_out) == (5, True)
    assert (tmp_path / "out").read_text() == "ready\nsaved\n"
    assert execution.wall_seconds < 60


async def test_a_flood_keeps_its_head_and_its_end(run: Run, tmp_path: Path) -> None:
    limit = 100_000
    execution = await run("echo first; seq 1 2000000; echo last", limit_bytes=limit)
    text = (tmp_path / "out").read_bytes()
    assert execution.exit_code == 0
    assert text.startswith(b"first\n1\n2\n") and text.endswith(b"\n2000000\nlast\n")
    assert supervisor.CUT in text
    assert len(text) == limit + len(supervisor.CUT)


async def test_what_fits_is_stored_whole(run: Run, tmp_path: Path) -> None:
    await run("seq 1 10000", limit_bytes=48_894)
    assert (tmp_path / "out").read_text().split() == [str(number) for number in range(1, 10001)]


async def test_stdin_is_fed_whole_and_may_be_left_unread(run: Run, tmp_path: Path) -> None:
    text = b"0123456789" * 100_000
    await run("cat", stdin=text)
    assert (tmp_path / "out").read_bytes() == text
    assert (await run("true", stdin=text)).exit_code == 0
    await run("wc -c")
    assert (tmp_path / "out").read_text().strip() == "0"


async def test_the_environment_is_the_one_given(run: Run, tmp_path: Path) -> None:
    await run(["/usr/bin/env"], env={"A": "1", "BYTES": "\udcff"})
    assert (tmp_path / "out").read_bytes() == b"A=1\nBYTES=\xff\n"


BUSY = "import time; end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
LARGE = """\
import pathlib, sys, time
x = bytearray(60_000_000)
pathlib.Path(sys.argv[1]).touch()
while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)
time.sleep(0.5)"""
"""Holds much from before its first argument exists until after the second does."""


async def test_cpu_time_counts_grandchildren(run: Run) -> None:
    execution = await run(f"(python3 -c '{BUSY}' & python3 -c '{BUSY}' & wait); true")
    assert 0.4 <= execution.cpu_seconds < 5


@linux
async def test_the_peak_is_that_of_the_whole_tree(run: Run) -> None:
    execution = await run(f"python3 -c '{LARGE}' a b & python3 -c '{LARGE}' b a & wait")
    assert 120e6 < execution.peak_bytes < 200e6


async def test_the_peak_of_a_short_command_is_seen(run: Run) -> None:
    execution = await run(["python3", "-c", "x = bytearray(60_000_000)"])
    assert 60e6 < execution.peak_bytes < 100e6


async def test_the_wall_clock_is_that_of_the_command(run: Run) -> None:
    execution = await run("sleep 0.2; setsid sleep 300 &")
    assert 0.2 <= execution.wall_seconds < SOON_SECONDS


@linux
async def test_the_command_runs_on_its_cores(run: Run, tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0))
    await run(["python3", "-c", "import os; print(os.sched_getaffinity(0))"], cpus=[core])
    assert (tmp_path / "out").read_text() == f"{{{core}}}\n"


async def test_signals_that_python_ignores_are_not_ignored_by_the_command(run: Run, tmp_path: Path) -> None:
    await run("seq 1 10000000 | head -1; echo ${PIPESTATUS[0]}")
    assert (tmp_path / "out").read_text().split() == ["1", str(128 + signal.SIGPIPE)]


async def test_what_wraps_a_command_stands_before_it(run: Run, tmp_path: Path) -> None:
    await run("echo $WRAPPED", wrap=["env", "WRAPPED=yes"])
    assert (tmp_path / "out").read_text() == "yes\n"


async def test_a_start_that_fails_is_the_machine_s_fault(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SlotLost, match="gone"):
        await run("true", cwd=tmp_path / "gone")
    with pytest.raises(SlotLost, match="no-folder"):
        await run("true", stdout=tmp_path / "no-folder" / "out")
    with pytest.raises(SlotLost, match="no-folder"):
        await run("true", record=tmp_path / "no-folder" / "record")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
async def test_a_full_disk_ends_the_command(run: Run) -> None:
    with pytest.raises(SlotLost, match="No space left"):
        await run("echo x; sleep 300", stdout=Path("/dev/full"))


@linux
async def test_the_record_is_there_while_it_runs(run: Run, tmp_path: Path) -> None:
    record = tmp_path / "record"
    async with anyio.create_task_group() as group:
        group.start_soon(partial(run, DEAF, record=record))
        await when(lambda: bool(pids(tmp_path / "pids")))
        assert alive(int(record.read_text().split()[0]))
        group.cancel_scope.cancel()
    assert not record.exists()


@linux
def test_what_was_recorded_is_killed_only_if_it_is_the_same(tmp_path: Path) -> None:
    record = tmp_path / "record"
    with subprocess.Popen(["sleep", "300"]) as process:
        record.write_text(f"{process.pid} 1 {sandbox._identity(process.pid).split()[1]}\n")
        assert not end_recorded(record)
        assert process.poll() is None
        record.write_text(f"{process.pid} {sandbox._identity(process.pid)}\n")
        assert end_recorded(record)
        assert process.wait(SOON_SECONDS) == -signal.SIGKILL
    assert not record.exists()
    assert not end_recorded(record)


def test_it_runs_on_trio_too(tmp_path: Path) -> None:
    async def main() -> Execution:
        return await execute(
            "exit 4", cwd=tmp_path, env=ENV, timeout_seconds=9, stdout=tmp_path / "out", stderr=tmp_path / "err"
        )

    assert anyio.run(main, backend="trio").exit_code == 4


async def test_many_at_once_do_not_mix(tmp_path: Path) -> None:
    async def one(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        execution = await execute(
            f"echo {number}; exit {number}",
            cwd=folder,
            env=ENV,
            timeout_seconds=20,
            stdout=folder / "out",
            stderr=folder / "err",
        )
        assert execution.exit_code == number
        assert (folder / "out").read_text() == f"{number}\n"

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(one, number)
