"""What a worktree gets besides what is committed: chosen once for a run, then carried into each slot's worktree."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from anyio import from_thread, to_thread
from pathspec import GitIgnoreSpec

from autoresearch.errors import RepositoryError, SlotLost, UsageError
from autoresearch.measurers.copying import Copier, remove
from autoresearch.measurers.editables import importable, sites_of_environment, sites_on_path
from autoresearch.measurers.paths import inside, spellings

_WITHOUT_A_FLAG = ("node_modules", ".venv")
_NEVER = (".autoresearch", ".git")
_SIZE_SECONDS = 1.0
"""For the sizes of all items together; what is not known by then has no figure."""
_LISTING_SECONDS = 60.0
_INCLUDE_ENTRIES = 200_000
"""Files looked at below untracked folders for .worktreeinclude."""
_INSTALLS = re.compile(r"\b(pip3?|python3? -m pip)\s+install\b|\bpoetry install\b|\bpdm (install|sync)\b")


class How(StrEnum):
    """How a path comes into a worktree."""

    COPY = "copied"
    REBUILD = "copied, then `uv sync --frozen --offline`"
    """A virtual environment with a lock file: its tool makes the copy right for the worktree."""
    LINK = "linked"


@dataclass(frozen=True, slots=True)
class CarryItem:
    """One path of the checkout that each worktree gets."""

    path: str
    """Relative to the checkout, with `/`, without one at the end."""
    how: How
    size_bytes: int | None = None
    """None where it is not known cheaply, and for links."""

    def __str__(self) -> str:
        size = "" if self.size_bytes is None else f", {self.size_bytes / 1e6:.1f} MB"
        return f"{self.path} ({self.how}{size})"


@dataclass(frozen=True, slots=True)
class CarryPlan:
    """What every worktree of a run gets from the checkout."""

    root: Path
    items: tuple[CarryItem, ...] = ()
    keep: tuple[str, ...] = ()
    """Patterns, in gitignore's syntax, of what a reset of a slot must leave."""
    pythonpath: tuple[str, ...] = ()
    """Folders of the worktree to put first on PYTHONPATH: an editable install points to them in the checkout."""
    notes: tuple[str, ...] = ()
    """Lines for the user."""
    uv: str = "uv"
    """The program that rebuilds virtual environments."""
    roots: tuple[str, ...] = field(default=())
    """All spellings of the checkout's path that files may hold; the first is the real one."""


def make_plan(
    root: Path, *, link: Sequence[str], copy: Sequence[str], setup: str | None, environ: Mapping[str, str]
) -> CarryPlan:
    """Choose what worktrees get. Reads the checkout, writes nothing; takes a second or two, so call it in a thread.

    Raises:
        UsageError: a path of `link` or `copy` that is missing, committed or outside the checkout.
        RepositoryError: git cannot list the checkout's untracked files.
    """
    roots = spellings(root, environ)
    untracked = _untracked(root, environ)
    linked = _asked("--link", link, root, roots, untracked)
    copied = _asked("--copy", copy, root, roots, untracked)
    copied += [path for path in untracked if set(path.split("/")) & set(_WITHOUT_A_FLAG)]
    copied += _included(root, untracked, copied)
    copied += _untracked_locks(untracked, copied)
    uv = shutil.which("uv", path=environ.get("PATH"))
    items = [CarryItem(path, How.LINK) for path in _topmost(linked)]
    for path in _topmost(path for path in copied if not _below(path, linked)):
        items.append(CarryItem(path, _how(root, path, uv)))
    keep = [_pattern(item.path) for item in items]
    notes = _setup_notes(root, setup, environ)
    if _makes_its_own(root):
        # Made by the first measurement, on the base tree; made anew each time if a reset removed it.
        keep.append("/.venv")
        notes.append("uv.lock, but no .venv here: `uv run` makes one in each slot; run `uv sync` first to save that")
    elsewhere = _editables(root, roots, environ, untracked, [item.path for item in items])
    notes += [f"{site} imports `{folder}` from this checkout; slots put their own first" for folder, site in elsewhere]
    pythonpath = tuple(folder for folder, _ in elsewhere)
    return CarryPlan(root, tuple(_with_sizes(root, items)), tuple(keep), pythonpath, tuple(notes), uv or "uv", roots)


