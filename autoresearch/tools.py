"""Summaries of known tools: test runners, linters, type checkers, coverage and benchmarks.

A tool offers quantities, such as `rate`, `count` and `time`; the objective's words choose among them. A summary is
known by its key, `<tool>.<quantity>`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from autoresearch.quantities import normalized, quantities

_LINE_LIMIT = 500
"""Characters; a longer line is no tool's summary."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One quantity of one tool's summary."""

    key: str
    """`<tool>.<quantity>`."""
    value: float
    line: str
    at_bound: bool = False
    """Nothing left to gain in the quantity's natural direction."""

    @property
    def quantity(self) -> str:
        return self.key.partition(".")[2]


Quantities = Mapping[str, tuple[float, str]]
"""Quantity to its value and the line it stands in."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool whose summary is known."""

    name: str
    read: Callable[[Sequence[str]], Quantities]
    words: frozenset[str]
    """Words of an objective that mean this tool."""
    defaults: tuple[str, ...] = ()
    """What may be meant where the objective names no quantity; empty: everything it printed."""


def _tests(line: str, counts: Mapping[str, float], seconds: float | None) -> dict[str, tuple[float, str]]:
    """The quantities of a test run from its counts of passed, failed, errors, skipped and warnings."""
    passed, failed, errors = (counts.get(name, 0.0) for name in ("passed", "failed", "errors"))
    ran = passed + failed + errors
    # A rate of no tests is no number; leaving it out would let another quantity stand in for it.
    rates = (passed / ran, (failed + errors) / ran) if ran else (math.nan, math.nan)
    values = {"rate": rates[0], "failure_rate": rates[1]}
    values |= {"count": passed, "failures": failed + errors, "errors": errors}
    values |= {name: counts[name] for name in ("skipped", "warnings") if name in counts}
    if seconds is not None:
        values["time"] = seconds
    return {name: (value, line) for name, value in values.items()}


_COUNTED = re.compile(r"(\d+) ([a-z][a-z ]*)")
_SINGULAR = {"error": "errors", "warning": "warnings", "ignored": "skipped"}


def _counts(text: str) -> dict[str, float]:
    """`2 failed, 10 passed, 1 error` as numbers by word."""
    pairs = [(word.strip(), float(number)) for number, word in _COUNTED.findall(text)]
    return {_SINGULAR.get(word, word): number for word, number in pairs}


_PYTEST = re.compile(
    r"(no tests ran|\d+ [a-z][a-z ]*(?:, \d+ [a-z][a-z ]*)*) in (\d+(?:\.\d+)?)s(?: \([\d:, days]+\))?"
)
_PYTEST_WORDS = {"passed", "failed", "errors", "skipped", "deselected", "xfailed", "xpassed", "warnings", "rerun"}


def _pytest(lines: Sequence[str]) -> Quantities:
    for line in reversed(lines):
        match = _PYTEST.fullmatch(line.strip("= "))
        if match:
            counts = _counts(match[1])
            if match[1] == "no tests ran" or _PYTEST_WORDS & counts.keys():
                return _tests(line, {"skipped": 0.0, "warnings": 0.0} | counts, float(match[2]))
    return {}


_RAN = re.compile(r"Ran (\d+) tests? in (\d+(?:\.\d+)?)s")
_VERDICT = re.compile(r"(?:OK|FAILED|NO TESTS RAN)(?: \(([a-z ]+=\d+(?:, [a-z ]+=\d+)*)\))?")

_NOTED = re.compile(r"([a-z][a-z ]*)=(\d+)")


def _unittest(lines: Sequence[str]) -> Quantities:
    verdicts = [(line, match) for line in lines if (match := _VERDICT.fullmatch(line.strip()))]
    if not verdicts:
        return {}
    line, verdict = verdicts[-1]
    noted = {name: float(number) for name, number in _NOTED.findall(verdict[1] or "")}
    skipped, expected = noted.get("skipped", 0.0), noted.get("expected failures", 0.0)
    errors, failed = noted.get("errors", 0.0), noted.get("failures", 0.0) + noted.get("unexpected successes", 0.0)
    runs = [match for text in lines if (match := _RAN.fullmatch(text.strip()))]
    if not runs:
        return {"failures": (failed + errors, line), "errors": (errors, line)}
    passed = float(runs[-1][1]) - skipped - expected - errors - failed
    counts = {"passed": max(0.0, passed), "failed": failed, "errors": errors, "skipped": skipped}
    return _tests(line, counts, float(runs[-1][2]))


