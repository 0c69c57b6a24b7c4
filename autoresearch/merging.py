"""Merge two changes of one text where git does not: neighbouring lines.

git calls changes of neighbouring lines a conflict, because nobody looks at the result. Here the combination is measured
before it lands, so only changes of the same lines are one.
"""

from __future__ import annotations

from difflib import SequenceMatcher
from itertools import pairwise

_MAX_LINES = 20_000

Hunk = tuple[int, int, list[bytes]]
"""Lines [start, end) of the base, and what takes their place."""


def merge_lines(base: bytes, ours: bytes, theirs: bytes) -> bytes | None:
    """Both changes of `base`; None where they change the same lines, or add lines at the same place."""
    lines = base.splitlines(keepends=True)
    if len(lines) > _MAX_LINES:
        return None
    mine, others = _hunks(lines, ours), _hunks(lines, theirs)
    hunks = sorted([*mine, *(hunk for hunk in others if hunk not in mine)], key=lambda hunk: hunk[:2])
    if any(_collide(first, second) for first, second in pairwise(hunks)):
        return None
    merged, at = [], 0
    for start, end, replacement in hunks:
        merged += lines[at:start] + replacement
        at = end
    return b"".join(merged + lines[at:])


def _hunks(base: list[bytes], changed: bytes) -> list[Hunk]:
    lines = changed.splitlines(keepends=True)
    matcher = SequenceMatcher(None, base, lines, autojunk=False)
    return [(a, b, lines[c:d]) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal"]


def _collide(first: Hunk, second: Hunk) -> bool:
    """They overlap, or one adds lines where the other begins or ends."""
    adds = first[0] == first[1] or second[0] == second[1]
    return second[0] < first[1] or (adds and second[0] <= first[1])
