"""Canaries in git: commits whose files in scope are replaced, made without a checkout."""

from __future__ import annotations

from collections.abc import Sequence

from autoresearch.checkout import OURS
from autoresearch.errors import RepositoryError
from autoresearch.plumbing import Entry, Git, commit_tree, entries, update_refs, write_blobs, write_tree
from autoresearch.trial import Substitute

CONTENT = {
    # Two colons for YAML, no digit for a metric to be read, and no first letter that begins a comment anywhere.
    Substitute.RUBBISH: b")]} rubbish, valid in no language: it stands here: to be noticed `\"'<({[\\\n",
    Substitute.NOTHING: b"",
}
_DATE = "2000-01-01T00:00:00Z"


async def make(git: Git, base: str, files: Sequence[str], substitute: Substitute) -> str:
    """A commit on top of `base` in which these files, text or not, hold the substitute; they keep their modes.

    `git` is our own repository, in which a ref keeps it: a start that is not agreed to leaves nothing in the user's.

    Raises:
        RepositoryError: git cannot write it.
    """
    before = await entries(git, base)
    (name,) = await write_blobs(git, [CONTENT[substitute]])
    tree = await write_tree(git, base, {path: Entry(before[path].mode, name) for path in files if path in before})
    commit = await commit_tree(git, tree, [base], f"{substitute}\n".encode(), OURS, _DATE)
    if not await update_refs(git, f"update refs/canaries/{commit} {commit}"):
        raise RepositoryError(f"git cannot write refs/canaries/{commit}: another process holds it")
    return commit
