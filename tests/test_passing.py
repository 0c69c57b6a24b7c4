"""What a killed `check` or `replay` left is removed at the next start; all else is left alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from autoresearch import checkout as checkouts
from autoresearch import passing
from autoresearch.worktrees import home
from tests.ground import Ground

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def dead() -> str:
    """The name that a process that has ended would have used."""
    with subprocess.Popen(["true"]) as process:
        return f"autoresearch-aa-{process.pid}"


async def test_only_what_the_dead_left_goes(tmp_path: Path, dead: str) -> None:
    ground = Ground(tmp_path)
    checkout = await checkouts.inspect(ground.root)
    names = [dead, passing.tag_for("check"), "nov22", "autoresearch-aa-x"]
    for name in names:
        (home(checkout, name, tmp_path / "cache") / "slots").mkdir(parents=True)
        for ref in (f"refs/heads/autoresearch/{name}", f"refs/autoresearch/{name}/trials/1"):
            ground.git("update-ref", ref, "HEAD")
    await passing.sweep(checkout, tmp_path / "cache")
    kept = set(names) - {dead}
    assert set(os.listdir(home(checkout, "-", tmp_path / "cache").parent)) == kept
    assert len(ground.refs()) == 1 + 2 * len(kept)
    assert not any(dead in name for name in ground.refs())
