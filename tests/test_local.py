"""Measuring on this machine: real processes in real worktrees."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import anyio
import pytest

from autoresearch.checkout import inspect
from autoresearch.errors import SlotLost, UsageError
from autoresearch.measurers import slot as slots_module
from autoresearch.measurers.carry import CarryPlan
from autoresearch.measurers.gpu import GpuMemory
from autoresearch.measurers.local import LocalMeasurer, LocalSlot, Workplace
from autoresearch.measurers.output import end_of, readable, tail_of, written_since
from autoresearch.measurers.redirects import redirected_files
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.protocols import Device, Request
from autoresearch.trial import Reason
from autoresearch.worktrees import Worktrees

pytestmark = pytest.mark.anyio

LOSS = Metric("loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "loss"))
PRINT = "cat value.txt"
ASK = Request(trial=1, command=PRINT, timeout_seconds=20, metric=LOSS)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


class Project:
    """A user's repository with two commits: in the first the loss is 3, in the second 2."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        git(folder, "init", "-q", "-b", "main")
        self.base = self.commit(3)
        self.better = self.commit(2)

    def commit(self, loss: int) -> str:
        (self.folder / "value.txt").write_text(f"loss: {loss}\n")
        git(self.folder, "add", ".")
        git(self.folder, "commit", "-q", "-m", f"loss {loss}")
        return git(self.folder, "rev-parse", "HEAD")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


Open = Callable[..., AbstractAsyncContextManager[LocalMeasurer]]


@pytest.fixture
def measurer(project: Project, tmp_path: Path) -> Open:
    @asynccontextmanager
    async def opened(
        slots: int = 1, on_problem: Callable[[str], None] = lambda problem: None, **options: object
    ) -> AsyncIterator[LocalMeasurer]:
        worktrees = Worktrees(await inspect(project.folder), tmp_path / "home")
        await worktrees.open()
        place = Workplace(tag="t", plan=CarryPlan(project.folder), logs=tmp_path / "logs", state=tmp_path / "state")
        place = replace(place, **options)  # type: ignore[arg-type]
        async with LocalMeasurer(worktrees, place, [Device()] * slots, on_problem) as measurer:
            yield measurer

    return opened


async def first(measurer: LocalMeasurer) -> LocalSlot:
    async with aclosing(measurer.slots()) as slots:
        return await anext(slots)


def asking(command: str, **options: object) -> Request:
    return replace(ASK, command=command, **options)  # type: ignore[arg-type]


async def test_each_commit_is_measured_in_its_own_files(measurer: Open, project: Project) -> None:
    async with measurer() as here:
        slot = await first(here)
        assert (await slot.measure(project.base, ASK)).value == 3
        assert (await slot.measure(project.better, ASK)).value == 2
        measured = await slot.measure(project.base, ASK)
    assert (measured.value, measured.failure, measured.exit_code) == (3, None, 0)
    assert measured.seconds_total > measured.wall_seconds > 0
    assert measured.peak_bytes > 1_000_000


async def test_before_the_metric_is_chosen_stdout_is_carried(measurer: Open, project: Project) -> None:
    async with measurer() as here:
        measured = await (await first(here)).measure(project.base, replace(ASK, metric=None))
    assert (measured.value, measured.failure, measured.stdout) == (None, None, "loss: 3\n")


@pytest.mark.parametrize(
    ("command", "options", "failure", "code"),
    [
        ("cat value.txt; exit 4", {}, Reason.EXIT, 4),
        ("cat value.txt; kill -SEGV $$", {}, Reason.SIGNAL, -11),
        ("cat value.txt; sleep 300", {"timeout_seconds": 0.3}, Reason.TIMEOUT, None),
        ("echo nothing", {}, Reason.NO_METRIC, 0),
        (PRINT, {"build": "echo broken >&2; exit 3"}, Reason.BUILD_FAILED, 3),
        (PRINT, {"build": "true", "checks": ("true", "echo broken; false")}, Reason.CHECKS_FAILED, 1),
        (PRINT, {"checks": ("sleep 300",), "timeout_seconds": 0.3}, Reason.CHECKS_FAILED, None),
    ],
)
async def test_a_failing_candidate_is_an_outcome(
    command: str, options: dict[str, object], failure: Reason, code: int | None, measurer: Open, project: Project
) -> None:
    async with measurer() as here:
        measured = await (await first(here)).measure(project.base, asking(command, **options))
    assert (measured.value, measured.failure, measured.exit_code) == (None, failure, code)
    if "broken" in str(options):
        assert "broken" in measured.tail


