"""The run's git: candidates as commits without a checkout, merges in memory, the branch that keeps land on.

Objects and refs of a run live in the user's repository, written by plumbing alone (no worktree, no index, no hooks), so
that any git command of the user shows them; our bare repository in the cache folder borrows them. Refs of a run:

    refs/heads/autoresearch/<tag>               the branch
    refs/autoresearch/<tag>/tip                 the last landed commit, always
    refs/autoresearch/<tag>/branch              where we left the branch: it lags behind the tip while it is checked out
    refs/autoresearch/<tag>/trials/<n>          a trial's last commit
    refs/autoresearch/<tag>/attempts/<n>-<k>    its earlier ones
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from anyio import Lock, to_thread

from autoresearch import canaries
from autoresearch.checkout import Checkout, inspect
from autoresearch.edits import apply_edits
from autoresearch.errors import BranchLost, ChangeRejected, RepositoryError
from autoresearch.merging import merge_lines
from autoresearch.plumbing import (
    LINK,
    REGULAR,
    SUBMODULE,
    Entry,
    GitTree,
    blobs,
    commit_tree,
    differences,
    entries,
    read_commit,
    records,
    refs,
    text,
    update_refs,
    write_blobs,
    write_tree,
)
from autoresearch.scope import Scope
from autoresearch.trial import Candidate, Change, Edit, Reason, Substitute
from autoresearch.worktrees import Worktrees, home, remove_tree

__all__ = ["Checkout", "GitRepository", "GitTree", "diff", "forget", "inspect"]

# Candidates carry no time of their own, so that the same change to the same parent is the same commit.
_CANDIDATE_DATE = "2000-01-01T00:00:00Z"


class GitRepository:
    """Candidates, landings and worktrees of one run.

    Entered as an async context manager, which makes or repairs our bare repository; leaving it keeps the worktrees for
    `resume` (`forget` removes them) and lets the branch catch up where it is free.
    """

    def __init__(
        self,
        checkout: Checkout,
        scope: Scope,
        tag: str,
        cache: Path,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        """`on_note` is told, once, that the branch cannot follow for now."""
        self._user = checkout
        self._on_note: Callable[[str], None] | None = on_note
        self._git = checkout.store
        self._scope = scope
        self._tag = tag
        self._worktrees = Worktrees(checkout, home(checkout, tag, cache))
        self._landing = Lock()
        self._numbering = Lock()

    async def __aenter__(self) -> Self:
        await to_thread.run_sync(_remove_locks, self._user, self._tag)
        await self._worktrees.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self._follow(await self._places())

    # Candidates

    def tree(self, commit: str) -> GitTree:
        return GitTree(self._git, commit)

    async def apply(self, trial: int, parent: str, change: Change) -> Candidate:
        for edit in change.edits:
            self._refuse(edit.path)
        before = await entries(self._git, parent)
        paths = sorted({edit.path for edit in change.edits})
        for path in paths:
            _refuse_special(path, before)
        there = [path for path in paths if path in before]
        contents = await blobs(self._git, [before[path].object for path in there])
        files: dict[str, bytes | None] = dict.fromkeys(paths) | dict(zip(there, contents, strict=True))
        after = apply_edits(change.edits, files)
        tree = await self._write(parent, before, after)
        message = f"{_first_line(change.hypothesis)}\n\nAutoresearch-Trial: {trial}\n"
        return await self._candidate(trial, parent, tree, message, after)

    async def merge(self, trial: int, candidate: str, parent: str, onto: str) -> Candidate | None:
        # `--merge-base` came with git 2.40; three commits without history of their own say the same to any git.
        git, who = self._git, self._user.identity
        base = await commit_tree(git, f"{parent}^{{tree}}", [], b"parent\n", who, _CANDIDATE_DATE)
        ours, theirs = [
            await commit_tree(git, f"{commit}^{{tree}}", [base], b"side\n", who, _CANDIDATE_DATE)
            for commit in (onto, candidate)
        ]
        status, out, complaint = await git.attempt("merge-tree", "--write-tree", "-z", "--no-messages", ours, theirs)
        if status not in (0, 1):
            raise RepositoryError(f"git merge-tree failed ({status}): {' '.join(complaint.split())[:500]}")
        tree, *conflicts = records(out)
        if status == 1:
            settled = await self._settle(conflicts)
            if settled is None:
                return None
            tree = await write_tree(git, tree, settled)
        return await self._candidate(trial, onto, tree, text((await read_commit(git, candidate)).message))

    async def _settle(self, conflicts: Sequence[str]) -> dict[str, Entry | None] | None:
        """What takes the place of files that git could not merge, each given as `mode object stage<TAB>path`.

        None where one of them is no text of three versions, or both sides change the same lines.
        """
        sides: dict[str, list[Entry]] = {}
        for conflict in conflicts:
            if not conflict:
                break
            said, path = conflict.split("\t", 1)
            mode, name, _ = said.split()
            sides.setdefault(path, []).append(Entry(mode, name))
        settled: dict[str, Entry | None] = {}
        for path, versions in sides.items():
            if len(versions) != 3 or len({entry.mode for entry in versions}) > 1 or versions[0].mode not in REGULAR:
                return None
            merged = merge_lines(*await blobs(self._git, [entry.object for entry in versions]))
            if merged is None:
                return None
            (name,) = await write_blobs(self._git, [merged])
            settled[path] = Entry(versions[0].mode, name)
        return settled

    async def canary(self, base: str, substitute: Substitute, path: str = "") -> str:
        files = [path] if path else self._scope.files
        return await canaries.make(self._worktrees.store, base, files, substitute)

    async def diff(self, commit: str, against: str) -> str:
        """What `commit` changes against another, as text."""
        return await diff(self._user, commit, against)

    # The branch

    async def start_branch(self, base: str) -> None:
        async with self._landing:
            places = await self._places()
            if places.keys() <= {self._branch} and places.get(self._branch, base) == base:
                await self._move(self._tip, base)
                places[self._tip] = base
            if places.get(self._tip) == base and self._left not in places:
                # New, or a start that was killed half-way.
                if places.get(self._branch, base) != base:
                    raise self._lost(base, places)
                await self._move(self._branch, base)
                await self._move(self._left, base)
                return
            if self._tip not in places:
                raise self._lost(base, places)
            self._check(places)
            await self._follow(places)

    async def land(self, trial: int, candidate: str, expected: str, message: str) -> str:
        async with self._landing:
            places = await self._places()
            tree = (await read_commit(self._git, candidate)).tree
            body = message.rstrip("\n").replace("\0", " ").encode("utf-8", "replace") + b"\n"
            tip = places.get(self._tip)
            if tip is None or (tip != expected and not await self._is_landing(tip, tree, expected, body)):
                raise self._lost(expected, places)
            self._check(places)
            if tip == expected:
                tip = await commit_tree(self._git, tree, [expected], body, self._user.identity)
                if not await update_refs(self._git, f"update {self._tip} {tip} {expected}"):
                    raise self._lost(expected, await self._places())
            await self._point(trial, tip)
            await self._follow(await self._places())
            return tip

    # Worktrees

    @property
    def worktrees(self) -> Worktrees:
        """Those that slots measure in."""
        return self._worktrees

    async def worktree(self, name: str) -> Path:
        """A clean worktree at the base commit, made once and reused; see Worktrees.worktree.

        Raises:
            SlotLost: it cannot be made.
        """
        return await self._worktrees.worktree(name)

    async def reset(self, worktree: Path, commit: str, keep: Sequence[str] = ()) -> None:
        """Bring a worktree to `commit`, and remove all else but what the gitignore patterns `keep` match.

        Raises:
            SlotLost: the machine cannot do it.
        """
        await self._worktrees.reset(worktree, commit, keep)

    async def untracked(self, worktree: Path) -> tuple[str, ...]:
        """Patterns for `keep` that hold all that lies there untracked now: what the set-up made."""
        return await self._worktrees.untracked(worktree)

    def checkout(self, commit: str) -> AbstractAsyncContextManager[Path]:
        """A clean worktree at `commit` for an agent, the caller's alone until it leaves."""
        return self._worktrees.checkout(commit)

    async def difference(self, worktree: Path, parent: str) -> tuple[Edit, ...]:
        """What an agent edited there, against the parent's tree.

        Raises:
            ChangeRejected: a link, a nested repository, or a file that is too large or cannot be read.
        """
        return await self._worktrees.difference(worktree, parent)

    # Within

    async def _write(self, parent: str, before: Mapping[str, Entry], files: Mapping[str, bytes | None]) -> str:
        """The parent's tree with new contents; files keep their modes."""
        written = [path for path, content in files.items() if content is not None]
        names = await write_blobs(self._git, [content for content in files.values() if content is not None])
        changes: dict[str, Entry | None] = dict.fromkeys(files)
        for path, name in zip(written, names, strict=True):
            changes[path] = Entry(before[path].mode if path in before else REGULAR[0], name)
        return await write_tree(self._git, parent, changes)

    async def _candidate(
        self, trial: int, parent: str, tree: str, message: str, edited: Collection[str] | None = None
    ) -> Candidate:
        """A commit of the tree on top of its parent, if all that it changes may be changed, and was `edited`."""
        found, added, removed = await differences(self._git, parent, tree)
        strays = {item.path for item in found}.symmetric_difference(edited or ())
        if edited is not None and strays:
            # git drops names that reach `.git`, and a file where a folder is needed.
            raise ChangeRejected(min(strays), "git cannot store the change at this path", Reason.DOES_NOT_APPLY)
        for item in found:
            self._refuse(item.path)
            if item.new.mode in (LINK, SUBMODULE) or item.old.mode in (LINK, SUBMODULE):
                raise ChangeRejected(item.path, "links and submodules stay as they are", Reason.OUT_OF_SCOPE)
        new = [item.path for item in found if item.old.mode not in REGULAR]
        if new:
            _refuse_twins(new, await entries(self._git, tree))
        commit = await commit_tree(
            self._git, tree, [parent], message.encode("utf-8", "replace"), self._user.identity, _CANDIDATE_DATE
        )
        await self._point(trial, commit)
        return Candidate(commit, tree, added, removed)

    def _refuse(self, path: str) -> None:
        why = self._scope.why_not(path)
        if why:
            raise ChangeRejected(path, why, Reason.OUT_OF_SCOPE)

    async def _point(self, trial: int, commit: str) -> None:
        """Let the trial's ref point to the commit; the one before becomes an attempt."""
        name, attempts = f"{self._ours}/trials/{trial}", f"{self._ours}/attempts/"
        async with self._numbering:
            found = await refs(self._git, name, attempts)
            before = found.pop(name, None)
            earlier = {ref: value for ref, value in found.items() if ref.startswith(f"{attempts}{trial}-")}
            commands = []
            if before not in (None, commit, *earlier.values()):
                commands.append(f"create {attempts}{trial}-{len(earlier)} {before}")
            if before != commit:
                commands.append(f"update {name} {commit}")
            if commands and not await update_refs(self._git, *commands):
                raise RepositoryError(f"git cannot write {name}: another process holds it")

    async def _is_landing(self, commit: str, tree: str, expected: str, message: bytes) -> bool:
        found = await read_commit(self._git, commit)
        return (found.tree, found.parents, found.message) == (tree, (expected,), message)

    async def _places(self) -> dict[str, str]:
        return await refs(self._git, self._branch, self._tip, self._left)

    def _check(self, places: Mapping[str, str]) -> None:
        """Make sure that the branch is at the tip, or where we left it."""
        if places.get(self._branch) not in (places[self._tip], places.get(self._left)):
            raise self._lost(places[self._tip], places)

    def _lost(self, expected: str, places: Mapping[str, str]) -> BranchLost:
        found = places.get(self._branch)
        return BranchLost(f"autoresearch/{self._tag}", expected, places.get(self._tip) if found == expected else found)

    async def _follow(self, places: Mapping[str, str]) -> None:
        """Bring the branch to the tip, unless a worktree of the user has it checked out or someone moved it."""
        tip, branch = places.get(self._tip), places.get(self._branch)
        if tip is None or branch not in (tip, places.get(self._left)):
            return
        if branch != tip:
            if place := await self._git.line("for-each-ref", "--format=%(worktreepath)", self._branch):
                self._say_where_keeps_are(place)
                return
            if not await update_refs(self._git, f"update {self._branch} {tip} {branch}"):
                return
        if places.get(self._left) != tip:
            await self._move(self._left, tip)

    def _say_where_keeps_are(self, place: str) -> None:
        say, self._on_note = self._on_note, None
        if say is not None:
            say(
                f"autoresearch/{self._tag} is checked out in {place}, so it stays where it is: "
                f"keeps are on {self._tip}, and the branch follows when it is free, at the latest at the next start"
            )

    async def _move(self, name: str, commit: str) -> None:
        if not await update_refs(self._git, f"update {name} {commit}"):
            raise RepositoryError(f"git cannot write {name}: another process holds it")

    @property
    def _ours(self) -> str:
        return f"refs/autoresearch/{self._tag}"

    @property
    def _branch(self) -> str:
        return f"refs/heads/autoresearch/{self._tag}"

    @property
    def _tip(self) -> str:
        return f"{self._ours}/tip"

    @property
    def _left(self) -> str:
        return f"{self._ours}/branch"


