"""The named number: its direction, and how it is read from what a command printed."""

from __future__ import annotations

import math
import re
import shlex
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from autoresearch.errors import BaselineFailed, UsageError
from autoresearch.objective import names_in, says_less
from autoresearch.quantities import NamedValue, Quantity, clean_lines, named_values, normalized, quantities, quantity
from autoresearch.tools import Summary, is_trailer, meant, speaks_of_time, summary, summary_lines, to_maximize
from autoresearch.trial import Measurement, Reason


class Direction(StrEnum):
    """Which way is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    def gain(self, before: float, after: float) -> float:
        """How much better `after` is than `before`, in the metric's unit; positive is better."""
        return before - after if self is Direction.MINIMIZE else after - before

    def better(self, candidate: float, incumbent: float) -> bool:
        """Whether `candidate` is strictly better than `incumbent`."""
        return self.gain(incumbent, candidate) > 0


class ReaderKind(StrEnum):
    """The rules of reading, in the order in which they are tried."""

    REGEX = "regex"
    NAME = "name"
    """A line `METRIC name=value`, `name: value`, `name=value` or `name value`."""
    TOOL = "tool"
    """A known tool's summary; `key` is `<tool>.<quantity>`, as `pytest.rate`."""
    NUMBER = "number"
    """The only number in the last line that has one."""
    RESOURCE = "resource"
    """wall_seconds, cpu_seconds or peak_rss_mb of the measurement itself."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One rule for reading the metric. Chosen on the real baseline, stored with it, and the only rule afterwards."""

    kind: ReaderKind
    key: str = ""
    """The regex, the name as printed (`METRIC name` where marked so), `<tool>.<quantity>`, the resource; empty for
    NUMBER."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is optimized."""

    name: str
    """Empty where the output gives it none; the column of results.tsv is then `metric`."""
    direction: Direction
    reader: Reader
    nonzero_ok: bool = False
    """The baseline's exit status was not zero, so a candidate's need not be."""

    def to_row(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Metric:
        reader = Reader(ReaderKind(row["reader"]["kind"]), row["reader"]["key"])
        return cls(row["name"], Direction(row["direction"]), reader, row["nonzero_ok"])


@dataclass(frozen=True, slots=True)
class Reading:
    """A number that may be the metric."""

    reader: Reader
    """The rule that found it and finds it again."""
    name: str
    """Empty where the output gives it none."""
    value: float
    """As printed: NaN and infinities included."""
    line: str
    """The line it stands in."""
    at_bound: bool = False
    """Nothing left to gain in the natural direction of a known tool's summary."""


RESOURCES = ("wall_seconds", "cpu_seconds", "peak_rss_mb")
MEASURE = "the measure command"
_MARK = "METRIC "
"""Begins the key of a name that was read from `METRIC name=value` lines, which no other line replaces."""
_READINGS_SHOWN, _LINES_SHOWN, _LINE_SHOWN = 8, 5, 120
_EXTRA_NUMBERS, _EXTRA_NAME_LENGTH = 40, 40
# How a shell reports that the command in it was killed: 128 and one of these. SIGPIPE is an ordinary end in pipelines.
_KILLED = frozenset(128 + signal for signal in (2, 3, 4, 5, 6, 7, 8, 9, 11, 15, 24, 25, 31))


def direction_of(objective: str) -> Direction | None:
    """Which way is better by the objective's words; None where they do not say, or contradict each other."""
    less = says_less(objective)
    return None if less is None else Direction.MINIMIZE if less else Direction.MAXIMIZE


def readings(stdout: str, objective: str, asked: str | None = None) -> list[Reading]:
    """What may be the metric, by the first rule that finds anything; more than one is ambiguous.

    `asked` is a regex where it has a group, else a name. The measurement's own resources are not found here.

    Raises:
        UsageError: `asked` has more than one group.
    """
    lines = clean_lines(stdout)
    if asked is not None:
        return _asked(lines, asked)
    named = list(named_values(lines))
    marked = [_named(item) for item in named if item.marked]
    if marked:
        return _last_of_each(marked)
    known = summary_lines(lines)
    named = [item for item in named if item.line not in known]
    names = names_in(objective, {item.name for item in named})
    return (
        _last_of_each([_named(item) for item in named if item.name in names])
        or [_summed(item) for item in meant(lines, objective, _maximize(objective))]
        or _last_numbers(lines)
    )


def _maximize(objective: str) -> bool | None:
    less = says_less(objective)
    return None if less is None else not less


def _asked(lines: Sequence[str], asked: str) -> list[Reading]:
    pattern = _regex(asked)
    if pattern is not None:
        reader = Reader(ReaderKind.REGEX, asked)
        value = _by_regex(lines, pattern)
        return [] if value is None else [Reading(reader, "", value, asked)]
    named = [item for item in named_values(lines) if normalized(item.name) == normalized(asked)]
    # Marked lines are the program's own word: they come before a line that only looks alike.
    found = [item for item in named if item.marked] or named
    item = summary(lines, asked)
    return [_named(found[-1])] if found else [_summed(item)] if item else []


def _regex(asked: str) -> re.Pattern[str] | None:
    """The pattern, where `asked` is one: it has a group. Anything else is a name."""
    try:
        pattern = re.compile(asked, re.MULTILINE)
    except re.error as error:
        if "(" in asked and ")" in asked:
            raise UsageError(f"--metric {asked!r} is no regular expression: {error}") from None
        return None
    if pattern.groups > 1:
        raise UsageError(f"--metric {asked!r} has {pattern.groups} groups; keep one and write the others as (?:...)")
    return pattern if pattern.groups else None


def _named(item: NamedValue) -> Reading:
    key = _MARK + item.name if item.marked else item.name
    return Reading(Reader(ReaderKind.NAME, key), item.name, item.value, item.line)


def _summed(item: Summary) -> Reading:
    return Reading(Reader(ReaderKind.TOOL, item.key), item.key, item.value, item.line, item.at_bound)


def _last_of_each(found: Sequence[Reading]) -> list[Reading]:
    return list({normalized(item.name): item for item in found}.values())


def _last_numbers(lines: Sequence[str]) -> list[Reading]:
    """The numbers of the last line that has one; several are told apart by a regex each."""
    line, found = _last_line(lines)
    named = {item.value: item for item in named_values([line])}
    if len(found) == 1:
        name = named[found[0].value].name if found[0].value in named else ""
        return [Reading(Reader(ReaderKind.NUMBER), name, found[0].value, line)]
    values = [item.value for item in found]
    return [
        _named(named[item.value])
        if item.value in named and values.count(item.value) == 1
        else Reading(Reader(ReaderKind.REGEX, _picks(line, found, item)), "", item.value, line)
        for item in found[:_READINGS_SHOWN]
    ]


def _last_line(lines: Sequence[str]) -> tuple[str, list[Quantity]]:
    for line in reversed(lines):
        found = [] if is_trailer(line) else quantities(line)
        if found:
            return line, found
    return "", []


def _picks(line: str, found: Sequence[Quantity], picked: Quantity) -> str:
    """A regex for the line, whatever its numbers are, whose group is the picked one."""
    pattern, end = "", 0
    for item in found:
        number = r"[-+\d.,:eE_]+" + (r"\s?[A-Za-zµμ%/]+" if item.unit else "")
        pattern += _literal(line[end : item.start]) + (f"({number})" if item is picked else number)
        end = item.end
        if item is picked:
            break
    return f"^{pattern}"


def _literal(text: str) -> str:
    return r"\s+".join(re.escape(part) for part in re.split(r"\s+", text))


def _read(lines: Sequence[str], reader: Reader) -> tuple[float, bool] | None:
    """The value by a stored rule, and whether nothing is left to gain; the last match counts. Never ambiguous."""
    match reader.kind:
        case ReaderKind.REGEX:
            value = _by_regex(lines, re.compile(reader.key, re.MULTILINE))
        case ReaderKind.NAME:
            marked = reader.key.startswith(_MARK)
            name = normalized(reader.key.removeprefix(_MARK))
            found = [item for item in named_values(lines) if normalized(item.name) == name and item.marked >= marked]
            value = found[-1].value if found else None
        case ReaderKind.TOOL:
            item = summary(lines, reader.key)
            return (item.value, item.at_bound) if item else None
        case _:
            numbers = _last_line(lines)[1]
            value = numbers[-1].value if numbers else None
    return None if value is None else (value, False)


def _by_regex(lines: Sequence[str], pattern: re.Pattern[str]) -> float | None:
    """The group of the last match; NaN where it is not a number."""
    matches = deque(pattern.finditer("\n".join(lines)), maxlen=1)
    if not matches:
        return None
    value = quantity(matches[0][1] or "")
    return math.nan if value is None else value


def choose(
    measurement: Measurement, objective: str, asked: str | None, direction: Direction | None, command: str = MEASURE
) -> Metric:
    """Fix the metric on the real baseline's measurement, whose `stdout` is filled; `command` is what errors call it.

    Raises:
        UsageError: the baseline failed, no number or several were found, or the direction is not known.
    """
    _refuse_failed(measurement)
    way = direction or direction_of(objective)
    resource = _resource_meant(measurement, objective, asked, way)
    if resource:
        name, reader = resource, Reader(ReaderKind.RESOURCE, resource)
    else:
        found = readings(measurement.stdout, objective, asked)
        if not found:
            raise BaselineFailed(_nothing_found(measurement, asked, command))
        if len(found) > 1:
            raise UsageError(_ambiguous(found))
        name, reader = found[0].name, found[0].reader
        if not math.isfinite(found[0].value):
            raise UsageError(f"the baseline's metric is {found[0].value}, not a finite number: {_cut(found[0].line)}")
    if way is None:
        raise UsageError(f"the objective {objective!r} does not say which way is better; add --minimize or --maximize")
    return Metric(name, way, reader, nonzero_ok=measurement.exit_code != 0)


def _resource_meant(measurement: Measurement, objective: str, asked: str | None, way: Direction | None) -> str | None:
    """The resource that was asked for, or time where the objective speaks of it and the output has no number."""
    if asked is not None:
        return next((name for name in RESOURCES if normalized(name) == normalized(asked)), None)
    timed = speaks_of_time(objective) and way is not Direction.MAXIMIZE and measurement.exit_code == 0
    if not timed or readings(measurement.stdout, objective):
        return None
    return "cpu_seconds" if "cpu" in normalized(objective).split() else "wall_seconds"


def _refuse_failed(measurement: Measurement) -> None:
    reason = _failure(measurement, nonzero_ok=True)
    if reason is None:
        return
    code = measurement.exit_code or 0
    said = {
        Reason.TIMEOUT: "the baseline did not end within its time limit; raise --timeout or measure less",
        Reason.MEMORY: "the baseline ran out of memory; free some or use fewer --workers",
        Reason.BUILD_FAILED: "the build command fails on the unchanged code",
        Reason.CHECKS_FAILED: "a check fails on the unchanged code",
        Reason.SIGNAL: f"the baseline was killed by signal {-code if code < 0 else code - 128}",
    }.get(reason, f"the baseline failed: {reason}")
    raise BaselineFailed(said + _last_lines(measurement))


def _ambiguous(found: Sequence[Reading]) -> str:
    picks = [f"  --metric {shlex.quote(item.reader.key.removeprefix(_MARK))}" for item in found[:_READINGS_SHOWN]]
    width = max(map(len, picks))
    shown = [f"{pick:{width}}  {item.value!r}" for pick, item in zip(picks, found, strict=False)]
    more = [f"  and {len(found) - len(shown)} more"] if len(found) > len(shown) else []
    return "\n".join([f"the output has {len(found)} readings; say which one is the metric:", *shown, *more])


def _nothing_found(measurement: Measurement, asked: str | None, command: str) -> str:
    failed = f"exited with status {measurement.exit_code} and " if measurement.exit_code else ""
    if asked is None:
        resources = ", ".join(RESOURCES)
        said = f"{command} {failed}printed no number; "
        if failed:
            said += "make it work on the unchanged code first"
        else:
            said += "print one to stdout" + (f", or use --metric with {resources}" if command == MEASURE else "")
    else:
        names = list(dict.fromkeys(item.name for item in named_values(clean_lines(measurement.stdout))))
        has = f"; it names {', '.join(names[:_READINGS_SHOWN])}" if names else ""
        said = f"{command} {failed}printed nothing that --metric {shlex.quote(asked)} reads{has}"
    return said + _last_lines(measurement)


def _last_lines(measurement: Measurement) -> str:
    """What it printed last, indented; says so where that is nothing."""
    printed = [line for line in clean_lines(measurement.tail or measurement.stdout) if line.strip()]
    if not printed:
        return "\nit printed nothing"
    return "\nit printed last:" + "".join(f"\n  {_cut(line)}" for line in printed[-_LINES_SHOWN:])


def _cut(line: str) -> str:
    text = line.strip()
    return text if len(text) <= _LINE_SHOWN else text[: _LINE_SHOWN - 3] + "..."


def _failure(measurement: Measurement, nonzero_ok: bool) -> Reason | None:
    """Why the measurement counts as failed whatever it printed; None: its output decides."""
    code = measurement.exit_code
    if measurement.failure is not None:
        return measurement.failure
    if code is None:
        return Reason.TIMEOUT
    if code < 0 or code in _KILLED:
        return Reason.SIGNAL
    return None if code == 0 or nonzero_ok else Reason.EXIT


def settle(measurement: Measurement, metric: Metric) -> Measurement:
    """Fill `value`, `failure` and `at_bound` by the stored rule. A settled measurement stays as it is; never raises."""
    if measurement.value is not None:
        return measurement
    failure = _failure(measurement, metric.nonzero_ok)
    if failure is not None:
        return replace(measurement, failure=failure)
    if metric.reader.kind is ReaderKind.RESOURCE:
        read: tuple[float, bool] | None = _resource(measurement, metric.reader.key), False
    else:
        read = _read(clean_lines(measurement.stdout), metric.reader)
    if read is None or not math.isfinite(read[0]):
        return replace(measurement, failure=Reason.NO_METRIC)
    natural = to_maximize(metric.reader.key) == (metric.direction is Direction.MAXIMIZE)
    return replace(measurement, value=read[0], at_bound=read[1] and natural, stdout="")


def _resource(measurement: Measurement, name: str) -> float:
    if name == "peak_rss_mb":
        return measurement.peak_bytes / 2**20
    return measurement.cpu_seconds if name == "cpu_seconds" else measurement.wall_seconds


def secondary(text: str, primary: Metric | None) -> dict[str, float]:
    """The other numbers that the output names with `:` or `=`: the last value of each, the last names, finite only."""
    numbers: dict[str, float] = {}
    main = normalized(primary.name) if primary else ""
    for item in named_values(clean_lines(text)):
        usable = item.explicit and math.isfinite(item.value) and len(item.name) <= _EXTRA_NAME_LENGTH
        if usable and normalized(item.name) != main:
            numbers.pop(item.name, None)
            numbers[item.name] = item.value
    return dict(list(numbers.items())[-_EXTRA_NUMBERS:])


_RUFF_TAIL = re.compile(r"\|\s*tail\b[^|;&<>()]*$")


def suggested_command(measure: str, stdout: str) -> str | None:
    """The measure command that keeps ruff's count, where `tail` left only the trailer below it; else None."""
    printed = [line for line in clean_lines(stdout) if line.strip()]
    if not printed or not is_trailer(printed[-1]) or summary(printed, "ruff.errors"):
        return None
    command, tails = _RUFF_TAIL.subn("| grep -E '^Found|^All checks'", measure.rstrip())
    return command if tails and re.search(r"\bruff\b", measure) else None