async def carry_into(plan: CarryPlan, worktree: Path, execute: Callable[[str, Path], Awaitable[None]]) -> None:
    """Bring all items into one worktree; what stood at their places is replaced. The checkout is only read.

    `execute` runs a shell command in a folder, with the user's environment, and raises UsageError where it fails; a
    virtual environment that cannot be rebuilt stays the copy that it is. Cancelling leaves a part.

    Raises:
        SlotLost: the disk is full, or a file cannot be read.
    """
    await to_thread.run_sync(_carry, plan, worktree)
    for item in plan.items:
        if item.how is How.REBUILD:
            try:
                await execute(_rebuild_command(plan.uv, worktree / item.path), (worktree / item.path).parent)
            except UsageError:
                continue


def _carry(plan: CarryPlan, worktree: Path) -> None:
    carried = [item.path for item in plan.items]
    copier = Copier(plan.roots, worktree, carried, from_thread.check_cancelled)
    for item in sorted(plan.items, key=lambda item: item.how is How.LINK):
        try:
            if item.how is How.LINK:
                remove(worktree / item.path)
                (worktree / item.path).parent.mkdir(parents=True, exist_ok=True)
                (worktree / item.path).symlink_to(Path(plan.roots[0]) / item.path)
            else:
                copier.copy(item.path)
                if (worktree / item.path / "pyvenv.cfg").is_file():
                    copier.relocate_environment(item.path)
        except OSError as error:
            why = f"{error.strerror or error}: {error.filename or worktree}"
            raise SlotLost(f"{item.path} cannot be brought into a worktree: {why}") from error


def _rebuild_command(uv: str, environment: Path) -> str:
    """Inexact, because the user's extras and groups are not known; copied, because links lead into uv's cache."""
    place = f"VIRTUAL_ENV= UV_PROJECT_ENVIRONMENT={shlex.quote(str(environment))}"
    return f"{place} {shlex.quote(uv)} sync --frozen --offline --inexact --link-mode copy --no-progress"


# What there is


