"""Foreign load: the arithmetic, and real processes beside a measurement."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch import sandbox
from autoresearch.checkout import inspect
from autoresearch.devices import usable_cpus
from autoresearch.load import Account, busy_seconds, disturbed, foreign_cpus
from autoresearch.measurers.carry import CarryPlan
from autoresearch.measurers.local import LocalMeasurer, Workplace
from autoresearch.protocols import Device, Request
from autoresearch.trial import Measurement
from autoresearch.worktrees import Worktrees

STAT = """cpu  30 6 12 900 50 4 2 9 0 0
cpu0 10 2 4 300 20 4 2 7 0 0
cpu1 20 4 8 600 30 0 0 2 0 0
intr 12 0
cpufreq x
"""


def test_busy_is_what_programs_used_and_what_was_stolen() -> None:
    assert busy_seconds(STAT, 100) == {0: 0.23, 1: 0.34}
    assert busy_seconds("", 100) == {}


@pytest.mark.parametrize(
    ("cpus", "own", "expected"),
    [
        ([0], 0.0, 0.5),
        ([0, 1], 0.0, 1.5),
        ([0, 1], 4.0, 1.1),
        ([0], 9.0, 0.0),
        ([7], 0.0, 0.0),
    ],
)
def test_foreign_is_what_the_run_did_not_use(cpus: list[int], own: float, expected: float) -> None:
    before, after = Account(100.0, {0: 10.0, 1: 20.0}), Account(110.0, {0: 15.0, 1: 30.0})
    assert foreign_cpus(before, after, cpus, own) == pytest.approx(expected)


def test_where_the_system_tells_nothing_nobody_is_foreign() -> None:
    assert foreign_cpus(Account(1.0), Account(2.0), [0, 1], 0.0) == 0.0
    assert foreign_cpus(Account(1.0, {0: 1.0}), Account(1.0, {0: 1.0}), [0], 0.0) == 0.0


@pytest.mark.parametrize(
    ("foreign_load", "cpus", "seconds", "expected"),
    [
        (0.0, 1, 60.0, False),
        (0.2, 1, 60.0, False),
        (0.3, 1, 60.0, True),
        (0.3, 8, 60.0, False),
        (0.9, 8, 60.0, True),
        (1.0, 1, 0.05, False),
    ],
)
def test_what_disturbs_a_timing(foreign_load: float, cpus: int, seconds: float, expected: bool) -> None:
    assert disturbed(Measurement(1.0, wall_seconds=seconds, foreign_cpus=foreign_load), cpus) is expected


@given(st.floats(0, 64), st.floats(0, 64), st.integers(1, 64), st.floats(0, 1000))
def test_more_load_never_disturbs_less(less: float, more: float, cpus: int, seconds: float) -> None:
    less, more = sorted((less, more))
    if disturbed(Measurement(1.0, wall_seconds=seconds, foreign_cpus=less), cpus):
        assert disturbed(Measurement(1.0, wall_seconds=seconds, foreign_cpus=more), cpus)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def busy(cpu: int, seconds: float) -> str:
    """A program that uses that much time of one CPU."""
    pin = f"import os, time\nos.sched_setaffinity(0, [{cpu}])\nbegan = time.process_time()"
    return f"{pin}\nwhile time.process_time() - began < {seconds}: pass"


@contextmanager
def stranger(cpu: int) -> Iterator[None]:
    """A busy process that is no child of ours, on one CPU."""
    command = 'setsid "$0" -c "$1" >/dev/null 2>&1 & echo $!'
    words = ["sh", "-c", command, sys.executable, busy(cpu, 60)]
    said = subprocess.run(words, check=True, capture_output=True, text=True)
    try:
        yield
    finally:
        os.kill(int(said.stdout), 9)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who used which CPU")
@pytest.mark.parametrize("dealt", [True, False], ids=["on dealt cores", "on shared cores"])
@pytest.mark.anyio
async def test_a_stranger_beside_a_measurement_is_seen(dealt: bool, project: Path) -> None:
    """The two share one CPU fairly, whatever else the machine does."""
    cpu = usable_cpus()[-1]
    device = Device(cpus=(cpu,)) if dealt else Device()
    pinned = f"import os\nassert os.sched_getaffinity(0) == {{{cpu}}}\n" if dealt else ""
    with stranger(cpu):
        measured = await measure(device, f"{sys.executable} -c '{pinned}{busy(cpu, 0.4)}'", project)
    assert measured.exit_code == 0 and measured.cpu_seconds >= 0.4
    assert measured.foreign_cpus * measured.wall_seconds > 0.4 * measured.cpu_seconds
    assert disturbed(measured, 1)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "base"]):
        subprocess.run(["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *words], cwd=folder, check=True)
    return folder


async def measure(device: Device, command: str, project: Path) -> Measurement:
    """In a slot of its own."""
    checkout = await inspect(project)
    worktrees = Worktrees(checkout, project.parent / "home")
    await worktrees.open()
    folder = project.parent
    place = Workplace(tag="t", plan=CarryPlan(project), logs=folder / "logs", state=folder / "state")
    async with LocalMeasurer(worktrees, place, [device]) as measurer, aclosing(measurer.slots()) as slots:
        slot = await anext(slots)
        return await slot.measure(checkout.base, Request(1, command, 60))


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells")
def test_what_the_run_s_processes_use_is_its_own_while_they_live_and_after() -> None:
    before = sandbox.used_seconds()
    waits = f"{busy(usable_cpus()[0], 0.3)}\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", waits], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alive = sandbox.used_seconds()
        child.communicate(b"\n")
    assert before + 0.25 < alive <= sandbox.used_seconds()