_CARGO = re.compile(r"test result: (?:ok|FAILED)\. (\d+ passed; .*)")
_FINISHED = re.compile(r"finished in (\d+(?:\.\d+)?)s")


def _cargo(lines: Sequence[str]) -> Quantities:
    """All test binaries together: each prints its own line."""
    totals: dict[str, float] = {}
    seconds, last = 0.0, ""
    for line in lines:
        match = _CARGO.fullmatch(line.strip())
        if match:
            last = line
            for name, number in _counts(match[1]).items():
                totals[name] = totals.get(name, 0.0) + number
            finished = _FINISHED.search(match[1])
            seconds += float(finished[1]) if finished else 0.0
    return _tests(last, totals, seconds) if last else {}


_JEST = re.compile(r"Tests:\s+(.*\d+ total)")
_JEST_TIME = re.compile(r"Time:\s+(\S.*)")
_VITEST = re.compile(r"Tests\s+(\d+ [a-z]+(?: [a-z]+)*(?: \| \d+ [a-z]+(?: [a-z]+)*)*) \(\d+\)|Tests\s+no tests")
_VITEST_TIME = re.compile(r"Duration\s+(\S.*)")


def _script_tests(tests: re.Pattern[str], time: re.Pattern[str], lines: Sequence[str]) -> Quantities:
    found = [(line, match) for line in lines if (match := tests.fullmatch(line.strip()))]
    if not found:
        return {}
    line, match = found[-1]
    times = [quantities(timed[1]) for text in lines if (timed := time.fullmatch(text.strip()))]
    seconds = times[-1][0].value if times and times[-1] else None
    return _tests(line, {"skipped": 0.0} | _counts(match[1] or ""), seconds)


_GO_PACKAGE = re.compile(r"(?:ok  |FAIL)\s+\S+\s+(?:(\d+(?:\.\d+)?)s|\(cached\))(?:\s.*)?")
_GO_TEST = re.compile(r"\s*--- (PASS|FAIL|SKIP): \S+ \(\d+(?:\.\d+)?s\)")
_GO_BENCHMARK = re.compile(r"(Benchmark\S*?)(?:-\d+)?\s+\d+\s+(\d+(?:\.\d+)?) ns/op.*")


def _go(lines: Sequence[str]) -> Quantities:
    """Tests (with `-v`), seconds of all packages, and benchmarks, each by its name, in seconds per operation."""
    values: dict[str, tuple[float, str]] = {}
    counts: dict[str, float] = {}
    seconds, last = 0.0, ""
    for line in lines:
        if match := _GO_BENCHMARK.fullmatch(line.strip()):
            values[match[1]] = (float(match[2]) / 1e9, line)
        elif match := _GO_TEST.fullmatch(line):
            word = {"PASS": "passed", "FAIL": "failed", "SKIP": "skipped"}[match[1]]
            counts[word] = counts.get(word, 0.0) + 1
        elif match := _GO_PACKAGE.fullmatch(line.strip()):
            last, seconds = line, seconds + float(match[1] or 0)
    if values:
        return values
    if counts:
        return _tests(last or lines[-1], counts, seconds if last else None)
    return {"time": (seconds, last)} if last else {}


_RUFF = re.compile(r"Found (\d+) errors?(?: \((?:\d+ fixed, )(\d+) remaining\))?\.")
_MYPY = re.compile(r"Found (\d+) errors? in (\d+) files? \(.*\)|(?:.*\b)?no issues found\b.*", re.IGNORECASE)
_ESLINT = re.compile(r"(?:✖|x|×)? ?(\d+) problems? \((\d+) errors?, (\d+) warnings?\)")


def _ruff(lines: Sequence[str]) -> Quantities:
    for line in reversed(lines):
        if line.strip() == "All checks passed!":
            return {"errors": (0.0, line)}
        if match := _RUFF.fullmatch(line.strip()):
            return {"errors": (float(match[2] or match[1]), line)}
    return {}


def _mypy(lines: Sequence[str]) -> Quantities:
    for line in reversed(lines):
        if match := _MYPY.fullmatch(line.strip()):
            return {"errors": (float(match[1] or 0), line)}
    return {}


def _eslint(lines: Sequence[str]) -> Quantities:
    for line in reversed(lines):
        if match := _ESLINT.fullmatch(line.strip()):
            names = ("problems", "errors", "warnings")
            return {name: (float(number), line) for name, number in zip(names, match.groups(), strict=True)}
    return {}


