"""Numbers in what a command printed: with their units, and with the names that stand before them.

Everything here takes time linear in the text: names and what follows a number are looked at in windows of fixed size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[()][0-9A-Z]|[@-Z\\^_])")
_TIMESTAMP = re.compile(
    r"\s*\[?(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[T ])?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?"
    r"(?:Z|[+-][0-9]{2}:?[0-9]{2})?\]?(?:\s+-)?\s+(?=\S)"
)

_SCALES: dict[str, tuple[float, float]] = {
    # unit in lower case: (factor, divisor); dividing by a power of ten is exact where multiplying is not
    **{word: (1, 1) for word in ("%", "x", "×", "b", "byte", "bytes", "s", "sec", "secs", "second", "seconds")},
    **{word: (1, 1e3) for word in ("ms", "msec", "msecs", "millisecond", "milliseconds")},
    **{word: (1, 1e6) for word in ("us", "µs", "μs", "usec", "usecs", "microsecond", "microseconds")},
    **{word: (1, 1e9) for word in ("ns", "nsec", "nsecs", "nanosecond", "nanoseconds")},
    **{word: (60, 1) for word in ("min", "mins", "minute", "minutes")},
    **{word: (3600, 1) for word in ("h", "hr", "hrs", "hour", "hours")},
    **{f"{letter}b": (1000.0**power, 1) for power, letter in enumerate("kmgtp", 1)},
    **{f"{letter}ib": (1024.0**power, 1) for power, letter in enumerate("kmgtp", 1)},
}
# As `du -h` and `ls -h` print; 1024 keeps `998K` below `1.0M` whichever base the program had in mind.
_LETTERS: dict[str, tuple[float, float]] = {letter: (1024.0**power, 1) for power, letter in enumerate("kmgt", 1)}
_MINUTE_LETTER = "m"

_BEFORE = r"(?<![\w.@#\\-])(?<!(?<![0-9\s])/)"
_AFTER = r"(?![\w]|\.[0-9]|-\w|:[0-9])"
_NUMBER = (
    r"(?>[+\-−]?(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])|[0-9][0-9_]*|(?=\.[0-9]))"
    r"(?:\.[0-9]+|\.(?=[eE][+-]?[0-9]))?(?:[eE][+-]?[0-9]+)?)"
)
_WORDS = "|".join(sorted((re.escape(word) for word in _SCALES if word != "b"), key=len, reverse=True))
_UNIT = rf"(?:[ \u00a0]?(?i:{_WORDS})|[ \u00a0]?B|[kKMGTm])(?:/[A-Za-z]+)?"
_HOURS, _MINUTES = r"[0-9]+ ?h(?:ours?|rs?)?,? ?", r"[0-9]+ ?m(?:in(?:ute)?s?)?,? ?"
_SECONDS = r"[0-9]+(?:\.[0-9]+)? ?s(?:ec(?:ond)?s?)?"
_QUANTITY = re.compile(
    rf"{_BEFORE}(?:"
    rf"(?P<parts>{_HOURS}{_MINUTES}(?:{_SECONDS})?|{_MINUTES}{_SECONDS})(?<! )(?![\w/-])"
    rf"|(?<!:)(?P<clock>[0-9]{{1,3}}(?::[0-5][0-9]){{1,2}}(?:\.[0-9]+)?)(?![\w:])"
    rf"|(?P<number>{_NUMBER})(?:(?P<unit>{_UNIT})(?![\w/-])|{_AFTER})"
    r"|(?P<odd>[+-]?(?:nan|NaN|NAN|inf|Inf|[iI]nfinity|∞))(?![\w-])"
    r")"
)
_PART = re.compile(r"([0-9.]+) ?([hms])")

_NAME_WINDOW, _NAME_LIMIT, _NAME_WORDS, _REST_WINDOW = 120, 60, 6, 80
_NAME_MARKS = " \t\u00a0\"'`*_#•-|"
_NAME_BREAK = re.compile(r"[,;|│\t{}\[\]>\"`•]|\s{2,}|\s-\s|:(?![^(]*\))")
_ENDS = r"[\"'`*_.]*\s*(?:$|[;|│()\[\]{}±]|,(?![0-9])|\+/-|-\s)"
_ENDED = re.compile(_ENDS)
_ENDED_AFTER_COLON = re.compile(
    rf"{_ENDS}|\s+[A-Za-z_][\w ./@%()-]{{0,40}}[:=]"
    r"|\s?(?!(?:passed|passing|failed|failing|fail|pass|skipped|pending|todo|ok|total)\b)"
    rf"[A-Za-z%µμ°][A-Za-z%µμ°/²³ ]{{0,30}}(?:{_ENDS})"
)
_MARKED = re.compile(r"\s*METRIC\s+([^=]{1,80}?)\s*=(.*)")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in a line, brought to bytes or seconds where it has a unit; a percentage stays as printed."""

    value: float
    """NaN and infinities included."""
    start: int
    end: int
    unit: str = ""