async def test_build_and_checks_run_in_the_worktree_before_the_measurement(measurer: Open, project: Project) -> None:
    ask = asking("cat built", build="cp value.txt built", checks=("test -s built",))
    async with measurer() as here:
        measured = await (await first(here)).measure(project.better, ask)
    assert measured.value == 2
    assert 0 < measured.check_seconds < measured.seconds_total


async def test_nothing_of_a_measurement_is_left_for_the_next(measurer: Open, project: Project) -> None:
    dirt = 'echo 9 > value.txt; mkdir -p junk; touch junk/x new.txt "$TMPDIR"/t; chmod 500 "$TMPDIR"'
    async with measurer() as here:
        slot = await first(here)
        assert (await slot.measure(project.base, asking(f'{dirt}; test -e "$TMPDIR"/t && echo loss: 1'))).value == 1
        look = 'cat value.txt; ls; ls -A "$TMPDIR"'
        measured = await slot.measure(project.base, replace(asking(look), metric=None))
    assert measured.stdout.split("\n") == ["loss: 3", "value.txt", ""]


async def test_what_setup_made_and_keep_names_is_kept(measurer: Open, project: Project, tmp_path: Path) -> None:
    setup = "mkdir deps; echo made > deps/a; echo $AUTORESEARCH_SLOT $HUSKY $LEFTHOOK > seen"
    async with measurer(setup=setup, keep=("/cache",)) as here:
        slot = await first(here)
        await slot.measure(project.better, asking("mkdir cache other; touch cache/x"))
        measured = await slot.measure(project.base, replace(asking("cat deps/a seen; ls"), metric=None))
    assert measured.stdout.split() == ["made", "0", "0", "0", "cache", "deps", "seen", "value.txt"]
    assert "seen" in (tmp_path / "logs" / "setup.log").read_text()
    assert sorted(os.listdir(project.folder)) == [".git", "value.txt"]


async def test_setup_cannot_write_the_users_git_config(measurer: Open, project: Project) -> None:
    before = (project.folder / ".git" / "config").read_bytes()
    async with measurer(setup="git config foo.bar 1") as here:
        slot = await first(here)
        again = replace(asking("git config foo.baz 2; git config foo.bar"), metric=None)
        assert (await slot.measure(project.base, again)).stdout == ""
        assert (await slot.measure(project.base, replace(asking("git config foo.baz"), metric=None))).stdout == ""
    assert (project.folder / ".git" / "config").read_bytes() == before


async def test_a_full_disk_is_to_blame_for_what_fails_on_it_alone(
    measurer: Open, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots_module, "MIN_FREE_BYTES", 1 << 62)
    async with measurer() as here:
        slot = await first(here)
        unread = replace(ASK, metric=None)
        assert (await slot.measure(project.base, ASK)).value == 3
        assert (await slot.measure(project.base, unread)).exit_code == 0
        for request in (replace(ASK, command="exit 1"), replace(unread, command="exit 1")):
            with pytest.raises(SlotLost, match=r"the disk that holds .* is full"):
                await slot.measure(project.base, request)


async def test_a_setup_that_fails_says_why(measurer: Open) -> None:
    said: list[str] = []
    async with measurer(setup="echo no such tool >&2; exit 3", slots=2, on_problem=said.append) as here:
        with pytest.raises(UsageError, match=r"setup failed \(exit 3\): echo no such tool.*\nno such tool"):
            await first(here)
    assert said == []  # the error has said it


async def test_a_slot_that_cannot_be_set_up_is_said_and_left_out(measurer: Open, project: Project) -> None:
    said: list[str] = []
    async with measurer(setup="test $AUTORESEARCH_SLOT != 1", slots=3, on_problem=said.append) as here:
        numbers = [slot.number async for slot in here.slots()]
    assert sorted(numbers) == [0, 2]
    assert len(said) == 1 and said[0].startswith("slot 1: setup failed")


async def test_a_ready_slot_does_not_wait_for_the_others(measurer: Open, project: Project) -> None:
    async with measurer(setup="test $AUTORESEARCH_SLOT = 1 || sleep 300", slots=2) as here:
        with anyio.fail_after(20):
            slot = await first(here)
            assert slot.number == 1
            assert (await slot.measure(project.base, ASK)).value == 3


