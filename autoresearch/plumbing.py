"""Runs the git program: its environment, its object database and its refs, with paths as bytes between NULs.

The only module that imports GitPython, and that as a runner alone: its own index and object database are slow, and a
`Repo` is not safe in several threads.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from types import ModuleType

from anyio import CapacityLimiter, to_thread

from autoresearch.errors import RepositoryError, UsageError
from autoresearch.protocols import FileEntry

REGULAR = ("100644", "100755")
LINK, SUBMODULE = "120000", "160000"

# Nothing that the user, a hook or a measured program configured may run, prompt, sign or collect garbage here.
_OPTIONS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "core.quotePath": "false",
    "core.trustctime": "true",
    "core.checkStat": "default",
    "core.sparseCheckout": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
    "core.safecrlf": "false",
    "commit.gpgSign": "false",
    "i18n.commitEncoding": "utf-8",
    "advice.addEmbeddedRepo": "false",
}
_SEARCH_LIMIT_SECONDS = 20.0
_SEARCH_LINE_CHARS = 500
_NO_GIT = "git is not installed: install it (`apt install git`, `brew install git`) and repeat"
_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "0"}


@dataclass(frozen=True, slots=True)
class Git:
    """Runs git in one folder, always in a worker thread; a call that was begun is finished when it is cancelled."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    limiter: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(8))
    """How many git programs may run at once, shared by all that `at` makes."""

    def at(self, folder: Path, **environment: str) -> Git:
        """The same in another folder, with these variables beside the ones that stand."""
        return replace(self, folder=folder, environment={**self.environment, **environment})

    async def run(self, *arguments: str, stdin: bytes = b"", ok: Sequence[int] = (0,)) -> bytes:
        """What git printed.

        Raises:
            RepositoryError: its exit status is none of `ok`; the message holds what it complained of.
        """
        status, out, complaint = await self.attempt(*arguments, stdin=stdin)
        if status not in ok:
            raise RepositoryError(f"git {arguments[0]} failed ({status}): {_one_line(complaint)}")
        return out

    async def line(self, *arguments: str) -> str:
        return text(await self.run(*arguments)).rstrip("\n")

    async def attempt(
        self, *arguments: str, stdin: bytes = b"", limit_seconds: float | None = None
    ) -> tuple[int, bytes, str]:
        """Exit status, stdout and stderr.

        Raises:
            UsageError: there is no git.
        """
        return await to_thread.run_sync(self._execute, arguments, stdin, limit_seconds, limiter=self.limiter)

    def _execute(self, arguments: Sequence[str], stdin: bytes, limit_seconds: float | None) -> tuple[int, bytes, str]:
        program = _program()
        options = [word for name, value in _OPTIONS.items() for word in ("-c", f"{name}={value}")]
        try:
            with tempfile.TemporaryFile() as source:
                source.write(stdin)
                source.seek(0)
                status, out, complaint = program.Git(self.folder).execute(
                    ["git", *options, *arguments],
                    istream=source,
                    with_extended_output=True,
                    with_exceptions=False,
                    stdout_as_string=False,
                    strip_newline_in_stdout=False,
                    kill_after_timeout=limit_seconds,
                    start_new_session=True,  # a terminal's Ctrl-C reaches a whole group, and the run goes on
                    env={**_ENVIRONMENT, **self.environment},
                )
        except program.GitCommandNotFound:
            raise UsageError(_NO_GIT) from None
        except OSError as error:
            raise RepositoryError(f"git {arguments[0]} cannot be run: {error.strerror or error}") from error
        return status, out, complaint


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree."""

    mode: str
    object: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One path in which two trees differ; modes and objects are zeros where there is none."""

    path: str
    old: Entry
    new: Entry


@dataclass(frozen=True, slots=True)
class Commit:
    tree: str
    parents: tuple[str, ...]
    message: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """Who commits."""

    name: str
    email: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "GIT_AUTHOR_NAME": self.name,
            "GIT_AUTHOR_EMAIL": self.email,
            "GIT_COMMITTER_NAME": self.name,
            "GIT_COMMITTER_EMAIL": self.email,
        }


