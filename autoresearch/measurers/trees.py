"""The built worktrees of a slot: the last few stay, so that a comparison builds neither side twice.

All are built and measured at one path: those that wait are renamed, and what a build wrote down of its own place stays
true. Each starts every measurement as its build left it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from anyio.to_thread import run_sync
from pathspec import GitIgnoreSpec

from autoresearch.errors import UsageError
from autoresearch.measurers.copying import duplicate, remove

TREES = 3
"""How many worktrees a slot has at most: the incumbent's, a candidate's, and one for what comes between them."""

SMALL_BYTES = 4 << 20
"""Up to this size a committed file that a build writes anew is remembered."""

Files = Mapping[str, tuple[int, ...]]
"""By relative path: mode, and of all but folders size and time of the last change in nanoseconds."""


class Worktrees(Protocol):
    """What a slot needs of the repository."""

    async def worktree(self, name: str) -> Path:
        """The worktree of that name, clean, at the base commit; made where it does not exist."""

    async def reset(self, worktree: Path, commit: str, keep: Sequence[str] = ()) -> None:
        """Make the files there those of `commit`, and remove everything else but what matches `keep`."""

    async def untracked(self, worktree: Path) -> tuple[str, ...]:
        """Patterns for `keep` that hold what lies there now and is not tracked."""

    async def exchange(self, worktree: Path, away: Path, back: Path) -> None:
        """Rename the worktree to `away` and what was put at `back` to its place; a reset rewrites only what differs."""

    async def tree_of(self, commit: str) -> str:
        """The name of the commit's tree: equal for equal files."""


@dataclass(frozen=True, slots=True)
class Built:
    """A worktree as a build left it."""

    of: tuple[str, str]
    """The tree, and the build command."""
    seconds: float
    """How long the build took."""
    files: Files
    """All that lay there, what every tree has left out."""
    made: Files
    """What of that the build made."""
    changed: Mapping[str, bytes | None]
    """Committed files that it wrote anew, such as lock files; None: removed."""


class Trees:
    """The worktrees of one slot, numbered; one of them lies at the slot's path."""

    def __init__(self, repository: Worktrees, worktree: Path) -> None:
        self._repository = repository
        self._worktree = worktree
        self._keep: tuple[str, ...] = ()
        self._kept = GitIgnoreSpec.from_lines(())
        self._most = TREES
        self._here = 0
        self._built: dict[int, Built | None] = {0: None}
        """By number, the one that was used last at the end; None: it holds nothing that is worth keeping."""
        self._wanted: tuple[str, str] | None = None
        """The tree and the build command that the worktree was made ready for."""
        self._before: Files = {}
        """What lay there before the build."""

    async def prepared(self, keep: Sequence[str]) -> None:
        """The worktree has what every measurement needs: resets keep it and what `keep` matches, all trees get it.

        Raises:
            UsageError: a pattern of `keep` that gitignore does not know.
        """
        self._keep = (*keep, *await self._repository.untracked(self._worktree))
        try:
            self._kept = GitIgnoreSpec.from_lines(self._keep)
        except ValueError as error:
            raise UsageError(f"--keep: {error}") from error
        # What an earlier process left.
        for number in range(TREES):
            await run_sync(remove, self._waiting(number))

    async def ready(self, commit: str, build: str | None) -> Built | None:
        """Bring the worktree to `commit`, built where it was built before; None: it is still to be built.

        Raises:
            RepositoryError, SlotLost, OSError: the machine cannot do it.
        """
        self._wanted = (await self._repository.tree_of(commit), build) if build else None
        number = next((number for number, built in self._built.items() if built and built.of == self._wanted), None)
        await self._bring(await self._spare(further=bool(build)) if number is None else number)
        built = self._take()
        if built and number is not None and await run_sync(_restored, self._worktree, built, self._kept):
            await self._repository.reset(self._worktree, commit, ("*",))
            await run_sync(_put_back, self._worktree, built)
            self._built[self._here] = built
            return built
        await self._repository.reset(self._worktree, commit, self._keep)
        self._before = await run_sync(files_of, self._worktree, self._kept) if build else {}
        return None

    async def keep(self, seconds: float) -> None:
        """The build has succeeded: keep what it made, where that can be brought back before each measurement."""
        if self._wanted:
            self._built[self._here] = await run_sync(self._left, self._wanted, seconds)

    def _left(self, of: tuple[str, str], seconds: float) -> Built | None:
        try:
            after = files_of(self._worktree, self._kept)
            changed = {path: after.get(path) for path, was in self._before.items() if after.get(path) != was}
            if not all(now is None or _is_small_file(now) for now in changed.values()):
                return None
            content = {path: (self._worktree / path).read_bytes() if now else None for path, now in changed.items()}
        except OSError:
            return None
        made = {path: file for path, file in after.items() if path not in self._before}
        return Built(of, seconds, after, made, content)

    def _take(self) -> Built | None:
        """What the present tree holds; it counts as used last, and as empty until that is said again."""
        built = self._built.pop(self._here)
        self._built[self._here] = None
        return built

    async def _spare(self, *, further: bool) -> int:
        """A tree to build in: one that holds nothing, else a further one, else the one that was used longest ago."""
        if self._built[self._here] is None:
            return self._here
        empty = next((number for number, built in self._built.items() if built is None), None)
        if empty is None and further and len(self._built) < self._most:
            empty = await self._furnish(len(self._built))
        return next(iter(self._built)) if empty is None else empty

    async def _furnish(self, number: int) -> int | None:
        """Give a further tree what the present one was given; None where there is no room for it."""
        place = self._waiting(number)
        try:
            await run_sync(_furnish, self._worktree, place, self._keep)
        except OSError:
            await run_sync(remove, place)
            self._most = number
            return None
        self._built[number] = None
        return number

    async def _bring(self, number: int) -> None:
        if number != self._here:
            await self._repository.exchange(self._worktree, self._waiting(self._here), self._waiting(number))
            self._here = number

    def _waiting(self, number: int) -> Path:
        return self._worktree.with_name(f"{self._worktree.name}-waiting-{number}")


