"""Copies of untracked folders that work in a worktree: nothing in them leads back into the checkout."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from anyio import from_thread

from autoresearch.measurers.editables import sites_of_environment
from autoresearch.measurers.paths import inside

if sys.platform == "linux":
    import fcntl

_FICLONE = 0x40049409
_CANNOT_CLONE = {errno.EOPNOTSUPP, errno.EXDEV, errno.ENOTTY, errno.EINVAL, errno.EPERM, errno.ENOSYS}
_SCRIPT_BYTES = 1024 * 1024
_PATHS_IN_SITE = ("*.pth", "*.egg-link", "__editable__*.py", "_editable*.py", "*.dist-info/direct_url.json")


@dataclass(slots=True)
class Copier:
    """Copies paths of a checkout into one worktree."""

    roots: Sequence[str]
    """The checkout in all its spellings, absolute; the first is the one that is read."""
    worktree: Path
    carried: Sequence[str]
    """All that the worktree gets, relative; links into these are led to the copy."""
    check_cancelled: Callable[[], None] = lambda: None
    """Called now and then; raises where the copying should end."""
    _clones: bool = True
    """Whether the file system can share blocks, as far as is known."""

    def copy(self, path: str) -> None:
        """Copy one path of the checkout, whatever stood there before.

        A link at the path itself is followed, so that the copy is the worktree's own; hard links become files.

        Raises:
            OSError: as of a full disk.
        """
        source, target = os.path.realpath(os.path.join(self.roots[0], path)), self.worktree / path
        remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._copy(source, str(target), source)

    def _copy(self, source: str, target: str, top: str) -> None:
        """Copy a file, link or folder; sockets and pipes are left out."""
        status = os.lstat(source)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(self._leads_to(os.readlink(source), os.path.dirname(source), top), target)
        elif stat.S_ISDIR(status.st_mode):
            self.check_cancelled()
            os.mkdir(target, 0o700)
            for name in os.listdir(source):
                self._copy(os.path.join(source, name), os.path.join(target, name), top)
            _keep_times(target, status)
        elif stat.S_ISREG(status.st_mode):
            self._copy_file(source, target)
            _keep_times(target, status)

    def _copy_file(self, source: str, target: str) -> None:
        with open(source, "rb") as reader, open(target, "xb") as writer:
            if self._clones:
                self._clones = _clone(reader.fileno(), writer.fileno())
            if not self._clones:
                shutil.copyfileobj(reader, writer, 1024 * 1024)

    def _leads_to(self, link: str, folder: str, top: str) -> str:
        """What a link must say in the worktree: relative ones are kept as long as they stay inside."""
        if not os.path.isabs(link):
            led = os.path.normpath(os.path.join(folder, link))
            return link if inside(led, (top, *self.roots)) is not None else led
        return self.counterpart(link)

    def counterpart(self, path: str) -> str:
        """The worktree's path for one of the checkout; unchanged where only the checkout has it."""
        relative = inside(path, self.roots)
        if relative is None:
            return path
        own = os.path.normpath(os.path.join(self.worktree, relative))
        has = os.path.lexists(own) or any(relative == c or relative.startswith(c + os.sep) for c in self.carried)
        return own if has or not os.path.lexists(path) else path

    def relocate_environment(self, path: str) -> None:
        """Make a copied virtual environment, and what is installed in it as editable, point into the worktree."""
        environment = self.worktree / path
        files = [environment / "pyvenv.cfg", *environment.glob("bin/*")]
        for site in sites_of_environment(environment):
            files += [file for pattern in _PATHS_IN_SITE for file in site.glob(pattern)]
        for file in files:
            if not file.is_symlink() and file.is_file() and file.stat().st_size <= _SCRIPT_BYTES:
                self._relocate_file(file)

    def _relocate_file(self, file: Path) -> None:
        before = file.read_bytes()
        if b"\0" in before:
            return
        url = file.name == "direct_url.json"
        roots = [quote(os.fsencode(root)).encode() if url else os.fsencode(root) for root in self.roots]
        pattern = rb"(?<![\w.-])(?:%s)(?:/[^\s\"':,;]*)?(?![\w.-])" % b"|".join(map(re.escape, roots))

        def moved(found: re.Match[bytes]) -> bytes:
            path = os.fsdecode(unquote_to_bytes(found[0]) if url else found[0])
            moved_to = os.fsencode(self.counterpart(path))
            return quote(moved_to).encode() if url else moved_to

        after = re.sub(pattern, moved, before)
        if after != before:
            status = file.stat()
            file.chmod(0o600)
            file.write_bytes(after)
            _keep_times(str(file), status)


def duplicate(root: Path, path: str, target: Path) -> None:
    """Copy what lies at `path` below `root` to where it waits to be renamed to there: links say what they said.

    Raises:
        OSError: as of a full disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    copier = Copier((str(root),), root, (), from_thread.check_cancelled)
    copier._copy(str(root / path), str(target), str(root / path))


def remove(path: Path) -> None:
    """Remove whatever stands there; a link, never what it leads to."""
    if path.is_dir() and not path.is_symlink():
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o700)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _keep_times(path: str, status: os.stat_result) -> None:
    os.chmod(path, stat.S_IMODE(status.st_mode))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _clone(reader: int, writer: int) -> bool:
    """Let two files share their blocks until one is written; False where the file system cannot."""
    if sys.platform != "linux":
        return False
    try:
        fcntl.ioctl(writer, _FICLONE, reader)
    except OSError as error:
        if error.errno not in _CANNOT_CLONE:
            raise
        return False
    return True
