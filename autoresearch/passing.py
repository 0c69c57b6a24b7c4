"""Names for what passes: a `check` or a `replay` has worktrees of its own, and nothing of it stays."""

from __future__ import annotations

import os
import re
from pathlib import Path

from anyio import to_thread

from autoresearch import repository, sandbox
from autoresearch.checkout import Checkout
from autoresearch.worktrees import home

_TAG = re.compile(r"autoresearch-[a-z]+-(\d+)")


def tag_for(command: str) -> str:
    """The name that stands in a run's tag's place while this process acts on a command."""
    return f"autoresearch-{command}-{os.getpid()}"


async def sweep(checkout: Checkout, cache: Path) -> None:
    """Remove what such processes left that were killed.

    Raises:
        RepositoryError: something cannot be deleted.
    """
    for folder in await to_thread.run_sync(_dead, home(checkout, "-", cache).parent):
        await to_thread.run_sync(_end_processes, folder)
        await repository.forget(checkout, folder.name, cache, branch=True)


def _dead(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = ((path, _TAG.fullmatch(path.name)) for path in folder.iterdir())
    return [path for path, match in found if match and not _alive(int(match[1]))]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _end_processes(folder: Path) -> None:
    for record in folder.glob("slots/*/running"):
        sandbox.end_recorded(record)
