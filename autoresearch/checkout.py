"""Looks at the user's checkout before a run; reads only, but for one line of `info/exclude`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from anyio import Path as AsyncPath
from anyio import to_thread

from autoresearch.errors import RepositoryError, UsageError
from autoresearch.plumbing import REGULAR, SUBMODULE, Git, Identity, entries, records, refs

OLDEST_GIT = (2, 38)
EXCLUDED = b".autoresearch/"
OURS = Identity("autoresearch", "autoresearch@localhost")
"""Commits where the user has set no name and mail address."""

_REDIRECTIONS = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
)


@dataclass(frozen=True, slots=True)
class Checkout:
    """The user's checkout as it was when the run looked."""

    root: Path
    prefix: str
    """The subfolder where the run starts, relative to the root, with `/`; "" is the root."""
    common_dir: Path
    """Where objects and refs live, also those of a linked worktree."""
    base: str
    """The commit where the run starts."""
    base_tree: str
    branch: str | None
    """The branch that is checked out; None: detached HEAD."""
    version: tuple[int, ...]
    identity: Identity
    """The user's, or ours."""
    files: tuple[str, ...]
    """All committed files of the base; no links, no submodules; sorted."""
    submodules: tuple[str, ...]
    lfs: bool
    """The base has files that git-lfs keeps elsewhere."""
    lfs_ready: bool
    """git-lfs is set up, so that worktrees get their contents."""
    store: Git
    """git with the repository's objects and refs, and no worktree or index."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know before the run."""
        notes = []
        if self.submodules:
            notes.append(f"submodules are empty in worktrees: {', '.join(self.submodules)} (`--setup` can fill them)")
        if self.lfs and not self.lfs_ready:
            notes.append("git-lfs is not set up: its files are pointers in worktrees; run `git lfs install`")
        if self.identity == OURS:
            notes.append("no git identity is set: commits are made by autoresearch <autoresearch@localhost>")
        return tuple(notes)

    def exists(self, path: str) -> bool:
        """Whether something, committed or not, lies at a path or matches a glob; relative to the root."""
        if "\0" in path:
            return False
        if os.path.lexists(self.root / path):
            return True
        try:
            return next(self.root.glob(path), None) is not None
        except ValueError:  # `**` beside other characters
            return False

    async def dirty(self) -> tuple[str, ...]:
        """Paths with uncommitted changes, untracked files that are not ignored among them; sorted."""
        git = Git(self.root, limiter=self.store.limiter)
        rows = records(
            await git.run(
                "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=dirty"
            )
        )
        return tuple(sorted(row[3:] for row in rows))


async def inspect(folder: Path, base: str = "HEAD", tag: str | None = None) -> Checkout:
    """Look at the checkout that holds `folder`. A dirty tree, a detached HEAD and a linked worktree are fine.

    Raises:
        UsageError: no run can start here; one line that says what to do.
    """
    _refuse_redirections(os.environ)
    if not await AsyncPath(folder).is_dir():
        raise UsageError(f"{folder}: no such folder")
    git = Git(folder)
    version = await _version(git)
    await _refuse_elsewhere(git)
    root = Path(await git.line("rev-parse", "--show-toplevel"))
    common = Path(await git.line("rev-parse", "--path-format=absolute", "--git-common-dir"))
    commit = await _commit(git, base)
    store = git.at(common, GIT_DIR=os.fspath(common))
    found = await entries(store, commit)
    status, branch, _ = await git.attempt("symbolic-ref", "--quiet", "--short", "HEAD")
    lfs, _, _ = await store.attempt("grep", "-q", "-e", "filter=lfs", commit, "--", ":(glob)**/.gitattributes")
    lfs_ready, _, _ = await git.attempt("config", "--get-regexp", r"^filter\.lfs\.(process|smudge)$")
    checkout = Checkout(
        root=root,
        prefix=(await git.line("rev-parse", "--show-prefix")).rstrip("/"),
        common_dir=common,
        base=commit,
        base_tree=await store.line("rev-parse", f"{commit}^{{tree}}"),
        branch=branch.decode(errors="replace").strip() if status == 0 else None,
        version=version,
        identity=await _identity(git),
        files=tuple(sorted(path for path, entry in found.items() if entry.mode in REGULAR)),
        submodules=tuple(sorted(path for path, entry in found.items() if entry.mode == SUBMODULE)),
        lfs=lfs == 0,
        lfs_ready=lfs_ready == 0,
        store=store,
    )
    await _refuse_blocking_branch(store)
    if tag is not None:
        await check_tag(checkout, tag)
    return checkout


async def check_tag(checkout: Checkout, tag: str) -> None:
    """Make sure that a run can have this name.

    Raises:
        UsageError: git takes no branch of that name.
    """
    status, _, _ = await checkout.store.attempt("check-ref-format", f"refs/heads/autoresearch/{tag}")
    if status or not re.fullmatch(r"[^\s/]+", tag) or tag.startswith("-"):
        raise UsageError(
            f"--tag {' '.join(tag.split())}: git takes no branch of that name; use letters, digits, `-`, `_` and `.`"
        )