async def diff(checkout: Checkout, commit: str, against: str) -> str:
    """What `commit` changes against another commit, as a unified diff.

    Raises:
        RepositoryError: one of them is gone.
    """
    out = await checkout.store.run("diff-tree", "-p", "-r", "-M", "--no-color", "--no-ext-diff", against, commit)
    return out.decode("utf-8", "replace")


async def where_keeps_are(checkout: Checkout, tag: str) -> str:
    """The branch, or the ref that it lags behind because the user has it checked out.

    Raises:
        RepositoryError: the repository cannot be read.
    """
    branch, tip = f"autoresearch/{tag}", f"refs/autoresearch/{tag}/tip"
    places = await refs(checkout.store, f"refs/heads/{branch}", tip)
    return branch if places.get(tip) in (None, places.get(f"refs/heads/{branch}")) else tip


async def forget(checkout: Checkout, tag: str, cache: Path, *, branch: bool = False) -> None:
    """Remove the refs, worktrees and bare repository of a run, and its branch if that is said. Twice does no harm.

    Raises:
        RepositoryError: something cannot be deleted.
    """
    await to_thread.run_sync(_remove_locks, checkout, tag)
    found = await refs(checkout.store, f"refs/autoresearch/{tag}/", *([f"refs/heads/autoresearch/{tag}"] * branch))
    if not await update_refs(checkout.store, *(f"delete {name}" for name in found)):
        raise RepositoryError(f"git cannot delete refs/autoresearch/{tag}: another process holds them")
    try:
        await to_thread.run_sync(_remove_home, home(checkout, tag, cache))
    except OSError as error:
        raise RepositoryError(f"cannot delete {error.filename}: {error.strerror}") from error


