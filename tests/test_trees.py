"""Built worktrees: real git, real files; two tests with real builds."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest
from anyio import create_task_group, fail_after, sleep
from pathspec import GitIgnoreSpec

from autoresearch.checkout import inspect
from autoresearch.errors import UsageError
from autoresearch.measurers import trees
from autoresearch.measurers.carry import CarryPlan
from autoresearch.measurers.local import LocalMeasurer, LocalSlot, Workplace
from autoresearch.measurers.trees import Trees, files_of
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.protocols import Device, Request
from autoresearch.trial import Reason
from autoresearch.worktrees import Worktrees

pytestmark = pytest.mark.anyio

BUILD = "make"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trees") / "project"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "other.txt").write_text("other\n")
    return folder


@pytest.fixture(scope="module")
def commits(project: Path) -> list[str]:
    """Commits whose losses are 0, 1, 2 and 3."""
    made = []
    for loss in range(4):
        (project / "value.txt").write_text(f"loss: {loss}\n")
        git(project, "add", ".")
        git(project, "commit", "-q", "-m", f"loss {loss}")
        made.append(git(project, "rev-parse", "HEAD"))
    return made


class Bench:
    """A slot's trees without its processes: the test is the build and the measurement."""

    def __init__(self, repository: Worktrees, worktree: Path) -> None:
        self.repository, self.here = repository, worktree
        self.trees = Trees(repository, worktree)

    async def build(self, commit: str) -> bool:
        """Make ready, and build where that is still to be done; whether it was."""
        if await self.trees.ready(commit, BUILD) is not None:
            return False
        (self.here / "out").mkdir()
        (self.here / "out" / "program").write_text(f"built of {(self.here / 'value.txt').read_text()}")
        await self.trees.keep(1.5)
        return True

    def content(self) -> dict[str, str]:
        files = sorted(path for path in self.here.rglob("*") if path.is_file() and path.name != ".git")
        return {path.relative_to(self.here).as_posix(): path.read_text() for path in files}

    def waiting(self) -> int:
        return len(list(self.here.parent.glob("slot-0-waiting-*")))


@pytest.fixture
async def bench(project: Path, commits: Sequence[str], tmp_path: Path) -> Bench:
    repository = Worktrees(await inspect(project), tmp_path / "home")
    await repository.open()
    bench = Bench(repository, await repository.worktree("slot-0"))
    (bench.here / "deps").mkdir()
    (bench.here / "deps" / "a").write_text("installed")
    (bench.here / "deps" / "itself").symlink_to(bench.here / "deps" / "a")
    await bench.trees.prepared(("/cache",))
    return bench


def state(loss: int) -> dict[str, str]:
    deps = dict.fromkeys(("deps/a", "deps/itself"), "installed")
    value = f"loss: {loss}\n"
    return {**deps, "other.txt": "other\n", "out/program": f"built of {value}", "value.txt": value}


async def test_neither_side_of_a_comparison_is_built_twice(bench: Bench, commits: Sequence[str]) -> None:
    for commit, loss, anew in zip("ABBAAB", [0, 1, 1, 0, 0, 1], [1, 1, 0, 0, 0, 0], strict=True):
        assert await bench.build(commits["AB".index(commit)]) == bool(anew)
        assert bench.content() == state(loss)
        assert os.readlink(bench.here / "deps" / "itself") == str(bench.here / "deps" / "a")


async def test_the_tree_that_was_used_longest_ago_goes(bench: Bench, commits: Sequence[str]) -> None:
    order = [0, 1, 0, 2, 3, 0, 2, 3, 1]
    built = [await bench.build(commits[loss]) for loss in order]
    assert built == [True, True, False, True, True, False, False, False, True]
    assert bench.content() == state(1)
    assert bench.waiting() == trees.TREES - 1
    await Trees(bench.repository, bench.here).prepared(())
    assert bench.waiting() == 0, "another process knows nothing of them"


