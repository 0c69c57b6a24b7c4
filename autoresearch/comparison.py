"""Two trees measured afresh, by turns: what the difference is, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoresearch import plain
from autoresearch.distributions import student_t_quantile
from autoresearch.noise import Noise
from autoresearch.trial import mean

CONFIDENCE = 0.95
"""Of the interval."""
FACT = "remeasured"
"""Under which name a run notes what the comparison at its end found, or why there was none (`skipped`)."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Fresh values of the baseline and of what came of it."""

    baseline: tuple[float, ...]
    best: tuple[float, ...]
    interval: tuple[float, float] | None = None
    """Of best - baseline in the metric's unit, with `CONFIDENCE`; None: too few values to tell."""
    exact: bool = False
    """Every value of a tree was the same, always."""

    @property
    def difference(self) -> float:
        """Mean of best minus mean of baseline."""
        return mean(self.best) - mean(self.baseline)

    @property
    def words(self) -> str:
        """`0.998 -> 0.872 (improvement: -12.6%, 95% interval -13.1% to -12.0%, n = 5 + 5)`."""
        before, after = mean(self.baseline), mean(self.best)
        first, second = plain.apart(before, after)
        runs = f"n = {len(self.baseline)} + {len(self.best)}"
        return f"{first} -> {second} (improvement: {plain.improvement(before, after)}, {self._sure(before)}, {runs})"

    def _sure(self, before: float) -> str:
        if self.exact:
            return "exact"
        if self.interval is None:
            return "too few values for an interval"
        low, high = (plain.improvement(before, before + difference) for difference in self.interval)
        return f"{100 * CONFIDENCE:.0f}% interval {low} to {high}"

    def to_row(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "baseline": list(self.baseline),
            "best": list(self.best),
            "difference": self.difference,
            "interval": list(self.interval) if self.interval else None,
            "exact": self.exact,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Comparison:
        """What `to_row` made."""
        interval = row["interval"]
        return cls(
            tuple(row["baseline"]),
            tuple(row["best"]),
            (interval[0], interval[1]) if interval else None,
            row["exact"],
        )


def compare(baseline: Sequence[float], best: Sequence[float], noise: Noise) -> Comparison:
    """Compare fresh values, at least one of each.

    The interval is Welch's, for two means whose spreads may differ: Welch, B. L. (1947), The generalization of
    'Student's' problem when several different population variances are involved, Biometrika 34. Where all
    values of a tree agree, though the metric is known to be noisy, the run's pooled spread takes the place of theirs.
    """
    found = Comparison(tuple(baseline), tuple(best))
    same = len({*baseline}) == len({*best}) == 1
    if same and noise.deterministic:
        return Comparison(found.baseline, found.best, (found.difference, found.difference), exact=True)
    if min(len(baseline), len(best)) < 2:
        return found
    error, dof = (_pooled if same else _welch)(baseline, best, noise)
    reach = student_t_quantile((1 + CONFIDENCE) / 2, dof) * error
    if not math.isfinite(reach):
        return found
    return Comparison(found.baseline, found.best, (found.difference - reach, found.difference + reach))


def _welch(baseline: Sequence[float], best: Sequence[float], noise: Noise) -> tuple[float, int]:
    """Standard error and degrees of freedom, rounded down."""
    first, second = (statistics.variance(values) / len(values) for values in (baseline, best))
    whole = first + second
    # As shares of the whole: squares of tiny variances would be 0.
    shares = (first / whole) ** 2 / (len(baseline) - 1) + (second / whole) ** 2 / (len(best) - 1)
    return math.sqrt(whole), max(1, math.floor(1 / shares + 1e-9))


def _pooled(baseline: Sequence[float], best: Sequence[float], noise: Noise) -> tuple[float, int]:
    return noise.stdev * math.sqrt(1 / len(baseline) + 1 / len(best)), noise.dof
