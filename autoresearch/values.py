"""How settings are read: each reader takes a flag's text or a TOML value and returns the value, or says what is wrong.

Readers raise ValueError with one clause, such as "`5x` is not a duration". A value that was read before is read as
itself, so that stored settings go through the same readers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Read = Callable[[Any], Any]

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+|\d+(?:\.\d+)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?B)?|B)?", re.IGNORECASE)
_TAG = re.compile(r"\w(?:[\w.-]*[\w-])?")


def text(value: Any) -> str:
    """One text that is not blank."""
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is not a text; put it in quotes")
    if not value.strip():
        raise ValueError("it is empty")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """A text or a list of texts."""
    if isinstance(value, str):
        return (text(value),)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{_shown(value)} is neither a text nor a list of texts")
    return tuple(text(item) for item in value)


def switch(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is neither true nor false")
    return value


def whole(minimum: int) -> Read:
    """A whole number that is at least `minimum`."""

    def read(value: Any) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()) else value
        if isinstance(number, bool) or not isinstance(number, int):
            raise ValueError(f"{_shown(value)} is not a whole number")
        if number < minimum:
            raise ValueError(f"{_shown(value)} is too small; it is at least {minimum}")
        return number

    return read


def number(value: Any) -> float:
    """A finite number."""
    try:
        result = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        raise ValueError(f"{_shown(value)} is not a number")
    return result


def positive(value: Any) -> float:
    """A finite number above zero."""
    result = number(value)
    if result <= 0:
        raise ValueError(f"{_shown(value)} is not above zero")
    return result


def probability(value: Any) -> float:
    """At least 0.5 and below 1."""
    result = number(value)
    if not 0.5 <= result < 1:
        raise ValueError(f"{_shown(value)} is not in the range 0.5 <= P < 1")
    return result


def duration(value: Any) -> float:
    """Seconds, from a number or from `300`, `90s`, `5m`, `1h`, `1h30m`."""
    if not isinstance(value, str):
        return positive(value)
    compact = value.strip().lower()
    if not _DURATION.fullmatch(compact):
        raise ValueError(f"{_shown(value)} is not a duration; write 300, 90s, 5m, 1h or 1h30m")
    parts = re.findall(r"([\d.]+)([smhd])", compact)
    return positive(sum(float(amount) * _SECONDS[unit] for amount, unit in parts) if parts else compact)


def size(value: Any) -> int:
    """Bytes, from a number or from `512M`, `2GiB` (powers of 1024), `2GB` (powers of 1000)."""
    match = _SIZE.fullmatch(str(value).strip())
    if isinstance(value, bool) or match is None:
        raise ValueError(f"{_shown(value)} is not a size; write 512M, 2GiB or a number of bytes")
    amount, prefix, suffix = match.groups()
    base = 1000 if (suffix or "").lower() == "b" else 1024
    return int(positive(float(amount) * base ** ("KMGT".index(prefix.upper()) + 1 if prefix else 0)))


def money(value: Any) -> float:
    """Dollars, not negative."""
    try:
        result = number(value.strip().removeprefix("$") if isinstance(value, str) else value)
    except ValueError:
        result = -1.0
    if result < 0:
        raise ValueError(f"{_shown(value)} is not an amount in dollars; write 5 or 2.50")
    return result


def ceiling(value: Any) -> float:
    """Dollars, or `none` for no limit (inf)."""
    return math.inf if value in ("none", math.inf) else money(value)


def gain(value: Any) -> str:
    """A number in the metric's unit or a share such as `0.5%`, not negative; stays text."""
    written = value.strip() if isinstance(value, str) else repr(number(value))
    try:
        amount = number(written.removesuffix("%"))
    except ValueError:
        amount = -1.0
    if amount < 0:
        raise ValueError(f"{_shown(value)} is neither a number from 0 on nor a share such as 0.5%")
    return written


def choice(*words: str) -> Read:
    """One of `words`."""

    def read(value: Any) -> str:
        if value not in words:
            raise ValueError(f"{_shown(value)} is not one of {', '.join(words)}")
        return str(value)

    return read


def tag(value: Any) -> str:
    """A run's name: the end of a branch name and the name of a folder."""
    name = text(value)
    if not _TAG.fullmatch(name) or ".." in name or name.endswith(".lock"):
        raise ValueError(f"{_shown(value)} cannot be part of a branch name; use letters, digits, `-`, `_` and `.`")
    return name


def proposer(value: Any) -> str:
    """claude, mutate, command or replay:FILE."""
    if value not in ("claude", "mutate", "command") and not re.fullmatch(r"replay:.+", str(value)):
        raise ValueError(f"{_shown(value)} is not one of claude, mutate, command, replay:FILE")
    return str(value)


def models(value: Any) -> tuple[str, ...]:
    """Names, each with an optional `=WEIGHT` that is above zero."""
    names = texts(value)
    for name in names:
        model, equals, weight = name.partition("=")
        if not model or (equals and not _is_positive(weight)):
            raise ValueError(f"{_shown(name)} is not NAME or NAME=WEIGHT with a weight above zero")
    return names


def row_value(value: Any) -> Any:
    """The value as plain JSON, which its reader reads back."""
    if isinstance(value, tuple):
        return list(value)
    if value == math.inf:
        return "none"
    return str(value) if isinstance(value, str) else value


def _is_positive(value: str) -> bool:
    try:
        return positive(value) > 0
    except ValueError:
        return False


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a table"
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{shown if len(shown) <= 60 else shown[:57] + '...'}`"
