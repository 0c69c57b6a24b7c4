"""What a command printed: bounded, readable ends of files that it may have written to spite us."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\n])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def end_of(path: Path, limit_bytes: int) -> str:
    """The last lines of a file, at most `limit_bytes` of it, without colours.

    Empty for what is not a regular file: a link, a pipe, a device. A line that the limit would cut is left out: half
    a number would be read as a number.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            return ""
        start = max(0, status.st_size - limit_bytes)
        file.seek(start)
        data = file.read(limit_bytes)
    if start > 0:
        data = re.split(rb"[\r\n]", data, maxsplit=1)[-1]
    return _ESCAPES.sub("", data.decode(errors="replace"))


def readable(text: str) -> str:
    """As a terminal would show it at last: overwritten progress lines and control characters left out."""
    lines = _OVERWRITTEN.sub("", text.replace("\r\n", "\n"))
    return _CONTROLS.sub("", lines.replace("\r", "\n"))


def tail_of(parts: Sequence[tuple[str, str]], limit_chars: int) -> str:
    """The ends of several outputs under their names, with equal shares of `limit_chars`; empty ones are left out."""
    shown = [(name, readable(text).strip("\n")) for name, text in parts if text.strip()]
    if len(shown) == 1:
        return shown[0][1][-limit_chars:]
    share = limit_chars // max(1, len(shown)) - 80
    return "\n".join(f"--- {name}\n{text[-share:]}" for name, text in shown)


def written_since(worktree: Path, folder: Path, names: Sequence[str], moment: float) -> list[Path]:
    """Those of the named files that lie in the worktree and were written after `moment` (seconds since the epoch)."""
    found = []
    root = worktree.resolve()
    for name in names:
        path = folder / name
        try:
            inside = path.parent.resolve().is_relative_to(root)
            if inside and path.lstat().st_mtime >= moment - 1.0:  # file systems round
                found.append(path)
        except OSError:
            continue
    return found