async def test_slots_that_nobody_waits_for_are_torn_down_too(measurer: Open, project: Project, tmp_path: Path) -> None:
    late, setup = tmp_path / "late", tmp_path / "setup"
    waiting = f'test $AUTORESEARCH_SLOT = 0 || {{ touch "{setup}"; until [ -e "{late}" ]; do sleep 0.01; done; }}'
    said: list[str] = []
    async with measurer(setup=waiting, teardown="exit 5", slots=2, on_problem=said.append) as here:
        slot = await first(here)
        late.touch()
        with anyio.fail_after(20):
            while "slot 1, setup" not in (tmp_path / "logs" / "setup.log").read_text():  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert (await slot.measure(project.base, ASK)).value == 3
    assert sorted(problem[:6] for problem in said) == ["slot 0", "slot 1"]


async def test_the_teardown_runs_in_each_slot(measurer: Open, tmp_path: Path) -> None:
    done = tmp_path / "done"
    said: list[str] = []
    teardown = f'echo $AUTORESEARCH_SLOT >> "{done}"; exit $AUTORESEARCH_SLOT'
    async with measurer(teardown=teardown, slots=2, on_problem=said.append) as here:
        assert len([slot async for slot in here.slots()]) == 2
    assert sorted(done.read_text().split()) == ["0", "1"]
    assert [problem.startswith("slot 1: teardown failed (exit 1)") for problem in said] == [True]
    assert not list((tmp_path / "state").glob("*/tmp"))


async def test_the_environment_of_a_measurement(measurer: Open, project: Project, tmp_path: Path) -> None:
    outer = {"PATH": os.environ["PATH"], "MY_API_KEY": "x", "OTHER_API_KEY": "y", "KEPT": "z"}
    async with measurer(outer=outer, passed=("OTHER_API_KEY",)) as here:
        slot = await first(here)
        measured = await slot.measure(project.base, replace(asking("env", seed=5), metric=None))
    env = dict(line.split("=", 1) for line in measured.stdout.splitlines() if "=" in line)
    assert "MY_API_KEY" not in env
    assert (env["OTHER_API_KEY"], env["KEPT"]) == ("y", "z")
    assert (env["AUTORESEARCH_TRIAL"], env["AUTORESEARCH_SEED"], env["AUTORESEARCH_SLOT"]) == ("1", "5", "0")
    assert Path(env["TMPDIR"]).is_relative_to(tmp_path / "state")


async def test_a_run_started_in_a_subfolder_measures_there(measurer: Open, project: Project) -> None:
    (project.folder / "sub").mkdir()
    (project.folder / "sub" / "value.txt").write_text("loss: 8\n")
    git(project.folder, "add", ".")
    git(project.folder, "commit", "-q", "-m", "sub")
    async with measurer(prefix="sub") as here:
        slot = await first(here)
        assert (await slot.measure(git(project.folder, "rev-parse", "HEAD"), ASK)).value == 8
        assert (await slot.measure(project.base, ASK)).failure is Reason.EXIT


async def test_a_redirected_file_counts_as_output_but_never_as_the_metric(
    measurer: Open, project: Project, tmp_path: Path
) -> None:
    command = "(cat value.txt; echo peak_vram_mb: 45060.2; echo loss: 99; echo last words) > run.log; cat value.txt"
    async with measurer() as here:
        slot = await first(here)
        measured = await slot.measure(project.base, asking(command))
        silent = await slot.measure(project.base, asking("cat value.txt > run.log; exit 1"))
    assert measured.value == 3
    assert measured.extra["peak_vram_mb"] == 45060.2
    assert "last words" in measured.tail
    assert (silent.value, silent.failure, silent.tail) == (None, Reason.EXIT, "loss: 3")
    log = (tmp_path / "logs" / "1.log").read_text()
    assert "last words" in log and log.count("=== ") == 2 and f"commit {project.base[:10]}" in log


async def test_memory_of_the_slots_gpus_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    used = {"0": 100, "GPU-1": 1000, "2": 7}
    library = ModuleType("pynvml")
    fakes = {
        "NVMLError": ArithmeticError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": str,
        "nvmlDeviceGetHandleByUUID": str,
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(used=used[gpu]),
    }
    vars(library).update(fakes)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    memory = GpuMemory(["0", "GPU-1"])
    async with memory.watched():
        used |= {"0": 500, "GPU-1": 1300, "2": 10**9}
        await anyio.wait_all_tasks_blocked()
        used |= {"0": 0}
    assert memory.peak_bytes == 700
    with pytest.raises(SlotLost):
        async with memory.watched():
            raise SlotLost("gone")