def _untracked(root: Path, environ: Mapping[str, str]) -> list[str]:
    """What is not committed, ignored or not; a folder that holds nothing committed is one entry."""
    located = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX")
    env = {name: value for name, value in environ.items() if name not in located} | {"GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-c", "core.fsmonitor=false", "ls-files", "-z", "--others", "--directory"]
    try:
        listed = subprocess.run(
            command, cwd=root, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LISTING_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RepositoryError(f"git cannot list the untracked files of {root}: {error}") from error
    if listed.returncode:
        raise RepositoryError(f"git cannot list the untracked files of {root}: {os.fsdecode(listed.stderr).strip()}")
    paths = [os.fsdecode(path).rstrip("/") for path in listed.stdout.split(b"\0") if path]
    return [path for path in paths if path.split("/")[0] not in _NEVER]


def _asked(flag: str, paths: Sequence[str], root: Path, roots: Sequence[str], untracked: Sequence[str]) -> list[str]:
    """The untracked paths that a flag names: each itself, or those below it."""
    found: list[str] = []
    wrong: list[str] = []
    for path in paths:
        relative = inside(os.path.join(roots[0], os.path.expanduser(path)), roots)
        if relative is None or relative == ".":
            wrong.append(f"{path} (not in this checkout)")
        elif not os.path.lexists(root / relative):
            wrong.append(f"{path} (does not exist)")
        elif _below(relative, untracked):
            found.append(relative)
        elif own := [each for each in untracked if _below(each, [relative])]:
            found += own
        else:
            wrong.append(f"{path} (is committed, so worktrees have it)")
    if wrong:
        raise UsageError(f"{flag}: {', '.join(wrong)}; name untracked files or folders, relative to {root}")
    return found


def _included(root: Path, untracked: Sequence[str], already: Sequence[str]) -> list[str]:
    """What .worktreeinclude lists, in gitignore's syntax."""
    try:
        lines = (root / ".worktreeinclude").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    try:
        spec = GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise UsageError(f".worktreeinclude: {error}") from error
    found: list[str] = []
    waiting = [path for path in untracked if not _below(path, already)]
    for _ in range(_INCLUDE_ENTRIES):
        if not waiting:
            break
        path = waiting.pop()
        folder = os.path.isdir(root / path) and not os.path.islink(root / path)
        if spec.match_file(path + "/" if folder else path):
            found.append(path)
        elif folder:
            waiting += [f"{path}/{name}" for name in _names(root / path) if name != ".git"]
    return found


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _untracked_locks(untracked: Sequence[str], copied: Sequence[str]) -> list[str]:
    """Lock files beside a carried environment: without them `uv run` would resolve anew, with a network."""
    beside = {os.path.join(os.path.dirname(path), "uv.lock") for path in copied if os.path.basename(path) == ".venv"}
    return [path for path in untracked if path in beside]


def _makes_its_own(root: Path) -> bool:
    return (root / "uv.lock").exists() and not os.path.lexists(root / ".venv")


def _how(root: Path, path: str, uv: str | None) -> How:
    environment = root / path
    locked = os.path.basename(path) == ".venv" and (environment.parent / "uv.lock").is_file()
    return How.REBUILD if uv and locked and (environment / "pyvenv.cfg").is_file() else How.COPY


def _editables(
    root: Path, roots: Sequence[str], environ: Mapping[str, str], untracked: Sequence[str], carried: Sequence[str]
) -> list[tuple[str, Path]]:
    """Folders that interpreters outside the worktrees import from the checkout, with the site that says so."""
    environments = [root / path for path in carried if (root / path / "pyvenv.cfg").is_file()]
    environments += [Path(spelling) / path for spelling in roots for path in carried]
    sites: list[Path] = []
    active = environ.get("VIRTUAL_ENV")
    if active and Path(active) not in environments:
        sites += sites_of_environment(Path(active))
        environments.append(Path(active))
    sites += sites_on_path(environ, environments)
    found = importable(sites, roots).items()
    return [(folder, site) for folder, site in found if not _below(folder, untracked) or _below(folder, carried)]


def _setup_notes(root: Path, setup: str | None, environ: Mapping[str, str]) -> list[str]:
    if setup is None or not _INSTALLS.search(setup) or (root / ".venv").exists():
        return []
    into = environ.get("VIRTUAL_ENV") or environ.get("CONDA_PREFIX") or "the Python on PATH"
    return [f"--setup installs packages; unless it makes an environment of its own, all slots install into {into}"]


def _with_sizes(root: Path, items: Sequence[CarryItem]) -> list[CarryItem]:
    deadline = time.monotonic() + _SIZE_SECONDS
    return [
        item if item.how is How.LINK else replace(item, size_bytes=_size(os.path.realpath(root / item.path), deadline))
        for item in items
    ]


def _size(path: str, deadline: float) -> int | None:
    """Bytes of a file or of all files below a folder; None where counting takes too long."""
    if not os.path.isdir(path):
        return os.stat(path).st_size if os.path.exists(path) else 0
    total, waiting = 0, [path]
    while waiting:
        if time.monotonic() > deadline:
            return None
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


# Paths


def _below(path: str, folders: Iterable[str]) -> bool:
    """Whether `path` is one of `folders` or lies in one."""
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def _topmost(paths: Iterable[str]) -> list[str]:
    """Sorted, without those that lie in another."""
    top: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.split("/")):
        if not top or not _below(path, top[-1:]):
            top.append(path)
    return top


def _pattern(path: str) -> str:
    """The gitignore pattern that matches this path alone."""
    return "/" + re.sub(r"([\\*?\[\] ])", r"\\\1", path)