_COVERAGE = (
    re.compile(r"\|? ?\**TOTAL\**[\s|*\d]*?(\d+(?:\.\d+)?)%[\s|*]*"),
    re.compile(r"All files\s+\|\s+(\d+(?:\.\d+)?) \|.*"),
    re.compile(r"(?:Lines|Statements)\s+: (\d+(?:\.\d+)?)% \( ?\d+/\d+ ?\)"),
    re.compile(r"total:\s+\(statements\)\s+(\d+(?:\.\d+)?)%"),
    re.compile(r"(\d+(?:\.\d+)?)% coverage, \d+/\d+ lines covered.*"),
)
_GO_COVERAGE = re.compile(r"(?:.*\s)?coverage: (\d+(?:\.\d+)?)% of statements.*")


def _coverage(lines: Sequence[str]) -> Quantities:
    """The total; where Go prints packages alone, their mean."""
    for line in reversed(lines):
        for pattern in _COVERAGE:
            if match := pattern.fullmatch(line.strip()):
                return {"percent": (float(match[1]), line)}
    packages = [(float(match[1]), line) for line in lines if (match := _GO_COVERAGE.fullmatch(line.strip()))]
    mean = sum(value for value, _ in packages) / len(packages) if packages else 0.0
    return {"percent": (mean, packages[-1][1])} if packages else {}


_HYPERFINE = re.compile(r"Time \((?:mean ± σ|abs ≡)\):\s+(\S.*)")


def _hyperfine(lines: Sequence[str]) -> Quantities:
    """Mean seconds; with several commands by their number, as `time1`, `time2`."""
    found = [(quantities(match[1])[0].value, line) for line in lines
             if (match := _HYPERFINE.fullmatch(line.strip())) and quantities(match[1])]  # fmt: skip
    return {f"time{number if len(found) > 1 else ''}": item for number, item in enumerate(found, 1)}


_CRITERION = re.compile(r"(.*?)\s*time:\s+\[\S+ \S+ (\S+ \S+) \S+ \S+\]")


def _criterion(lines: Sequence[str]) -> Quantities:
    """The middle estimate of each benchmark in seconds, by its name; a long name stands on the line before."""
    values = {}
    before = ""
    for line in lines:
        match = _CRITERION.fullmatch(line.strip())
        estimate = quantities(match[2]) if match else []
        if match and estimate:
            values[match[1] or before] = (estimate[0].value, line)
        before = line.strip()
    return values


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_RUN = ("rate", "count", "time")
TOOLS = (
    Tool("pytest", _pytest, _words("pytest"), _RUN),
    Tool("unittest", _unittest, _words("unittest unittests"), _RUN),
    Tool("cargo", _cargo, _words("cargo"), _RUN),
    Tool("jest", partial(_script_tests, _JEST, _JEST_TIME), _words("jest"), _RUN),
    Tool("vitest", partial(_script_tests, _VITEST, _VITEST_TIME), _words("vitest"), _RUN),
    Tool("ruff", _ruff, _words("ruff")),
    Tool("mypy", _mypy, _words("mypy")),
    Tool("eslint", _eslint, _words("eslint"), ("problems",)),
    Tool("coverage", _coverage, _words("coverage cov covered")),
    Tool("hyperfine", _hyperfine, _words("hyperfine")),
    Tool("criterion", _criterion, _words("criterion")),
    Tool("go", _go, _words("go golang")),
)

_RATE = _words("rate rates percent percentage ratio fraction share")
_FAILURES = _words("failure failures failed failing fail fails broken")
_ERRORS = _words("error errors")
_WARNINGS = _words("warning warnings")
_PASSED = _words("count pass passes passed passing green")
_TIME = _words("time times second seconds duration runtime elapsed slow slower fast faster quick quicker latency")
_TO_MAXIMIZE = frozenset({"rate", "count", "percent"})


def speaks_of_time(objective: str) -> bool:
    """Whether a duration is what the objective is about."""
    return bool(_TIME & _words(normalized(objective)))


def to_maximize(key: str) -> bool:
    """Whether more is better in the quantity's natural direction."""
    return key.partition(".")[2] in _TO_MAXIMIZE


