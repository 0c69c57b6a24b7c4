"""Bounds on secondary metrics: `peak_vram_mb <= 46000`, `p99_ms <= baseline * 1.05`.

constraint = NAME COMPARISON sum          the name as the output has it: without case, `_`, `-` and space are equal
comparison = <= | >= | < | > | == | !=
sum        = product {(+ | -) product}
product    = factor {(* | /) factor}
factor     = - factor | ( sum ) | NUMBER, with a unit if need be | baseline
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autoresearch import values
from autoresearch.metric import RESOURCES, Metric
from autoresearch.quantities import normalized, quantity
from autoresearch.trial import Measurement

BASELINE = "baseline"
"""Stands for what the unchanged code prints under the same name: the mean of its measurements."""
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
}
_PARTS = re.compile(r"([^<>=!]*)(<=|>=|==|!=|<|>)([^<>=!]*)")
_TOKEN = re.compile(r"\s*(?:(?P<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s?[A-Za-zµμ]*)|(?P<name>\w+)|(.))")
_LONGEST = 200
_EXAMPLE = "write it as `peak_vram_mb <= 46000` or `p99_ms <= baseline * 1.05`"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound on one number that a measurement names."""

    text: str
    """As the user wrote it."""
    name: str
    """As the user wrote it; `key` is what is looked up."""
    comparison: str
    expression: str
    """What the bound is made of; `bound` works it out."""

    @property
    def key(self) -> str:
        """The name as `numbers` has it."""
        return normalized(self.name)

    def bound(self, baseline: float) -> float:
        """The bound, in the unit that the name is measured in. NaN or an infinity where it divides by zero."""
        return _Sum(self.expression, baseline).value()

    def holds(self, value: float, baseline: float) -> bool:
        """Whether a value keeps the bound; one that is not finite keeps none."""
        return math.isfinite(value) and _COMPARISONS[self.comparison](value, self.bound(baseline))

    def excess(self, value: float, baseline: float) -> float:
        """How far a value lies on the wrong side of the bound; 0 where it holds."""
        return 0.0 if self.holds(value, baseline) else abs(value - self.bound(baseline))


def parse(text: str) -> Constraint:
    """Read a constraint.

    Raises:
        ValueError: it is none; one clause that says what is wrong.
    """
    shown = f"`{text if len(text) <= 60 else text[:57] + '...'}`"
    match = _PARTS.fullmatch(text)
    if len(text) > _LONGEST or match is None:
        raise ValueError(f"{shown} is not a bound on a number; {_EXAMPLE}")
    name, comparison, expression = (part.strip() for part in match.groups())
    if not re.search(r"[^\W\d_]", name) or normalized(name) == BASELINE:
        raise ValueError(f"{shown} does not begin with the name of a number; {_EXAMPLE}")
    try:
        _Sum(expression, 1.0).value()
    except ValueError as error:
        raise ValueError(f"{shown}: {error}; {_EXAMPLE}") from None
    return Constraint(text.strip(), name, comparison, expression)


def read(value: Any) -> tuple[str, ...]:
    """How the setting is read: a text or a list of texts, each a constraint.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(parse(text).text for text in values.texts(value))


def numbers(measurement: Measurement, metric: Metric | None) -> dict[str, float]:
    """What a constraint may name of a measurement: the numbers that it printed, the metric, and what it used up."""
    resources = (measurement.wall_seconds, measurement.cpu_seconds, measurement.peak_bytes / 2**20)
    found = dict(zip(map(normalized, RESOURCES), resources, strict=True))
    found |= {normalized(name): value for name, value in measurement.extra.items()}
    if metric is not None and metric.name and measurement.value is not None:
        found[normalized(metric.name)] = measurement.value
    return found


class _Sum:
    """The right side of a constraint, worked out while it is read: one method for each line of the grammar."""

    def __init__(self, text: str, baseline: float) -> None:
        self._tokens = [match[0].strip() for match in _TOKEN.finditer(text.strip())]
        self._baseline = baseline

    def value(self) -> float:
        """The value of the whole text.

        Raises:
            ValueError: it is no sum.
        """
        result = self._sum()
        if self._tokens:
            raise ValueError(f"`{self._tokens[0]}` is not expected there")
        return result

    def _next(self, wanted: str = "") -> str:
        """Take the next token, if it is one of `wanted`; empty at the end or for another one."""
        if self._tokens and (not wanted or self._tokens[0] in wanted):
            return self._tokens.pop(0)
        return ""

    def _sum(self) -> float:
        result = self._product()
        while sign := self._next("+-"):
            result += self._product() if sign == "+" else -self._product()
        return result

    def _product(self) -> float:
        result = self._factor()
        while sign := self._next("*/"):
            factor = self._factor()
            result = result * factor if sign == "*" else result / factor if factor else math.nan
        return result

    def _factor(self) -> float:
        if self._next("-"):
            return -self._factor()
        if self._next("("):
            result = self._sum()
            if not self._next(")"):
                raise ValueError("a `(` is not closed")
            return result
        token = self._next()
        if normalized(token) == BASELINE:
            return self._baseline
        number = quantity(token) if token[:1].isdigit() or token[:1] == "." else None
        if number is None:
            raise ValueError(f"`{token}` is neither a number nor `baseline`" if token else "it ends too early")
        return number