def files_of(folder: Path, kept: GitIgnoreSpec) -> Files:
    """All files, links and folders below, but for `.git` and what `kept` matches.

    Raises:
        OSError: a folder cannot be read.
    """
    found: dict[str, tuple[int, ...]] = {}
    pending = [""]
    while pending:
        inner = pending.pop()
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                path, status = inner + entry.name, entry.stat(follow_symlinks=False)
                below = entry.is_dir(follow_symlinks=False)
                if path == ".git" or kept.match_file(path + "/" * below):
                    continue
                found[path] = (status.st_mode,) if below else (status.st_mode, status.st_size, status.st_mtime_ns)
                if below:
                    pending.append(path + "/")
    return found


def _is_small_file(file: tuple[int, ...]) -> bool:
    return stat.S_ISREG(file[0]) and file[1] <= SMALL_BYTES


def _put_back(worktree: Path, built: Built) -> None:
    """After a reset: what the build did to committed files."""
    for path, content in built.changed.items():
        remove(worktree / path)
        if content is not None:
            mode, _, changed_at = built.files[path]
            (worktree / path).write_bytes(content)
            (worktree / path).chmod(stat.S_IMODE(mode))
            os.utime(worktree / path, ns=(changed_at, changed_at))


def _restored(worktree: Path, built: Built, kept: GitIgnoreSpec) -> bool:
    """Remove what came after the build; False where something that it made is gone or changed."""
    try:
        now = files_of(worktree, kept)
    except OSError:
        return False
    for path in now.keys() - built.files.keys():
        remove(worktree / path)
    return all(now.get(path) == was for path, was in built.made.items())


def _furnish(worktree: Path, place: Path, keep: Sequence[str]) -> None:
    """Copy what every tree has: the patterns that are names say what that is."""
    remove(place)
    place.mkdir()
    for pattern in sorted(keep):
        path = re.sub(r"\\(.)", r"\1", pattern).strip("/")
        named = path and ".." not in path.split("/")
        if named and os.path.lexists(worktree / path) and not os.path.lexists(place / path):
            duplicate(worktree, path, place / path)
