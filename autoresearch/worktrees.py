"""Our bare repository in the cache folder, which borrows the user's objects and owns the detached worktrees.

Nothing here writes to the user's repository. A worktree's links are written by hand, as gitrepository-layout(5) has
them, because that is atomic per file: making one, repairing a half-made one and undoing what a measured program did
to it are the same few writes. The index that we trust lies beside the worktrees; theirs is a copy.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from anyio import Path as AsyncPath
from anyio import to_thread

from autoresearch.checkout import Checkout
from autoresearch.edits import MAX_FILE_BYTES, decode
from autoresearch.errors import ChangeRejected, RepositoryError, SlotLost
from autoresearch.plumbing import LINK, REGULAR, SUBMODULE, Difference, Git, blobs, differences, records
from autoresearch.trial import Edit, Reason

_MARK = """Signature: 8a477f597d28d172789f06886806bc55
# Worktrees of autoresearch: safe to delete while no run is using them.
"""
_INHERITED = re.compile(
    r"core\.(autocrlf|eol|symlinks|filemode|ignorecase|precomposeunicode|longpaths|attributesfile|excludesfile)"
    r"|(filter|lfs|user|merge|diff)\..+"
)


def home(checkout: Checkout, tag: str, cache: Path) -> Path:
    """The folder of a run's worktrees."""
    common = os.path.realpath(checkout.common_dir)
    digest = hashlib.sha256(os.fsencode(common)).hexdigest()[:10]
    name = re.sub(r"[^\w.-]", "-", checkout.root.name, flags=re.ASCII)[:40]
    return cache / "autoresearch-worktrees" / f"{name}-{digest}" / tag