class GitTree:
    """The files of one commit, read from git's objects. Safe to call concurrently."""

    def __init__(self, git: Git, commit: str) -> None:
        self._git = git
        self._commit = commit

    @property
    def commit(self) -> str:
        return self._commit

    async def files(self) -> Sequence[FileEntry]:
        out = await self._git.run("ls-tree", "-r", "-l", "-z", "--full-tree", self._commit)
        rows = [row.partition("\t") for row in records(out)]
        found = [(path, head.split()) for head, _, path in rows]
        return sorted(
            (FileEntry(path, int(head[3])) for path, head in found if head[0] in REGULAR), key=attrgetter("path")
        )

    async def read(self, path: str) -> bytes | None:
        entry = (await entries(self._git, self._commit)).get(path)
        if entry is None or entry.mode not in REGULAR:
            return None
        return (await blobs(self._git, [entry.object]))[0]

    async def search(self, pattern: str, limit: int = 100) -> list[str]:
        if not pattern or "\0" in pattern:
            raise ValueError("the pattern is empty or holds a NUL")
        pattern.encode("utf-8", "surrogateescape")
        status, out, complaint = await self._git.attempt(
            *("grep", "-n", "-I", "-z", "-E", "--no-color", "--full-name", f"--max-count={limit}"),
            *("-e", pattern, self._commit),
            limit_seconds=_SEARCH_LIMIT_SECONDS,
        )
        if status < 0:
            raise ValueError(f"the pattern takes longer than {_SEARCH_LIMIT_SECONDS:g} s")
        if status > 1:
            raise ValueError(f"not a regular expression: {complaint.strip()[:200]}")
        rows = out.decode("utf-8", "replace").split("\n")[:limit]
        found = [row.removeprefix(f"{self._commit}:").split("\0", 2) for row in rows]
        return [":".join(row)[:_SEARCH_LINE_CHARS] for row in found if len(row) == 3]


async def entries(git: Git, tree: str) -> dict[str, Entry]:
    """All files, links and submodules of a commit or tree, by path."""
    rows = records(await git.run("ls-tree", "-r", "-z", "--full-tree", tree))
    found = {}
    for row in rows:
        head, _, path = row.partition("\t")
        mode, _, name = head.split(" ")
        found[path] = Entry(mode, name)
    return found


async def blobs(git: Git, objects: Sequence[str]) -> list[bytes]:
    """The contents of blobs, in order."""
    out = await git.run("cat-file", "--batch", stdin="".join(f"{name}\n" for name in objects).encode())
    contents, at = [], 0
    for name in objects:
        end = out.index(b"\n", at)
        words = out[at:end].split()
        if len(words) != 3:
            raise RepositoryError(f"git has no object {name}")
        start, size = end + 1, int(words[2])
        contents.append(out[start : start + size])
        at = start + size + 1
    return contents


async def write_tree(git: Git, parent: str, changes: Mapping[str, Entry | None]) -> str:
    """A tree like that of `parent`, a full name, but for `changes` (None: deleted); made in a private index.

    git leaves out paths that could reach `.git`, and drops a file in whose place a folder is needed: compare the trees.
    """
    # Deletions go first, so that a file may become a folder.
    ordered = sorted(changes.items(), key=lambda item: item[1] is not None)
    rows = [f"{entry.mode} {entry.object}" if entry else f"0 {'0' * len(parent)}" for _, entry in ordered]
    listed = b"".join(f"{row}\t".encode() + raw(path) + b"\0" for row, (path, _) in zip(rows, ordered, strict=True))
    with _scratch() as folder:
        private = git.at(git.folder, GIT_INDEX_FILE=os.path.join(folder, "index"))
        await private.run("read-tree", parent)
        await private.run("update-index", "-z", "--index-info", stdin=listed)
        return await private.line("write-tree")


