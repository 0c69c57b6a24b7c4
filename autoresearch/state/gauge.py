"""A second number beside the metric: what the stand-in or the holdout command prints, read by the metric's rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoresearch import metric as metrics
from autoresearch.config import RunConfig
from autoresearch.distributions import student_t_quantile
from autoresearch.errors import UsageError
from autoresearch.metric import RESOURCES, Direction, Metric
from autoresearch.quantities import normalized
from autoresearch.trial import Measurement, mean

if TYPE_CHECKING:
    from autoresearch.state.run import Run

CONFIDENCE = 0.975
"""Of the t-test behind "clearly worse": about two standard deviations, more while the spread is hardly known."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviation of one value, pooled over trees; `dof` 0: no tree has two values."""

    stdev: float = 0.0
    dof: int = 0


@dataclass(slots=True)
class Gauge:
    """How a command is read, and its values by tree."""

    flag: str
    """The option that names the command, for what is said of it."""
    metric: Metric | None = None
    pools: dict[str, list[float]] = field(default_factory=dict)

    def choose(self, baseline: Measurement, config: RunConfig, direction: Direction) -> None:
        """Fix how it is read, on the unchanged code; the direction is the metric's.

        Raises:
            UsageError: the command fails there, or prints no number or several.
        """
        asked, objective = config.metric, config.objective
        if asked is not None and normalized(asked) not in map(normalized, RESOURCES):
            asked = asked if metrics.readings(baseline.stdout, objective, asked) else None
        found = metrics.readings(baseline.stdout, objective, asked)
        if len(found) > 1:
            names = ", ".join(reading.name or reading.line.strip()[:40] for reading in found[:5])
            raise UsageError(
                f"{self.flag}: its output has {len(found)} readings on the unchanged code ({names}); "
                "print the one that counts as `METRIC name=value`"
            )
        try:
            self.metric = metrics.choose(baseline, objective, asked, direction, "the command")
        except UsageError as error:
            raise UsageError(f"{self.flag}, on the unchanged code: {error}") from None

    def take(self, tree: str, measurement: Measurement) -> float | None:
        """One more value of a tree; None where there is none."""
        value = metrics.settle(measurement, self.metric).value if self.metric else None
        if value is not None:
            self.pools.setdefault(tree, []).append(value)
        return value

    @property
    def spread(self) -> Spread:
        """Over all trees that have more than one value."""
        groups = [pool for pool in self.pools.values() if len(pool) > 1]
        dof = sum(len(pool) - 1 for pool in groups)
        squares = sum((value - mean(pool)) ** 2 for pool in groups for value in pool)
        return Spread(math.sqrt(squares / dof), dof) if dof else Spread()


def clearly_worse(value: Sequence[float], than: Sequence[float], spread: Spread, direction: Direction) -> bool:
    """Whether one side is worse beyond noise, by Student's t-test with pooled spread; without spread by any loss."""
    loss = -direction.gain(mean(than), mean(value))
    if spread.stdev == 0.0:
        return loss > 0
    error = spread.stdev * math.sqrt(1 / len(value) + 1 / len(than))
    return loss > student_t_quantile(CONFIDENCE, spread.dof) * error


def tree_of(run: Run, trial: int) -> str:
    """The tree of an ended trial, which its values are kept by; empty where it has none."""
    if trial == 0:
        return run.given.base_tree
    ended = run.archive.trial(trial)
    return ended.tree or "" if ended else ""
