"""The law of `Repository`, over the fake and over real git."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from autoresearch import checkout as checkouts
from autoresearch.errors import BranchLost, ChangeRejected
from autoresearch.protocols import Repository
from autoresearch.repository import GitRepository
from autoresearch.scope import resolve
from autoresearch.testing import MemoryRepository
from autoresearch.trial import Candidate, Change, Edit, Reason, Substitute

pytestmark = pytest.mark.anyio

FILES = {"src/a.txt": b"a = 1\n", "src/b.txt": b"b = 1\nb = 2\n", "src/c.txt": b"c = 1\n"}


@dataclass(frozen=True)
class Ground:
    """A repository at its base commit, and what a test does behind its back."""

    repository: Repository
    base: str
    move_branch: Callable[[str], Awaitable[None]]
    """As a user would: the run's branch is at another commit."""

    async def contents(self, commit: str) -> dict[str, bytes | None]:
        tree = self.repository.tree(commit)
        return {entry.path: await tree.read(entry.path) for entry in await tree.files()}

    async def put(self, trial: int, path: str, content: str, parent: str | None = None) -> Candidate:
        return await self.repository.apply(trial, parent or self.base, put(path, content))

    async def land(self, trial: int, candidate: Candidate, expected: str) -> str:
        return await self.repository.land(trial, candidate.commit, expected, f"trial {trial}\n")


Open = Callable[[], AbstractAsyncContextManager[Ground]]


def put(path: str, content: str) -> Change:
    return Change(f"change {path}", (Edit(f"src/{path}.txt", content=content),))