async def test_without_a_library_no_gpu_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    memory = GpuMemory(["0"])
    async with memory.watched():
        await anyio.wait_all_tasks_blocked()
    assert memory.peak_bytes == 0


async def test_cancelling_kills_and_the_slot_is_clean_for_the_next(
    measurer: Open, project: Project, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    async with measurer() as here:
        slot = await first(here)
        async with anyio.create_task_group() as group:
            group.start_soon(slot.measure, project.base, asking(f'echo $$ > "{started}"; touch junk; exec sleep 300'))
            with anyio.fail_after(20):
                while not (started.exists() and started.read_text()):  # noqa: ASYNC110  # another process tells
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        with pytest.raises(ProcessLookupError):
            os.kill(int(started.read_text()), 0)
        measured = await slot.measure(project.base, replace(asking("ls"), metric=None))
    assert measured.stdout == "value.txt\n"


@pytest.mark.parametrize("folder", ["$AUTORESEARCH_WORKTREE", "$TMPDIR", "$AUTORESEARCH_WORKTREE/.git"])
async def test_a_candidate_that_deletes_its_own_folders_is_an_outcome(
    measurer: Open, project: Project, folder: str
) -> None:
    async with measurer() as here:
        slot = await first(here)
        measured = await slot.measure(project.base, asking(f'rm -rf "{folder}"; exit 3'))
        assert (measured.failure, measured.exit_code) == (Reason.EXIT, 3)
        assert (await slot.measure(project.base, ASK)).value == 3


async def test_a_lost_folder_is_the_machine_s_fault(measurer: Open, project: Project, tmp_path: Path) -> None:
    async with measurer() as here:
        slot = await first(here)
        (tmp_path / "state" / "slot-0").rename(tmp_path / "elsewhere")
        (tmp_path / "state" / "slot-0").write_text("no folder")
        with pytest.raises(SlotLost):
            await slot.measure(project.base, ASK)


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("uv run train.py > run.log 2>&1 && grep '^val_bpb:' run.log", ["run.log"]),
        ("a >> x; b 2> err", ["x", "err"]),
        ("a 2>&1 | tee -a o1 o2 | grep x", ["o1", "o2"]),
        ("(a; b)>log; c &> all.log", ["log", "all.log"]),
        ("cd sub && a > 'my file:1.txt'", ["sub/my file:1.txt"]),
        ("a > $OUT 2>/dev/null; echo 'b > c'; awk '$1 > 5' d", []),
        ("a \\\n > run.log\nb | tee c", ["run.log", "c"]),
        ("a > >(tee log.txt) 2>&1", ["log.txt"]),
        ("a > 'b", []),
        ("a < in.txt; cat <<< word", []),
    ],
)
def test_redirected_files(command: str, files: list[str]) -> None:
    assert list(redirected_files(command)) == files


def test_only_regular_files_in_the_worktree_are_read(tmp_path: Path) -> None:
    worktree = tmp_path / "worktree"
    worktree.mkdir()
    (tmp_path / "secret").write_text("secret")
    (worktree / "link").symlink_to(tmp_path / "secret")
    (worktree / "out").symlink_to(tmp_path)
    os.mkfifo(worktree / "pipe")
    (worktree / "log").write_text("seen")
    (worktree / "old").write_text("old")
    os.utime(worktree / "old", (1, 1))
    names = ["link", "out/secret", "../secret", "pipe", "log", "old", "gone", "."]
    found = written_since(worktree, worktree, names, 1000.0)
    assert "".join(end_of(path, 100) for path in found) == "seen"


def test_the_end_of_a_file_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("loss: 12345\nloss: 67890\n")
    assert end_of(path, 14) == "loss: 67890\n"
    assert end_of(path, 24) == "loss: 12345\nloss: 67890\n"


def test_what_a_terminal_would_show_at_last() -> None:
    assert readable("a\r\n10%\r20%\rdone\x07\nb\x00\x1b") == "a\ndone\nb"


def test_colours_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"\x1b[1;32m5 passed\x1b[0m \xff\x1b]0;title\x07\n")
    assert end_of(tmp_path / "out", 100) == "5 passed \ufffd\n"


def test_a_tail_shares_its_room() -> None:
    assert tail_of([("stderr", ""), ("stdout", "x\n")], 100) == "x"
    both = tail_of([("stderr", "e" * 5000), ("stdout", "o" * 5000)], 1000)
    assert both.startswith("--- stderr\ne") and both.endswith("o") and 700 < len(both) <= 1000
