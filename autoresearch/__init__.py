"""autoresearch: makes a number better while you sleep.

import anyio, autoresearch
anyio.run(autoresearch.run, autoresearch.RunConfig(objective=..., measure=..., scope=(...,), yes=True))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from autoresearch.version import VERSION as __version__

if TYPE_CHECKING:
    from autoresearch.config import RunConfig
    from autoresearch.launch import run

__all__ = ["RunConfig", "__version__", "run"]
_HOMES = {"run": "autoresearch.launch", "RunConfig": "autoresearch.config"}


def __getattr__(name: str) -> Any:
    # Imported when first used: `autoresearch log` must start at once.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