async def test_a_further_measurement_starts_as_the_build_left_it(bench: Bench, commits: Sequence[str]) -> None:
    await bench.build(commits[0])
    times = {path: (bench.here / path).stat().st_mtime_ns for path in state(0)}
    for path in ("junk", "out/junk", "new/deep/junk"):
        (bench.here / path).parent.mkdir(parents=True, exist_ok=True)
        (bench.here / path).write_text("left over")
    (bench.here / "out" / "link").symlink_to("/")
    (bench.here / "value.txt").unlink()
    assert not await bench.build(commits[0])
    assert bench.content() == state(0)
    assert sorted(os.listdir(bench.here)) == [".git", "deps", "other.txt", "out", "value.txt"]
    await bench.build(commits[1])
    assert not await bench.build(commits[0])
    now = {path: (bench.here / path).stat().st_mtime_ns for path in state(0)}
    assert {path for path in now if now[path] != times[path]} == {"value.txt"}, "a build tool would see a change"


@pytest.mark.parametrize("spoil", ["write", "remove", "chmod", "replace"])
async def test_what_was_built_and_then_changed_is_built_again(bench: Bench, commits: Sequence[str], spoil: str) -> None:
    await bench.build(commits[0])
    program = bench.here / "out" / "program"
    match spoil:
        case "write":
            program.write_text("something else")
        case "remove":
            shutil.rmtree(program.parent)
        case "chmod":
            program.chmod(0o700)
        case "replace":
            program.parent.rename(bench.here / "elsewhere")
            program.parent.symlink_to("elsewhere")
    assert await bench.build(commits[0])
    assert bench.content() == state(0)
    assert not await bench.build(commits[0])


async def test_what_a_build_does_to_committed_files_is_part_of_what_it_made(
    bench: Bench, commits: Sequence[str]
) -> None:
    assert await bench.trees.ready(commits[0], BUILD) is None
    (bench.here / "other.txt").unlink()
    (bench.here / "value.txt").write_text("generated")
    await bench.trees.keep(1.0)
    made_at = (bench.here / "value.txt").stat().st_mtime_ns
    for first in (True, False):
        (bench.here / "value.txt").write_text("by the measurement")
        assert await bench.trees.ready(commits[0], BUILD) is not None
        assert "other.txt" not in bench.content() and bench.content()["value.txt"] == "generated"
        assert (bench.here / "value.txt").stat().st_mtime_ns == made_at
        assert await bench.build(commits[1]) is first
    assert bench.content() == state(1)


async def test_a_build_that_makes_a_committed_file_something_else_is_not_kept(
    bench: Bench, commits: Sequence[str]
) -> None:
    for _ in "12":
        assert await bench.trees.ready(commits[0], BUILD) is None
        (bench.here / "other.txt").unlink()
        (bench.here / "other.txt").symlink_to("value.txt")
        await bench.trees.keep(1.0)


async def test_a_build_that_did_not_end_is_not_kept(bench: Bench, commits: Sequence[str]) -> None:
    await bench.build(commits[0])
    for _ in range(2):
        assert await bench.trees.ready(commits[1], BUILD) is None
    assert bench.waiting() == 1
    assert not await bench.build(commits[0])


async def test_the_same_files_under_another_commit_are_not_built_again(
    bench: Bench, commits: Sequence[str], project: Path
) -> None:
    await bench.build(commits[3])
    landed = git(project, "commit-tree", "-m", "landed", f"{commits[3]}^{{tree}}")
    assert not await bench.build(landed)
    assert git(bench.here, "rev-parse", "HEAD") == landed
    assert await bench.trees.ready(commits[3], "make other") is None


async def test_without_a_build_there_is_one_tree(bench: Bench, commits: Sequence[str]) -> None:
    for commit in commits:
        assert await bench.trees.ready(commit, None) is None
    assert bench.waiting() == 0
    await bench.build(commits[0])
    await bench.build(commits[1])
    assert await bench.trees.ready(commits[2], None) is None
    assert "out/program" not in bench.content()
    assert not await bench.build(commits[1]), "the one that was used longest ago makes room"
    assert await bench.build(commits[0])