class RepositoryContract:
    async def test_a_change_is_applied_to_its_parent_and_to_nothing_else(self, opened: Open) -> None:
        change = Change(
            "all kinds of edits",
            (
                Edit("src/a.txt", old="1", new="2"),
                Edit("src/b.txt", delete=True),
                Edit("src/d/new.txt", content="d = 1\nd = 2\n"),
            ),
        )
        async with opened() as ground:
            candidate = await ground.repository.apply(1, ground.base, change)
            assert await ground.contents(candidate.commit) == {
                "src/a.txt": b"a = 2\n",
                "src/c.txt": FILES["src/c.txt"],
                "src/d/new.txt": b"d = 1\nd = 2\n",
            }
            assert candidate.added == candidate.removed
            assert await ground.contents(ground.base) == FILES
            assert ground.repository.tree(candidate.commit).commit == candidate.commit

    async def test_a_canary_is_a_commit_of_its_own_and_the_same_when_asked_for_again(self, opened: Open) -> None:
        async with opened() as ground:
            kinds = [(Substitute.RUBBISH, ""), (Substitute.NOTHING, ""), (Substitute.RUBBISH, "src/b.txt")]
            made = [await ground.repository.canary(ground.base, *kind) for kind in kinds]
            assert len({ground.base, *made}) == 4
            assert [await ground.repository.canary(ground.base, *kind) for kind in kinds] == made
            assert await ground.contents(ground.base) == FILES

    async def test_all_edits_are_applied_or_none(self, opened: Open) -> None:
        broken = Change("half right", (Edit("src/a.txt", content="a = 9\n"), Edit("src/b.txt", old="7", new="8")))
        async with opened() as ground:
            with pytest.raises(ChangeRejected) as raised:
                await ground.repository.apply(1, ground.base, broken)
            assert raised.value.reason is Reason.DOES_NOT_APPLY
            right = await ground.put(1, "c", "c = 2\n")
            assert (await ground.contents(right.commit))["src/a.txt"] == FILES["src/a.txt"]

    async def test_equal_files_are_an_equal_tree_however_they_came_about(self, opened: Open) -> None:
        async with opened() as ground:
            first = await ground.put(1, "a", "a = 2\n")
            again = await ground.put(1, "a", "a = 2\n")
            there = await ground.put(2, "a", "a = 5\n")
            back = await ground.put(3, "a", "a = 2\n", there.commit)
            assert first.tree == again.tree == back.tree != there.tree
            assert (await ground.put(4, "a", "a = 1\n", there.commit)).tree not in (first.tree, there.tree)

    async def test_lines_count_against_what_it_was_applied_to(self, opened: Open) -> None:
        async with opened() as ground:
            longer = await ground.put(1, "b", "b = 1\nb = 2\nb = 3\n")
            shorter = await ground.put(2, "b", "b = 1\n", longer.commit)
            assert [each.added - each.removed for each in (longer, shorter)] == [1, -2]

    async def test_compatible_changes_merge_and_the_lines_count_against_the_incumbent(self, opened: Open) -> None:
        async with opened() as ground:
            ours = await ground.put(1, "a", "a = 2\na = 3\n")
            onto = await ground.put(2, "b", "b = 2\n")
            merged = await ground.repository.merge(1, ours.commit, ground.base, onto.commit)
            assert merged is not None
            assert await ground.contents(merged.commit) == FILES | {
                "src/a.txt": b"a = 2\na = 3\n",
                "src/b.txt": b"b = 2\n",
            }
            assert merged.added - merged.removed == 1
            again = await ground.repository.merge(1, ours.commit, ground.base, onto.commit)
            assert again is not None and again.tree == merged.tree

    async def test_a_conflict_is_no_candidate(self, opened: Open) -> None:
        async with opened() as ground:
            ours, onto = await ground.put(1, "a", "a = 2\n"), await ground.put(2, "a", "a = 3\n")
            assert await ground.repository.merge(1, ours.commit, ground.base, onto.commit) is None

    async def test_a_change_that_the_incumbent_holds_already_merges_to_its_tree(self, opened: Open) -> None:
        async with opened() as ground:
            ours = await ground.put(1, "a", "a = 2\n")
            onto = await ground.put(2, "b", "b = 2\n", ours.commit)
            merged = await ground.repository.merge(1, ours.commit, ground.base, onto.commit)
            assert merged is not None and merged.tree == onto.tree

    async def test_only_the_change_is_merged_where_its_parent_is_not_an_ancestor(self, opened: Open) -> None:
        async with opened() as ground:
            parent = await ground.put(1, "a", "a = 2\n")
            ours = await ground.put(2, "b", "b = 2\n", parent.commit)
            onto = await ground.put(3, "c", "c = 2\n")
            merged = await ground.repository.merge(2, ours.commit, parent.commit, onto.commit)
            assert merged is not None
            assert await ground.contents(merged.commit) == FILES | {"src/b.txt": b"b = 2\n", "src/c.txt": b"c = 2\n"}

    async def test_what_lands_is_the_candidates_tree_on_the_tip(self, opened: Open) -> None:
        async with opened() as ground:
            first = await ground.put(1, "a", "a = 2\n")
            tip = await ground.land(1, first, ground.base)
            second = await ground.put(2, "b", "b = 2\n", tip)
            assert await ground.contents(tip) == FILES | {"src/a.txt": b"a = 2\n"}
            assert await ground.contents(await ground.land(2, second, tip)) == await ground.contents(second.commit)

    async def test_landing_again_is_the_same_commit(self, opened: Open) -> None:
        async with opened() as ground:
            candidate = await ground.put(1, "a", "a = 2\n")
            tip = await ground.land(1, candidate, ground.base)
            assert await ground.land(1, candidate, ground.base) == tip

    async def test_of_racing_landings_exactly_one_wins(self, opened: Open) -> None:
        landed, lost = list[str](), list[int]()

        async def race(ground: Ground, trial: int, candidate: Candidate) -> None:
            try:
                landed.append(await ground.land(trial, candidate, ground.base))
            except BranchLost:
                lost.append(trial)

        async with opened() as ground:
            candidates = [await ground.put(trial, "a", f"a = {trial}\n") for trial in range(2, 7)]
            async with anyio.create_task_group() as group:
                for trial, candidate in enumerate(candidates, 2):
                    group.start_soon(race, ground, trial, candidate)
            assert (len(landed), len(lost)) == (1, 4)
            (winner,) = {2, 3, 4, 5, 6} - set(lost)
            assert (await ground.contents(landed[0]))["src/a.txt"] == f"a = {winner}\n".encode()

    async def test_a_landing_on_an_older_tip_is_refused(self, opened: Open) -> None:
        async with opened() as ground:
            first, second = await ground.put(1, "a", "a = 2\n"), await ground.put(2, "b", "b = 2\n")
            await ground.land(1, first, ground.base)
            with pytest.raises(BranchLost):
                await ground.land(2, second, ground.base)

    async def test_going_on_where_the_branch_was_left_is_fine(self, opened: Open) -> None:
        async with opened() as ground:
            await ground.repository.start_branch(ground.base)
            await ground.land(1, await ground.put(1, "a", "a = 2\n"), ground.base)
            await ground.repository.start_branch(ground.base)

    async def test_a_branch_that_someone_moved_is_lost(self, opened: Open) -> None:
        async with opened() as ground:
            tip = await ground.land(1, await ground.put(1, "a", "a = 2\n"), ground.base)
            elsewhere, next_one = await ground.put(2, "b", "b = 2\n"), await ground.put(3, "c", "c = 2\n", tip)
            await ground.move_branch(elsewhere.commit)
            with pytest.raises(BranchLost):
                await ground.land(3, next_one, tip)
            with pytest.raises(BranchLost):
                await ground.repository.start_branch(ground.base)


class TestMemoryRepository(RepositoryContract):
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def opened(self) -> Open:
        @asynccontextmanager
        async def opened() -> AsyncIterator[Ground]:
            repository = MemoryRepository(FILES)

            async def move_branch(commit: str) -> None:
                repository.tip = commit

            yield Ground(repository, repository.base, move_branch)

        return opened


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class TestGitRepository(RepositoryContract):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Open:
        folder = tmp_path / "checkout"
        for path, content in FILES.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        git(folder, "init", "-q", "-b", "main")
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", "base")

        async def move_branch(commit: str) -> None:
            git(folder, "update-ref", "refs/heads/autoresearch/t", commit)

        @asynccontextmanager
        async def opened() -> AsyncIterator[Ground]:
            checkout = await checkouts.inspect(folder)
            scope = resolve(["src/"], checkout.files, checkout.prefix, checkout.exists)
            async with GitRepository(checkout, scope, "t", tmp_path / "cache") as repository:
                base = git(folder, "rev-parse", "HEAD")
                await repository.start_branch(base)
                yield Ground(repository, base, move_branch)

        return opened
