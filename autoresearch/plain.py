"""Texts and numbers made safe and short to show.

Hypotheses and output come from models and programs: a control character in them would steer the user's terminal, and a
lone surrogate cannot be printed at all. Nothing that was stored reaches a screen or a table but through here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

_CONTROL = "\x00-\x1f\x7f-\x9f"
_REORDERING = "\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Marks that change the direction of the text around them: what is read is then not what is there."""
_BREAKS = re.compile(f"[{_CONTROL}\u2028\u2029]+")
_UNPRINTABLE = re.compile(f"[{_REORDERING}\ud800-\udfff]")
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def one_line(text: str) -> str:
    """The text on one line: tabs, line breaks and control characters become one space, surrogates U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", _BREAKS.sub(" ", text)).strip()


def lines(text: str) -> str:
    """The text with its lines and tabs, everything else that would steer a terminal as U+FFFD; CR ends a line."""
    unified = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub("\ufffd", _STEERING.sub("\ufffd", unified))


def number(value: float, digits: int = 6) -> str:
    """A number as short as is truthful: whole numbers in full, others with `digits` significant digits."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    if 10.0**digits <= abs(value) < 1e15:
        return f"{value:.1f}"
    return f"{value:.{digits}g}"


def apart(first: float, second: float) -> tuple[str, str]:
    """Two numbers, with as many digits as it takes to tell them apart where they differ."""
    for digits in (6, 9, 12):
        pair = number(first, digits), number(second, digits)
        if first == second or pair[0] != pair[1]:
            return pair
    return repr(first), repr(second)


def improvement(baseline: float, best: float) -> str:
    """(best - baseline) / |baseline|, signed, in percent; with a baseline of 0 the difference."""
    difference = best - baseline
    if difference == 0:
        return "0" if baseline == 0 else "0.0%"
    if baseline == 0:
        return f"{'+' if difference > 0 else ''}{number(difference)}"
    percent = 100.0 * difference / abs(baseline)
    return f"{percent:+.1f}%" if 0.05 <= abs(percent) < 1e6 else f"{percent:+.2g}%"


def duration(seconds: float) -> str:
    """Seconds in the two units that matter: `3d 4h`, `1h 12m`, `3m 05s`, `12.3s`, `0.04s`."""
    if 0 < seconds < 0.1:
        return f"{max(seconds, 0.01):.2f}s"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def times(count: int) -> str:
    """How often: `once`, `3 times`."""
    return "once" if count == 1 else f"{count} times"


def dollars(usd: float) -> str:
    """Money; fractions of a cent are shown where that is all there is."""
    return f"${usd:.2f}" if usd == 0 or usd >= 0.01 else f"${usd:.4f}"


def pairs(numbers: Mapping[str, float]) -> str:
    """Named numbers on one line: `peak_vram_mb 45060.2, mfu 0.4`."""
    return ", ".join(f"{one_line(name)} {number(value)}" for name, value in sorted(numbers.items()))
