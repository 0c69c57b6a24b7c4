"""The law of `Measurer` and `Slot`, over the fake and over real processes.

The measured file is a shell script; the fake knows what each of those below does.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import pytest

from autoresearch.checkout import inspect
from autoresearch.measurers.carry import CarryPlan
from autoresearch.measurers.local import LocalMeasurer, Workplace
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.protocols import Device, Measurer, Request, Slot
from autoresearch.testing import FakeMeasurer, FakeSlot, Files, MemoryRepository
from autoresearch.trial import Change, Edit, Reason
from autoresearch.worktrees import Worktrees

pytestmark = pytest.mark.anyio

LOSS = Metric("loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "loss"))
ASK = Request(trial=1, command="sh run.sh", timeout_seconds=30, metric=LOSS)

THREE = "echo loss: 3"
TWO = "echo loss: 2"
NOTHING = "echo done"
CRASH = "exit 4"
HANG = "exec sleep 300"
LITTER = "touch litter; mkdir -p deep; touch deep/litter; echo loss: 1"
LOOK = "test ! -e litter && test ! -e deep && echo loss: 3"
SCRIPTS = (THREE, TWO, NOTHING, CRASH, HANG, LITTER, LOOK)


@dataclass(frozen=True)
class Ground:
    """A measurer, the commits of the scripts, and what is left running."""

    measurer: Measurer
    commits: dict[str, str]
    began: Callable[[], Awaitable[None]]
    """Waits until HANG hangs."""
    running: Callable[[], bool]
    """Whether HANG still does."""

    async def slots(self, count: int) -> Sequence[Slot]:
        found: list[Slot] = []
        async with aclosing(self.measurer.slots()) as slots:  # type: ignore[type-var]  # an async generator
            async for slot in slots:
                found.append(slot)
                if len(found) == count:
                    break
        return found


Open = Callable[..., AbstractAsyncContextManager[Ground]]


class MeasurerContract:
    async def test_slots_are_numbered_from_0(self, opened: Open) -> None:
        async with opened(slots=2) as ground:
            slots = await ground.slots(2)
            assert sorted(slot.number for slot in slots) == [0, 1]
            assert all(isinstance(slot.device, Device) for slot in slots)

    async def test_each_commit_gives_its_own_value(self, opened: Open) -> None:
        async with opened() as ground:
            (slot,) = await ground.slots(1)
            measured = [await slot.measure(ground.commits[script], ASK) for script in (THREE, TWO, THREE)]
        assert [(each.value, each.failure, each.exit_code) for each in measured] == [
            (3.0, None, 0),
            (2.0, None, 0),
            (3.0, None, 0),
        ]
        assert all(each.ok and each.seconds_total >= each.wall_seconds >= 0 for each in measured)

    @pytest.mark.parametrize(
        ("script", "failure", "code"),
        [(CRASH, Reason.EXIT, 4), (NOTHING, Reason.NO_METRIC, 0), (HANG, Reason.TIMEOUT, None)],
    )
    async def test_what_a_candidate_does_wrong_is_an_outcome(
        self, opened: Open, script: str, failure: Reason, code: int | None
    ) -> None:
        async with opened() as ground:
            (slot,) = await ground.slots(1)
            ask = replace(ASK, timeout_seconds=0.3) if script == HANG else ASK
            measured = await slot.measure(ground.commits[script], ask)
            assert (measured.value, measured.failure, measured.exit_code) == (None, failure, code)
            assert not ground.running()
            assert (await slot.measure(ground.commits[TWO], ASK)).value == 2.0

    async def test_before_the_metric_is_chosen_the_output_is_carried(self, opened: Open) -> None:
        async with opened() as ground:
            (slot,) = await ground.slots(1)
            measured = await slot.measure(ground.commits[THREE], replace(ASK, metric=None))
        assert (measured.value, measured.failure, measured.stdout.strip()) == (None, None, "loss: 3")

    async def test_slots_measure_side_by_side(self, opened: Open) -> None:
        values: dict[int, float | None] = {}

        async def measure(slot: Slot, commit: str) -> None:
            values[slot.number] = (await slot.measure(commit, ASK)).value

        async with opened(slots=2) as ground:
            first, second = sorted(await ground.slots(2), key=lambda slot: slot.number)
            async with anyio.create_task_group() as group:
                group.start_soon(measure, first, ground.commits[THREE])
                group.start_soon(measure, second, ground.commits[TWO])
        assert values == {0: 3.0, 1: 2.0}

    async def test_nothing_of_one_measurement_is_there_in_the_next(self, opened: Open) -> None:
        async with opened() as ground:
            (slot,) = await ground.slots(1)
            assert (await slot.measure(ground.commits[LITTER], ASK)).value == 1.0
            assert (await slot.measure(ground.commits[LOOK], ASK)).value == 3.0

    async def test_cancelling_leaves_nothing_running_and_a_slot_that_can_be_used(self, opened: Open) -> None:
        async with opened() as ground:
            (slot,) = await ground.slots(1)
            async with anyio.create_task_group() as group:
                group.start_soon(slot.measure, ground.commits[HANG], ASK)
                with anyio.fail_after(20):
                    await ground.began()
                assert ground.running()
                group.cancel_scope.cancel()
            assert not ground.running()
            assert (await slot.measure(ground.commits[TWO], ASK)).value == 2.0

    async def test_leaving_in_the_middle_of_a_measurement_leaves_nothing_running(self, opened: Open) -> None:
        with anyio.CancelScope() as scope:
            async with opened() as ground:
                (slot,) = await ground.slots(1)
                async with anyio.create_task_group() as group:
                    group.start_soon(slot.measure, ground.commits[HANG], ASK)
                    with anyio.fail_after(20):
                        await ground.began()
                    scope.cancel()
        assert not ground.running()


class HangingSlot(FakeSlot):
    """A fake slot in which HANG hangs."""

    def __init__(self, number: int, repository: MemoryRepository) -> None:
        super().__init__(number, repository, self.carried_out, seconds=0.0)
        self.hanging = anyio.Event()

    def carried_out(self, files: Files, request: Request) -> str | int:
        script = files["run.sh"].decode()
        return 4 if script == CRASH else script.rpartition("echo ")[2]

    async def _wait(self, request: Request) -> None:
        _, commit = self.started[-1]
        self.seconds = 300.0 if self.repository.files(commit)["run.sh"].decode() == HANG else 0.0
        if self.seconds:
            self.hanging.set()
        await super()._wait(request)


class TestFakeMeasurer(MeasurerContract):
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def opened(self) -> Open:
        @asynccontextmanager
        async def opened(slots: int = 1) -> AsyncIterator[Ground]:
            repository = MemoryRepository({})
            commits = {}
            for number, script in enumerate(SCRIPTS):
                candidate = await repository.apply(number, repository.base, written(script))
                commits[script] = candidate.commit
            places = [HangingSlot(number, repository) for number in range(slots)]
            async with FakeMeasurer(places) as measurer:
                yield Ground(measurer, commits, places[0].hanging.wait, lambda: any(slot.running for slot in places))

        return opened


def written(script: str) -> Change:
    return Change("a script", (Edit("run.sh", content=script),))


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A repository with one commit for each script. HANG tells its process first."""
    folder = tmp_path_factory.mktemp("project") / "checkout"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commits = {}
    for script in SCRIPTS:
        told = f'echo $$ > "{folder.parent}/pid"\n' if script == HANG else ""
        (folder / "run.sh").write_text(f"{told}{script}\n")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", script)
        commits[script] = git(folder, "rev-parse", "HEAD")
    return folder, commits


class TestLocalMeasurer(MeasurerContract):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def opened(self, project: tuple[Path, dict[str, str]], tmp_path: Path) -> Open:
        folder, commits = project
        pid = folder.parent / "pid"
        pid.unlink(missing_ok=True)

        async def began() -> None:
            while not (pid.exists() and pid.read_text().endswith("\n")):  # noqa: ASYNC110  # another process tells
                await anyio.sleep(0.01)

        def running() -> bool:
            try:
                os.kill(int(pid.read_text()), 0)
            except (FileNotFoundError, ProcessLookupError):
                return False
            return True

        @asynccontextmanager
        async def opened(slots: int = 1) -> AsyncIterator[Ground]:
            worktrees = Worktrees(await inspect(folder), tmp_path / "home")
            await worktrees.open()
            place = Workplace(tag="t", plan=CarryPlan(folder), logs=tmp_path / "logs", state=tmp_path / "state")
            async with LocalMeasurer(worktrees, place, [Device()] * slots, lambda problem: None) as measurer:
                yield Ground(measurer, commits, began, running)

        return opened
