"""The plan as text: what a run is about to do, to be read before the one question."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from autoresearch import plain
from autoresearch.plan import Plan

_INDENT = 2
_WIDEST_LABEL = 20
_NARROWEST_TEXT = 20
_MARK = "! "


def render(plan: Plan, width: int = 80) -> str:
    """Labels and values in two columns, wrapped to `width` columns, then the notes; ends with a line break."""
    longest = max((len(label) for label, _ in plan.rows), default=0)
    column = _INDENT + min(longest, _WIDEST_LABEL) + 2
    rows = [line for label, text in plan.rows for line in _row(plain.one_line(label), text, column, width)]
    notes = [line for note in plan.notes for line in _wrapped(note, _MARK, " " * len(_MARK), width)]
    return "\n".join([*rows, *([""] if rows and notes else []), *notes]) + "\n"


def _row(label: str, text: str, column: int, width: int) -> Iterator[str]:
    first = f"{'':{_INDENT}}{label}"
    if len(first) + 2 > column:
        yield first
        first = ""
    yield from _wrapped(text, f"{first:{column}}", " " * column, width)


def _wrapped(text: str, first: str, following: str, width: int) -> Iterator[str]:
    room = max(width, len(following) + _NARROWEST_TEXT)
    for line in plain.lines(text).expandtabs(4).split("\n"):
        wrapped = textwrap.wrap(line, room, initial_indent=first, subsequent_indent=following, break_on_hyphens=False)
        yield from wrapped or [first.rstrip()]
        first = following