async def write_blobs(git: Git, contents: Iterable[bytes]) -> list[str]:
    """Store contents as they are, without filters; their names, in order."""
    with _scratch() as folder:
        paths = []
        for number, content in enumerate(contents):
            path = os.path.join(folder, str(number))
            await to_thread.run_sync(Path(path).write_bytes, content, limiter=git.limiter)
            paths.append(path)
        if not paths:
            return []
        listed = "".join(f"{path}\n" for path in paths).encode()
        return text(await git.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=listed)).split()


async def commit_tree(
    git: Git, tree: str, parents: Sequence[str], message: bytes, who: Identity, date: str | None = None
) -> str:
    """Store an unsigned commit. With a `date` the same arguments make the same commit."""
    dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date} if date else {}
    flags = [word for parent in parents for word in ("-p", parent)]
    out = await git.at(git.folder, **who.environment, **dates).run(
        "commit-tree", "--no-gpg-sign", tree, *flags, "-F", "-", stdin=message
    )
    return text(out).strip()


async def read_commit(git: Git, commit: str) -> Commit:
    head, _, message = (await git.run("cat-file", "commit", commit)).partition(b"\n\n")
    fields = [line.split(" ", 1) for line in text(head).split("\n")]
    parents = tuple(row[1] for row in fields if row[0] == "parent")
    return Commit(fields[0][1], parents, message)


async def differences(git: Git, old: str, new: str) -> tuple[list[Difference], int, int]:
    """The paths in which two trees differ, and the lines added and removed; lines of binary files do not count."""
    out = await git.run(
        "diff-tree", "-r", "-z", "--raw", "--numstat", "--no-renames", "--no-abbrev", "--no-ext-diff", old, new
    )
    rows = iter(records(out))
    found, added, removed = [], 0, 0
    for row in rows:
        if row.startswith(":"):
            old_mode, new_mode, old_name, new_name, _ = row[1:].split(" ")
            found.append(Difference(next(rows), Entry(old_mode, old_name), Entry(new_mode, new_name)))
        else:
            plus, minus, _ = row.split("\t", 2)
            added, removed = added + _count(plus), removed + _count(minus)
    return found, added, removed


async def refs(git: Git, *patterns: str) -> dict[str, str]:
    """Full names of refs and the objects that they point to; a pattern is a full name or a folder of names."""
    out = await git.run("for-each-ref", "--format=%(refname) %(objectname)", *patterns)
    return dict(line.split(" ") for line in text(out).splitlines())


async def update_refs(git: Git, *commands: str) -> bool:
    """Carry out commands of `git update-ref --stdin` in one transaction; False where an expected value differs."""
    stdin = "".join(f"{command}\n" for command in commands).encode()
    status, _, complaint = await git.attempt("update-ref", "--no-deref", "--stdin", stdin=stdin)
    if status and not re.search(r"but expected|already exists|unable to resolve|Unable to create.*lock", complaint):
        raise RepositoryError(f"git update-ref failed ({status}): {_one_line(complaint)}")
    return status == 0


def records(out: bytes) -> list[str]:
    """Text records that end in NUL."""
    return text(out).split("\0")[:-1]


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def raw(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


@contextmanager
def _scratch() -> Iterator[str]:
    """A temporary folder.

    Raises:
        RepositoryError: the disk takes no more.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="autoresearch-", ignore_cleanup_errors=True) as folder:
            yield folder
    except OSError as error:
        raise RepositoryError(f"cannot write temporary files: {error.strerror or error}") from error


def _count(number: str) -> int:
    return 0 if number == "-" else int(number)


def _one_line(complaint: str) -> str:
    return " ".join(complaint.split())[:500] or "it said nothing"


def _program() -> ModuleType:
    """GitPython. Imported on first use: the import itself runs git, and fails where there is none."""
    try:
        import git  # noqa: PLC0415
    except ImportError:
        raise UsageError(_NO_GIT) from None
    return git
