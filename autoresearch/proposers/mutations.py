"""How a site changes: numbers by steps, the rest by alternatives; and the edits that make it so (pure)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from autoresearch.proposers.sites import Site, whole
from autoresearch.trial import Edit


@dataclass(frozen=True, slots=True)
class Mutation:
    """One site and what shall stand there."""

    site: Site
    new: str


def stepped(token: str, step: float) -> str | None:
    """The number `token` times e**step, written in its style; from 0, a step away from it. None: it stays the same.

    A whole number stays whole and moves by at least 1. Other numbers keep four significant digits, or as many as the
    token has where that is more, up to six.
    """
    value = float(token.replace("_", ""))
    moved = value * math.exp(min(50.0, max(-50.0, step))) if value else math.copysign(max(abs(step), 0.1), step)
    if not math.isfinite(moved):
        return None
    if whole(token):
        beside = round(value) + (1 if moved > value else -1)
        new = str(beside if round(moved) == round(value) else round(moved))
    else:
        new = _written(moved, max(4, min(6, _digits(token))), token)
    return new if (float(new) - value) * (moved - value) > 0 else None


def edits_of(text: str, mutations: Sequence[Mutation]) -> tuple[str, tuple[Edit, ...]]:
    """The text with all mutations of one file, and the edits that make it so: as few whole lines as are unique in it.

    Sites may not overlap.
    """
    ordered = sorted(mutations, key=lambda mutation: mutation.site.start)
    path = ordered[0].site.path
    windows: list[tuple[int, int]] = []
    for mutation in ordered:
        start, end = _window(text, mutation.site.start, mutation.site.end)
        if windows and start < windows[-1][1]:
            start, end = _window(text, windows.pop()[0], end)
        windows.append((start, end))
    changed = _replaced(text, 0, len(text), ordered)
    edits = tuple(Edit(path, old=text[a:b], new=_replaced(text, a, b, ordered)) for a, b in windows)
    if len(edits) > 1 and _applied(text, edits) != changed:
        start, end = windows[0][0], windows[-1][1]
        edits = (Edit(path, old=text[start:end], new=_replaced(text, start, end, ordered)),)
    return changed, edits


def _digits(token: str) -> int:
    """Significant digits of a number as it is written."""
    return len(re.sub(r"[eE].*|[^\d]", "", token).lstrip("0"))


def _written(value: float, digits: int, token: str) -> str:
    """A fraction with at most so many significant digits, in scientific notation where the token is."""
    if "e" not in token.lower():
        return repr(float(f"{value:.{digits}g}"))
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    if "." in token and "." not in mantissa:
        mantissa += ".0"
    return f"{mantissa}{'E' if 'E' in token else 'e'}{int(exponent)}"


def _replaced(text: str, start: int, end: int, mutations: Sequence[Mutation]) -> str:
    """text[start:end] with those of the mutations that lie in it; they are in order."""
    parts, last = [], start
    for mutation in mutations:
        site = mutation.site
        if start <= site.start and site.end <= end:
            parts += [text[last : site.start], mutation.new]
            last = site.end
    return "".join([*parts, text[last:end]])


def _window(text: str, start: int, end: int) -> tuple[int, int]:
    """The whole lines around a span, and as many beside them as make them occur once."""
    start = text.rfind("\n", 0, start) + 1
    end = _line_end(text, max(start, end - 1))
    downwards = True
    while text.find(text[start:end], text.find(text[start:end]) + 1) >= 0:
        if (downwards and end < len(text)) or start == 0:
            end = _line_end(text, end)
        else:
            start = text.rfind("\n", 0, start - 1) + 1
        downwards = not downwards
    return start, end


def _line_end(text: str, offset: int) -> int:
    """The offset after the line break that ends the line at `offset`."""
    return text.find("\n", offset) + 1 or len(text)


def _applied(text: str, edits: Sequence[Edit]) -> str | None:
    """The text after the edits, one after another; None where one has no single place to go."""
    for edit in edits:
        if edit.old is None or edit.new is None or text.count(edit.old) != 1:
            return None
        text = text.replace(edit.old, edit.new)
    return text
