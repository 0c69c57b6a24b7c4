"""Where a path lies, when the checkout can be reached by several names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path


def spellings(folder: Path, environ: Mapping[str, str]) -> tuple[str, ...]:
    """All known names of a folder, absolute: the real one first, then those through links.

    The shell's spelling in PWD is the one that tools wrote into their files and into PATH.
    """
    real = os.path.realpath(folder)
    names = [real, os.path.abspath(folder)]
    shell = environ.get("PWD", "")
    if os.path.isabs(shell):
        names += [str(each) for each in (Path(shell), *Path(shell).parents) if os.path.realpath(each) == real]
    return tuple(dict.fromkeys(names))


def inside(path: str, roots: Iterable[str]) -> str | None:
    """`path` relative to the root that it lies in, `.` for a root itself; None where it lies elsewhere."""
    for root in roots:
        relative = os.path.relpath(path, root)
        if relative != os.pardir and not relative.startswith(os.pardir + os.sep):
            return relative
    return None