@dataclass(frozen=True, slots=True)
class NamedValue:
    """A number and the name it was printed with."""

    name: str
    value: float
    line: str
    marked: bool = False
    """From a line `METRIC name=value`."""
    explicit: bool = True
    """`:` or `=` stood between name and value."""


def clean_lines(text: str) -> list[str]:
    """The lines without ANSI codes; a carriage return ends a line."""
    return _ESCAPES.sub("", text).splitlines()


def quantities(line: str) -> list[Quantity]:
    """The numbers of a line, from left to right; a time stamp at its start is none."""
    stamp = _TIMESTAMP.match(line)
    start = stamp.end() if stamp else 0
    return [_quantity(match) for match in _QUANTITY.finditer(line, start)]


def quantity(text: str) -> float | None:
    """The number that is the whole text; None where it is not one number."""
    stripped = text.strip()
    match = _QUANTITY.fullmatch(stripped)
    return _quantity(match).value if match else None


def _quantity(match: re.Match[str]) -> Quantity:
    start, end = match.span()
    if match["parts"]:
        seconds = sum(float(amount) * {"h": 3600, "m": 60, "s": 1}[unit] for amount, unit in _PART.findall(match[0]))
        return Quantity(seconds, start, end, "s")
    if match["clock"]:
        seconds = 0.0
        for part in match["clock"].split(":"):
            seconds = seconds * 60 + float(part)
        return Quantity(seconds, start, end, "s")
    if match["odd"]:
        return Quantity(float(match["odd"].replace("∞", "inf")), start, end)
    number = float(match["number"].replace(",", "").replace("_", "").replace("−", "-"))
    unit = (match["unit"] or "").strip()
    factor, divisor = _scale(unit.partition("/")[0])
    return Quantity(number * factor / divisor, start, end, unit)


def _scale(unit: str) -> tuple[float, float]:
    if unit == _MINUTE_LETTER:
        return 60, 1
    return _SCALES.get(unit.lower()) or _LETTERS.get(unit.lower()) or (1, 1)


def normalized(text: str) -> str:
    """Words in lower case with single spaces: names that are equal up to case, `_`, `-` and space become equal."""
    return re.sub(r"[\W_]+", " ", text).strip().lower()


def named_values(lines: Iterable[str]) -> Iterator[NamedValue]:
    """The named numbers: `METRIC name=value`, `name: value`, `name=value`, `name value`; several on a line count."""
    for line in lines:
        marked = _MARKED.match(line)
        if marked:
            value = quantity(marked[2].strip().strip("\"'"))
            # A marked line that holds no number must not let an earlier one count.
            yield NamedValue(marked[1], math.nan if value is None else value, line, marked=True)
        else:
            yield from _named_in(line, quantities(line))


def _named_in(line: str, found: Sequence[Quantity]) -> Iterator[NamedValue]:
    taken = previous = 0
    aside = line.find("(") if "(" in line else len(line)
    for item in found:
        left = line[max(taken, item.start - _NAME_WINDOW) : item.start]
        bare = left.rstrip(" \t\u00a0\"'`*_$~≈")
        rest = line[item.end : item.end + _REST_WINDOW]
        explicit = bare.endswith((":", "="))
        if explicit:
            label = bare[:-1]
            if bare[-1] == "=" and previous > taken:
                label = label[max(0, previous - (item.start - len(left))) :]
        else:
            # In brackets, as in `(setup 3ms, tests 9ms)`, only `:` and `=` make a name.
            label = left if left[-1:].isspace() and previous == taken and item.start < aside else ""
        name = _name(label)
        previous = item.end
        if name and (_ENDED_AFTER_COLON if explicit else _ENDED).match(rest):
            yield NamedValue(name, item.value, line, explicit=explicit)
            taken = item.end


def _name(label: str) -> str:
    """The name at the end of a label, without log prefixes, quotes and bullets; empty where there is none."""
    whole = label.strip(_NAME_MARKS)
    if whole.endswith(("=", "<", ">", "!")):
        return ""
    name = _NAME_BREAK.split(whole)[-1].strip(_NAME_MARKS).lstrip("(")
    usable = len(name) <= _NAME_LIMIT and len(name.split()) <= _NAME_WORDS and re.search(r"[^\W\d_]", name)
    return name if usable else ""