async def tags(checkout: Checkout) -> frozenset[str]:
    """The tags that are taken: those of a branch or of refs of a run."""
    heads, ours = "refs/heads/autoresearch/", "refs/autoresearch/"
    names = await refs(checkout.store, heads, ours)
    return frozenset(name.removeprefix(heads).removeprefix(ours).split("/")[0] for name in names)


async def exclude(checkout: Checkout) -> int:
    """Keep `.autoresearch/` out of `git status`: one line of `info/exclude`, added once; how many bytes were added.

    Raises:
        RepositoryError: the file cannot be written.
    """
    try:
        return await to_thread.run_sync(_add_line, checkout.common_dir / "info" / "exclude", EXCLUDED)
    except OSError as error:
        raise RepositoryError(f"cannot write {error.filename}: {error.strerror}") from error


async def include(checkout: Checkout, excluded: int) -> None:
    """Undo what `exclude` has done, which said how much that was, unless the file was changed since."""
    await to_thread.run_sync(_cut_line, checkout.common_dir / "info" / "exclude", EXCLUDED, excluded)


def _add_line(path: Path, line: bytes) -> int:
    path.parent.mkdir(exist_ok=True)
    before = path.read_bytes() if path.exists() else b""
    if line in before.splitlines():
        return 0
    with path.open("ab") as file:
        return file.write((b"\n" if before and not before.endswith(b"\n") else b"") + line + b"\n")


def _cut_line(path: Path, line: bytes, size: int) -> None:
    if size and path.read_bytes().endswith(line + b"\n"):
        os.truncate(path, path.stat().st_size - size)


def _refuse_redirections(environment: Mapping[str, str]) -> None:
    found = [name for name in _REDIRECTIONS if name in environment]
    if found:
        raise UsageError(
            f"{found[0]} is set, and would lead git to another repository: `unset {' '.join(found)}` first"
        )


async def _version(git: Git) -> tuple[int, ...]:
    said = await git.line("version")
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", said)
    version = tuple(int(part) for part in match.groups("0")) if match else (0,)
    if version < OLDEST_GIT:
        raise UsageError(f"autoresearch needs git 2.38 or newer, and this is `{said}`: update git")
    return version


async def _refuse_elsewhere(git: Git) -> None:
    """Refuse a folder that is in no worktree of a repository."""
    status, out, complaint = await git.attempt("rev-parse", "--is-inside-work-tree", "--is-bare-repository")
    if status and "dubious ownership" in complaint:
        raise UsageError(
            f"git distrusts {git.folder}, which another user owns: "
            f"`git config --global --add safe.directory {git.folder}`"
        )
    if status and "not a git repository" in complaint:
        raise UsageError(f"{git.folder} is in no git repository: run `git init`, commit your files, and repeat")
    if status:
        raise UsageError(f"git cannot read the repository of {git.folder}: {' '.join(complaint.split())[:300]}")
    inside, bare = out.split()
    if inside != b"true":
        what = "a bare repository" if bare == b"true" else "git's own folder"
        raise UsageError(f"{git.folder} is {what}: start in a checkout of it (`git worktree add ../checkout`)")


async def _commit(git: Git, base: str) -> str:
    status, out, _ = await git.attempt("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}")
    if status == 0:
        return out.decode().strip()
    if base == "HEAD":
        born = await git.attempt("rev-list", "--all", "--max-count=1")
        where = "the branch that is checked out" if born[1] else "the repository"
        raise UsageError(f"{where} has no commit yet: `git add` and `git commit` your files, and repeat")
    raise UsageError(f"--base {base}: no such commit; `git branch -a` and `git log` name them")


async def _identity(git: Git) -> Identity:
    status, out, _ = await git.attempt("-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT")
    match = re.fullmatch(r"(.*?) <(.*)> \d+ [+-]\d+", out.decode("utf-8", "replace").strip())
    return Identity(match[1], match[2]) if status == 0 and match and match[1] and match[2] else OURS


async def _refuse_blocking_branch(git: Git) -> None:
    if "refs/heads/autoresearch" in await refs(git, "refs/heads/autoresearch"):
        raise UsageError(
            "a branch named `autoresearch` is in the way of `autoresearch/<tag>`: "
            "rename it with `git branch -m autoresearch autoresearch-old`"
        )


async def create(folder: Path, files: Mapping[str, str]) -> None:
    """A new repository in a new or empty folder, with these files as its first commit; needs no git identity."""
    await AsyncPath(folder).mkdir(parents=True, exist_ok=True)
    git = Git(folder)
    await git.run("init", "--quiet", "--initial-branch=main")
    for path, content in files.items():
        await AsyncPath(folder / path).write_text(content, encoding="utf-8")
    await git.run("add", "--all")
    who = ("-c", f"user.name={OURS.name}", "-c", f"user.email={OURS.email}", "-c", "commit.gpgsign=false")
    await git.run(*who, "commit", "--quiet", "--message", "The model and the data")