def _remove_locks(checkout: Checkout, tag: str) -> None:
    """Remove what a killed git left on the run's refs; the run's own lock says that no other process writes them."""
    ours = checkout.common_dir / "refs" / "autoresearch" / tag
    for lock in [*ours.rglob("*.lock"), checkout.common_dir / "refs" / "heads" / "autoresearch" / f"{tag}.lock"]:
        lock.unlink(missing_ok=True)


def _remove_home(folder: Path) -> None:
    remove_tree(folder)
    if folder.parent.exists() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _refuse_special(path: str, before: Mapping[str, Entry]) -> None:
    """Refuse a path that is, or lies behind, a link or submodule of the parent."""
    parts = path.split("/")
    for end in range(1, len(parts) + 1):
        entry = before.get("/".join(parts[:end]))
        if entry and entry.mode not in REGULAR:
            raise ChangeRejected(path, "links and submodules stay as they are", Reason.OUT_OF_SCOPE)


def _refuse_twins(new: Sequence[str], tree: Mapping[str, Entry]) -> None:
    """Refuse a new path that differs from another one, or from its folder, only in case or in Unicode form.

    Where the file system does not tell them apart, one would overwrite the other.
    """
    spelled: dict[str, str] = {}
    for path in [*(path for path in tree if path not in new), *new]:
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            part = "/".join(parts[:end])
            other = spelled.setdefault(unicodedata.normalize("NFC", part.casefold()), part)
            if other != part and path in new:
                raise ChangeRejected(path, f"differs from {other} only in case", Reason.OUT_OF_SCOPE)


def _first_line(hypothesis: str) -> str:
    return (hypothesis.strip().splitlines() or ["(no hypothesis)"])[0][:200]