class Worktrees:
    """The worktrees of one run, in the folder `home`. Different worktrees may be used concurrently."""

    def __init__(self, checkout: Checkout, home: Path) -> None:
        self._checkout = checkout
        self._home = home
        self._bare = home / "repository.git"
        self._git = Git(home, limiter=checkout.store.limiter)
        self._settings: dict[Path, bytes] = {}
        self._free: list[str] = []
        self._made = 0

    async def open(self) -> None:
        """Make or repair the bare repository.

        Raises:
            RepositoryError: it cannot be made, as on a full disk.
        """
        try:
            await self._thread(self._make_home)
            await self._init()
            self._settings = await self._wanted_settings()
            await self._thread(self._restore_settings)
        except OSError as error:
            raise RepositoryError(f"cannot make {self._home}: {error.strerror or error}") from error

    async def worktree(self, name: str) -> Path:
        """A clean worktree at the base commit: made, repaired where it is half-made, or emptied of all but the commit.

        Raises:
            SlotLost: it cannot be made.
        """
        path = self._home / name
        await self.reset(path, self._checkout.base)
        return path

    async def reset(self, worktree: Path, commit: str, keep: Sequence[str] = ()) -> None:
        """Bring the worktree to `commit`: tracked files restored, all others removed but those that `keep` matches.

        `keep` are gitignore patterns; see `untracked`. Nothing that a program wrote into the worktree, its `.git` or
        our repository's settings has a say in this.

        Raises:
            SlotLost: the machine cannot do it.
        """
        try:
            await self._reset(worktree, commit, keep)
        except (RepositoryError, OSError):
            await self._reset_again(worktree, commit, keep)

    async def untracked(self, worktree: Path) -> tuple[str, ...]:
        """Patterns for `keep` that hold what lies in the worktree now and is not tracked, ignored files included."""
        rows = records(await self._in(worktree).run("ls-files", "-z", "--others", "--directory"))
        return tuple("/" + re.sub(r"([\\*?\[ ])", r"\\\1", row.rstrip("/")) for row in rows)

    async def exchange(self, worktree: Path, away: Path, back: Path) -> None:
        """Rename the worktree to `away`, and what was put at `back` to its place; `away` is replaced.

        What is known of the files goes with them, so that a reset rewrites only what differs.
        """
        await self._thread(self._exchange, worktree, away, back)

    async def tree_of(self, commit: str) -> str:
        """The name of the commit's tree: equal for equal files."""
        return await self.store.line("rev-parse", "--verify", f"{commit}^{{tree}}")

    @asynccontextmanager
    async def checkout(self, commit: str) -> AsyncIterator[Path]:
        """A worktree at `commit` from a pool that grows as needed, the caller's alone until it leaves.

        Raises:
            RepositoryError: it cannot be made.
        """
        if not self._free:
            self._free.append(f"edit-{self._made}")
            self._made += 1
        name = self._free.pop()
        try:
            await self.reset(self._home / name, commit)
            yield self._home / name
        except SlotLost as error:
            raise RepositoryError(str(error)) from error
        finally:
            self._free.append(name)

    async def difference(self, worktree: Path, parent: str) -> tuple[Edit, ...]:
        """What the files differ in from the parent's tree, whatever HEAD says; ignored files left out.

        Raises:
            ChangeRejected: a link, a nested repository, or a file that is too large or cannot be read.
        """
        await self._thread(self._restore_settings)
        with tempfile.TemporaryDirectory(prefix="autoresearch-index-", ignore_cleanup_errors=True) as folder:
            index = os.path.join(folder, "index")
            await self._thread(shutil.copyfile, self._index(worktree), index)
            git = self._in(worktree, GIT_INDEX_FILE=index)
            status, _, complaint = await git.attempt("add", "--all", ".")
            if status:
                raise _not_added(complaint)
            tree = await git.line("write-tree")
        found, _, _ = await differences(self.store, parent, tree)
        changed = [item for item in found if item.old.object != item.new.object]
        for item in changed:
            _refuse_special(item)
            await self._refuse_large(worktree / item.path, item)
        kept = [item for item in changed if item.new.mode in REGULAR]
        contents = dict(zip(kept, await blobs(self.store, [item.new.object for item in kept]), strict=True))
        return tuple(
            Edit(item.path, content=decode(contents[item])) if item in contents else Edit(item.path, delete=True)
            for item in changed
        )

    async def _reset(self, worktree: Path, commit: str, keep: Sequence[str]) -> None:
        await self._thread(self._restore_settings)
        await self._thread(self._link, worktree, commit)
        git = self._in(worktree)
        await git.run("reset", "--hard", "--quiet", commit)
        await git.run("clean", "-ffdxq", *(word for pattern in keep for word in ("-e", pattern)))
        await self._thread(shutil.copyfile, self._index(worktree), self._admin(worktree) / "index")

    async def _reset_again(self, worktree: Path, commit: str, keep: Sequence[str]) -> None:
        """After a failure: what a program locked or broke is opened and rebuilt, then the machine is to blame."""
        try:
            await self._thread(self._unlock, worktree)
            await self._reset(worktree, commit, keep)
        except (RepositoryError, OSError) as error:
            status, _, _ = await self.store.attempt("cat-file", "-e", f"{commit}^{{commit}}")
            if status:
                raise RepositoryError(f"the repository has no commit {commit}") from error
            raise SlotLost(f"worktree {worktree}: {error}") from error

    async def _refuse_large(self, path: Path, item: Difference) -> None:
        if item.new.mode in REGULAR and (await AsyncPath(path).lstat()).st_size > MAX_FILE_BYTES:
            raise ChangeRejected(item.path, f"the file is larger than {MAX_FILE_BYTES} bytes", Reason.DOES_NOT_APPLY)

    @property
    def store(self) -> Git:
        """git with the objects and refs of our repository, and no worktree or index."""
        return self._git.at(self._home, GIT_DIR=os.fspath(self._bare))

    def _in(self, worktree: Path, **environment: str) -> Git:
        return self._git.at(
            worktree,
            **{
                "GIT_DIR": os.fspath(self._admin(worktree)),
                "GIT_COMMON_DIR": os.fspath(self._bare),
                "GIT_WORK_TREE": os.fspath(worktree),
                "GIT_INDEX_FILE": os.fspath(self._index(worktree)),
            }
            | environment,
        )

    def _admin(self, worktree: Path) -> Path:
        return self._bare / "worktrees" / worktree.name

    def _index(self, worktree: Path) -> Path:
        return self._home / "indexes" / worktree.name

    async def _thread(self, function: Callable[..., object], *arguments: object) -> None:
        await to_thread.run_sync(function, *arguments, limiter=self._git.limiter)

    async def _init(self) -> None:
        kind = await self._checkout.store.line("rev-parse", "--show-object-format")
        command = ("init", "--bare", "--quiet", "--template=", f"--object-format={kind}", "-b", "main", str(self._bare))
        try:
            await self._git.run(*command)
        except RepositoryError:
            await self._thread(remove_tree, self._bare)
            await self._git.run(*command)
        await self._git.run("config", "--file", str(self._bare / "config"), "include.path", "inherited.config")

    async def _wanted_settings(self) -> dict[Path, bytes]:
        """The files that say how our repository works, as they must stay."""
        common = self._checkout.common_dir
        out = await self._checkout.store.run("config", "--local", "--includes", "-z", "--list")
        pairs = [row.partition("\n") for row in records(out)]
        wanted = [(name, value if given else "true") for name, given, value in pairs if _INHERITED.fullmatch(name)]
        if self._checkout.lfs:
            wanted.append(("lfs.storage", os.fspath(common / "lfs")))
        wanted += [("gc.auto", "0"), ("maintenance.auto", "false"), ("core.hookspath", "/dev/null")]
        settings = {
            self._bare / "config": await AsyncPath(self._bare / "config").read_bytes(),
            self._bare / "inherited.config": "".join(map(_config_line, wanted)).encode("utf-8", "surrogateescape"),
            self._bare / "objects" / "info" / "alternates": os.fsencode(common / "objects") + b"\n",
        }
        for name in ("info/exclude", "info/attributes", "shallow"):
            if await AsyncPath(common / name).exists():
                settings[self._bare / name] = await AsyncPath(common / name).read_bytes()
        return settings

    def _make_home(self) -> None:
        for folder in (self._home, self._home / "indexes"):
            folder.mkdir(parents=True, exist_ok=True)
        mark = f"{_MARK}# repository: {self._checkout.common_dir}\n# run: {self._home.name}\n"
        _write(self._home / "CACHEDIR.TAG", os.fsencode(mark))
        for lock in self._bare.glob("*.lock"):
            lock.unlink()

    def _restore_settings(self) -> None:
        for path, content in self._settings.items():
            _write(path, content)

    def _link(self, worktree: Path, commit: str) -> None:
        """Tie the worktree to our repository, HEAD detached at `commit`; states of merges and locks are forgotten."""
        if not worktree.is_dir() or worktree.is_symlink():
            remove_tree(worktree)
            worktree.mkdir()
        admin = self._admin(worktree)
        remove_tree(admin)
        admin.mkdir(parents=True)
        _write(admin / "commondir", b"../..\n")
        _write(admin / "gitdir", os.fsencode(worktree / ".git") + b"\n")
        _write(admin / "HEAD", f"{commit}\n".encode())
        link = worktree / ".git"
        if link.is_dir() or link.is_symlink():
            remove_tree(link)
        _write(link, b"gitdir: " + os.fsencode(admin) + b"\n")
        self._index(worktree).with_name(f"{worktree.name}.lock").unlink(missing_ok=True)

    def _exchange(self, worktree: Path, away: Path, back: Path) -> None:
        for place, to in ((worktree, away), (back, worktree)):
            remove_tree(to)
            self._index(to).unlink(missing_ok=True)
            for path, name in ((place, to), (self._index(place), self._index(to))):
                with suppress(FileNotFoundError):  # a program may have removed it, and a new one has no index
                    path.rename(name)

    def _unlock(self, worktree: Path) -> None:
        """Make folders writable again, and forget the index, so that every file is written anew."""
        _make_writable(worktree)
        self._index(worktree).unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Delete a file, a link or a folder with all that it holds, also where a folder is read-only. Nothing there: done.

    Raises:
        OSError: something cannot be deleted.
    """
    if path.is_symlink() or not path.is_dir():
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
        return
    _make_writable(path)
    shutil.rmtree(path)


def _make_writable(folder: Path) -> None:
    for place, names, _ in os.walk(folder):
        for name in [".", *names]:
            path = os.path.join(place, name)
            if not os.path.islink(path):
                os.chmod(path, os.lstat(path).st_mode | 0o700)


def _write(path: Path, content: bytes) -> None:
    """Write a whole file at once, never through a link; nothing is done where it stands already."""
    if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.replace(name, path)


def _config_line(pair: tuple[str, str]) -> str:
    """One setting in the syntax of git's configuration files."""
    name, value = pair
    section, _, rest = name.partition(".")
    subsection, _, key = rest.rpartition(".")
    quoted = {mark: mark.replace("\\", "\\\\").replace('"', '\\"') for mark in (subsection, value)}
    head = f'[{section} "{quoted[subsection]}"]' if subsection else f"[{section}]"
    return f'{head}\n\t{key} = "{quoted[value].replace(chr(10), chr(92) + "n")}"\n'


def _refuse_special(item: Difference) -> None:
    if SUBMODULE in (item.old.mode, item.new.mode):
        raise ChangeRejected(
            item.path, "a nested repository or submodule is never part of a change", Reason.OUT_OF_SCOPE
        )
    if LINK in (item.old.mode, item.new.mode):
        raise ChangeRejected(item.path, "a symbolic link is never part of a change", Reason.OUT_OF_SCOPE)


def _not_added(complaint: str) -> ChangeRejected:
    nested = re.search(r"'(.+?)/?' does not have a commit checked out", complaint)
    if nested:
        return ChangeRejected(nested[1], "a nested repository is never part of a change", Reason.OUT_OF_SCOPE)
    return ChangeRejected(
        ".", f"git cannot read what was edited: {' '.join(complaint.split())[:300]}", Reason.DOES_NOT_APPLY
    )