def _wanted(words: frozenset[str]) -> list[str]:
    """The quantities that an objective speaks of, the clearest first."""
    bad = words & (_FAILURES | _ERRORS)
    wanted = []
    if words & _RATE:
        wanted.append("failure_rate" if bad else "rate")
    if (words & _ERRORS and words & _WARNINGS) or words & {"problem", "problems"}:
        wanted.append("problems")
    for meant, quantity in (
        (_TIME, "time"),
        (_WARNINGS, "warnings"),
        (_FAILURES, "failures"),
        (_ERRORS, "errors"),
        (frozenset({"skipped", "skips"}), "skipped"),
        (_PASSED, "count"),
    ):
        if words & meant:
            wanted.append(quantity)
    return wanted


def _summaries(tool: Tool, lines: Sequence[str]) -> dict[str, Summary]:
    """All quantities of a tool that the lines give, by quantity."""
    found = {name: Summary(f"{tool.name}.{name}", value, line) for name, (value, line) in tool.read(lines).items()}
    none_left = "failures" in found and found["failures"].value == 0
    return {name: replace(item, at_bound=_at_bound(item, none_left)) for name, item in found.items()}


def _at_bound(summary: Summary, no_failures: bool) -> bool:
    match summary.quantity:
        case "rate":
            return summary.value == 1
        case "percent":
            return summary.value == 100
        case "count":
            return no_failures and summary.value > 0
        case "failures" | "failure_rate" | "errors" | "warnings" | "problems" | "skipped":
            return summary.value == 0
    return False


def summary_lines(lines: Sequence[str]) -> frozenset[str]:
    """The lines in which known tools' summaries stand."""
    short = _short(lines)
    return frozenset(line for tool in TOOLS for _, line in tool.read(short).values())


def _short(lines: Iterable[str]) -> list[str]:
    return [line for line in lines if len(line) <= _LINE_LIMIT and not line.isspace() and line]


def meant(lines: Sequence[str], objective: str, maximize: bool | None) -> list[Summary]:
    """The summaries that the objective may mean; more than one is ambiguous.

    A tool that the objective names excludes the others; a quantity that it names excludes tools without it. Where the
    objective says which way is better, quantities that go this way come first.
    """
    words = _words(normalized(objective))
    wanted = sorted(_wanted(words), key=lambda name: maximize is not None and (name in _TO_MAXIMIZE) != maximize)
    found = [(tool, summaries) for tool in TOOLS if (summaries := _summaries(tool, _short(lines)))]
    found = [item for item in found if words & item[0].words] or [item for item in found if not _bare(item[1])]
    clear, possible = [], []
    for tool, summaries in found:
        named = [summaries[name] for name in wanted if name in summaries][:1] or _benchmarks(summaries, words)
        clear += named
        possible += named or [item for item in summaries.values() if _may_be_meant(item, tool, wanted)]
    return clear or possible


def _may_be_meant(item: Summary, tool: Tool, wanted: Sequence[str]) -> bool:
    """Whether a quantity counts that the objective does not name: never a time where it names something else."""
    if item.quantity == "time" and wanted:
        return False
    return item.quantity in tool.defaults or not tool.defaults


def _bare(summaries: Mapping[str, Summary]) -> bool:
    """Whether it is unittest's `OK` alone: any program may print that, so it is no sign of the tool."""
    return all(item.line.strip() == "OK" for item in summaries.values()) and "count" not in summaries


def _benchmarks(summaries: Mapping[str, Summary], words: frozenset[str]) -> list[Summary]:
    """Benchmarks whose whole name stands in the objective."""
    return [item for name, item in summaries.items() if _words(normalized(name)) and _words(normalized(name)) <= words]


def summary(lines: Sequence[str], key: str) -> Summary | None:
    """The summary with that key, in any case; None where the lines do not give it."""
    name = key.partition(".")[0].lower()
    short = _short(lines)
    for tool in TOOLS:
        if tool.name == name:
            items = _summaries(tool, short).values()
            return next((item for item in items if item.key.lower() == key.lower()), None)
    return None


_TRAILERS = re.compile(
    r"\[\*\] \d+ (?:potentially )?fixable with .*|No fixes available \(.*|.*unsafe[ -]fix(?:es)? available.*"
    r"|\d+ errors? and \d+ warnings? potentially fixable with .*"
)


def is_trailer(line: str) -> bool:
    """Whether the line only says how many findings a linter could fix, which is not a reading."""
    return len(line) <= _LINE_LIMIT and _TRAILERS.fullmatch(line.strip()) is not None
