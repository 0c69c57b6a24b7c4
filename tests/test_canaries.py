"""Canaries: commits with the scope's files replaced, in real git."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from autoresearch import canaries
from autoresearch.trial import Substitute
from tests.ground import picture
from tests.test_repository import anyio_backend, git, opened, own_git, repo, template  # noqa: F401 - fixtures

pytestmark = pytest.mark.anyio

RUBBISH = canaries.CONTENT[Substitute.RUBBISH].decode()


async def test_a_canary_replaces_text_and_bytes_in_scope_and_leaves_nothing_in_the_users_repository(
    repo: Path,  # noqa: F811
) -> None:
    before = picture(repo)
    async with await opened(repo) as repository:
        base = git(repo, "rev-parse", "HEAD").strip()
        commit = await repository.canary(base, Substitute.RUBBISH)
        assert await repository.canary(base, Substitute.RUBBISH) == commit
        worktree = await repository.worktree("slot-0")
        await repository.reset(worktree, commit)
        found = {path.relative_to(worktree).as_posix() for path in worktree.rglob("*") if path.is_file()}
        rubbish = {path for path in found if (worktree / path).read_bytes() == RUBBISH.encode()}
        assert found - rubbish == {".git", ".gitignore", "README.md"}
        assert (worktree / "run.sh").stat().st_mode & 0o111
    assert picture(repo) == before


def test_rubbish_is_valid_in_no_language_at_hand() -> None:
    with pytest.raises(SyntaxError):
        ast.parse(RUBBISH)
    with pytest.raises(ValueError):
        json.loads(RUBBISH)
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(RUBBISH)
    assert not any(letter.isdigit() for letter in RUBBISH)


@pytest.mark.parametrize("command", ["sh", "bash -n", sys.executable, "node -", "make -f -", "cc -fsyntax-only -xc -"])
def test_no_program_takes_rubbish(command: str) -> None:
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"needs {command.split()[0]}")
    done = subprocess.run(command.split(), input=RUBBISH, text=True, capture_output=True)
    assert done.returncode != 0