async def test_where_there_is_no_room_fewer_trees_are_kept(
    bench: Bench, commits: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(trees, "duplicate", full)
    assert [await bench.build(commits[loss]) for loss in (0, 0, 1, 0)] == [True, False, True, True]
    assert bench.content() == state(0)
    assert bench.waiting() == 0


async def test_what_is_kept_and_git_s_own_are_no_part_of_a_tree(tmp_path: Path) -> None:
    for path in (".git/x", "deps/x", "src/deps", "src/x.pyc", "src/deep/x"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    kept = GitIgnoreSpec.from_lines(("/deps", "*.pyc"))
    assert set(files_of(tmp_path, kept)) == {
        "src",
        "src/deps",
        "src/deep",
        "src/deep/x",
    }


async def test_what_cannot_be_read_or_understood(bench: Bench, commits: Sequence[str]) -> None:
    with pytest.raises(UsageError, match="--keep"):
        await bench.trees.prepared(("!",))
    assert await bench.trees.ready(commits[0], BUILD) is None
    shutil.rmtree(bench.here)
    await bench.trees.keep(1.0)
    assert await bench.trees.ready(commits[0], BUILD) is None
    assert (bench.here / "value.txt").read_text() == "loss: 0\n"


# With real builds

LOSS = Metric("loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "loss"))


async def slot_of(measurer: LocalMeasurer) -> LocalSlot:
    async with aclosing(measurer.slots()) as slots:
        return await anext(slots)


async def test_builds_run_once_at_one_path_and_failing_ones_again(
    project: Path, commits: Sequence[str], tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    repository = Worktrees(await inspect(project), tmp_path / "home")
    await repository.open()
    plan, logs = CarryPlan(project), tmp_path / "logs"
    setup = f"echo setup >> {ran}; mkdir deps; echo tool > deps/tool"
    place = Workplace(tag="t", plan=plan, logs=logs, state=tmp_path / "state", setup=setup)
    look = 'test "$(cat built/path)" = "$PWD" && test ! -e built/left && touch built/left'
    command = f"{look} && cat deps/tool built/value"
    build = f"echo {{}} >> {ran}; mkdir built; pwd > built/path; cp value.txt built/value; touch $TMPDIR/t"
    async with LocalMeasurer(repository, place, [Device()]) as here:
        slot = await slot_of(here)

        async def measure(loss: int, build: str) -> Reason | None:
            request = Request(1, command, 20, LOSS, build=build, checks=("test ! -e $TMPDIR/t",))
            measured = await slot.measure(commits[loss], request)
            assert measured.failure or measured.value == loss
            return measured.failure

        assert [await measure(loss, build.format("build")) for loss in (0, 1, 1, 0)] == [None] * 4
        assert [await measure(2, build.format("fails") + "; exit 3") for _ in "12"] == [Reason.BUILD_FAILED] * 2
        assert await measure(0, build.format("build")) is None
    assert ran.read_text().split() == ["setup", "build", "build", "fails", "fails"]
    said = (logs / "1.log").read_text()
    assert said.count("kept from before, built in 0.") == 3


async def test_a_build_that_is_killed_is_not_kept(project: Path, commits: Sequence[str], tmp_path: Path) -> None:
    repository = Worktrees(await inspect(project), tmp_path / "home")
    await repository.open()
    place = Workplace(tag="t", plan=CarryPlan(project), logs=tmp_path / "logs", state=tmp_path / "state")
    began = tmp_path / "began"
    build = f"cp value.txt built; test -e {began} || {{ touch {began}; sleep 300; }}; echo whole >> built"
    request = Request(1, "cat built", 60, LOSS, build=build)
    async with LocalMeasurer(repository, place, [Device()]) as here:
        slot = await slot_of(here)
        async with create_task_group() as group:
            group.start_soon(slot.measure, commits[2], request)
            with fail_after(20):
                while not began.exists():  # noqa: ASYNC110  # another process tells
                    await sleep(0.01)
            group.cancel_scope.cancel()
        measured = await slot.measure(commits[2], request)
    assert (measured.value, measured.failure) == (2, None)
    assert "kept from before" not in (tmp_path / "logs" / "1.log").read_text()
