"""Whether a candidate is kept: pure functions of measurements, the incumbent, the noise and the rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from autoresearch.metric import Direction
from autoresearch.trial import Reason, mean

LOOKS = (2, 3, 4, 6, 8)
"""Numbers of fresh runs after which a confirmation is looked at."""
POOL = 4
"""Measurements of the incumbent that a confirmation wants beside it."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Spread of one measurement, pooled over all repeated measurements of identical trees."""

    stdev: float = 0.0
    dof: int = 0
    """Degrees of freedom; 0: nothing was repeated yet."""

    @property
    def deterministic(self) -> bool:
        """Every repetition so far gave the same value."""
        return self.stdev == 0.0

    def with_value(self, pool: Sequence[float], value: float) -> Noise:
        """Pooled with one more value of a tree that gave `pool` so far."""
        if not pool:
            return self
        square = (value - mean(pool)) ** 2 * len(pool) / (len(pool) + 1)
        dof = self.dof + 1
        return Noise(math.sqrt((self.stdev**2 * self.dof + square) / dof), dof)

    def with_group(self, values: Sequence[float]) -> Noise:
        """Pooled with one more group of values, all measured on one tree."""
        if len(values) < 2:
            return self
        center = mean(values)
        squares = self.stdev**2 * self.dof + sum((value - center) ** 2 for value in values)
        dof = self.dof + len(values) - 1
        return Noise(math.sqrt(squares / dof), dof)


@dataclass(frozen=True, slots=True)
class Rule:
    """What the user asked a keep to be."""

    direction: Direction
    confidence: float = 0.99
    min_gain: float = 0.0
    """In the metric's unit."""
    repeats: int | None = None
    """Exactly this many fresh runs per confirmation; 1 trusts the screen."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a candidate. The screening value decides whether to look closer, never whether to keep."""

    screen: float | None
    fresh: Sequence[float]
    """Fresh runs of exactly the tree that would land."""
    incumbent: Sequence[float]
    """The incumbent's pool."""
    lines: int = 0
    """Lines added minus lines removed against the incumbent."""
    topped_up: bool = False
    """No more measurements of the incumbent can be had."""


class Decision(StrEnum):
    KEEP = "keep"
    DISCARD = "discard"
    MEASURE = "measure"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a candidate, and why."""

    decision: Decision
    reason: Reason | None = None
    candidate_runs: int = 0
    """Further fresh runs of the candidate that are wanted."""
    incumbent_runs: int = 0
    """Further runs of the incumbent that are wanted."""


def keep(reason: Reason) -> Verdict:
    """It is kept, for this reason."""
    return Verdict(Decision.KEEP, reason)


def discard(reason: Reason) -> Verdict:
    """It is not kept, for this reason."""
    return Verdict(Decision.DISCARD, reason)


def measure(candidate_runs: int, incumbent_runs: int = 0) -> Verdict:
    """More measurements are wanted."""
    return Verdict(Decision.MEASURE, None, candidate_runs, incumbent_runs)


def screen(value: float, parent: Sequence[float], lines: int, noise: Noise, rule: Rule) -> Verdict:
    """Whether one measurement is worth confirming: better than the parent's mean by one standard deviation.

    Fewer lines and not worse by as much is worth it too. A screen never keeps: the best of many noisy values is mostly
    luck.
    """
    gain = rule.direction.gain(mean(parent), value)
    if gain > noise.stdev and not _too_little(gain, lines, rule):
        return measure(1)
    if lines < 0 and gain >= -noise.stdev:
        return measure(1)
    return discard(Reason.WORSE if gain < -noise.stdev else Reason.EQUAL)


def judge(evidence: Evidence, noise: Noise, rule: Rule) -> Verdict:
    """Keep, discard or measure on, for a candidate whose screen was promising.

    Deterministic: two equal values decide. Noisy: fresh runs against the incumbent's pool, looked at after 2, 3, 4, 6
    and 8 runs, by a t-test on the pooled spread with the error shared evenly by the looks (Bonferroni).
    """
    values = [*([] if evidence.screen is None else [evidence.screen]), *evidence.fresh]
    if rule.repeats == 1 and values:
        return _decide_exactly(values[-1], evidence, rule)
    if noise.deterministic and rule.repeats is None:
        if len(values) < 2:
            return measure(2 - len(values))
        return _decide_exactly(values[-1], evidence, rule)
    return _look(evidence, noise, rule)


def _decide_exactly(value: float, evidence: Evidence, rule: Rule) -> Verdict:
    gain = rule.direction.gain(mean(evidence.incumbent), value)
    if gain > 0 and not _too_little(gain, evidence.lines, rule):
        return keep(Reason.IMPROVED)
    if gain >= 0 and evidence.lines < 0:
        return keep(Reason.SIMPLIFIED)
    return discard(Reason.WORSE if gain < 0 else Reason.EQUAL)


def _look(evidence: Evidence, noise: Noise, rule: Rule) -> Verdict:
    looks = LOOKS if rule.repeats is None else (rule.repeats,)
    runs = len(evidence.fresh)
    wanted = POOL if rule.repeats is None and not evidence.topped_up else 0
    missing = max(0, wanted - len(evidence.incumbent))
    if runs < looks[0] or missing:
        return measure(max(0, looks[0] - runs), missing)
    upcoming = next((look for look in looks if look > runs), None)
    gain = rule.direction.gain(mean(evidence.incumbent), mean(evidence.fresh))
    error = noise.stdev * math.sqrt(1 / runs + 1 / len(evidence.incumbent))
    threshold = student_t_quantile(1 - (1 - rule.confidence) / len(looks), noise.dof) * error
    if gain > threshold and not _too_little(gain, evidence.lines, rule):
        return keep(Reason.IMPROVED)
    if gain <= -error or (gain <= 0 and evidence.lines >= 0):
        return discard(Reason.UNCONFIRMED)
    if upcoming is not None:
        return measure(upcoming - runs)
    if gain >= 0 and evidence.lines < 0:
        return keep(Reason.SIMPLIFIED)
    return discard(Reason.UNCONFIRMED)


def _too_little(gain: float, lines: int, rule: Rule) -> bool:
    return gain < rule.min_gain and lines > 0


def student_t_quantile(probability: float, dof: int) -> float:
    """The quantile of Student's t with `dof` degrees of freedom; infinite for none.

    Hill, G. W. (1970), Algorithm 396: Student's t-quantiles, CACM 13(10).

    Raises:
        ValueError: probability is below 0.5, or not below 1.
    """
    if not 0.5 <= probability < 1:
        raise ValueError(f"probability {probability} is not from 0.5 to below 1")
    if probability == 0.5:
        return 0.0
    if dof < 1:
        return math.inf
    tail = 2 * (1 - probability)
    if dof == 1:
        return 1 / math.tan(tail * math.pi / 2)
    if dof == 2:
        return math.sqrt(2 / (tail * (2 - tail)) - 2)
    a = 1 / (dof - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * dof
    y = (d * tail) ** (2 / dof)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(tail / 2)
        y = x**2
        if dof < 5:
            c += 0.3 * (dof - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = a * y**2
        y = math.expm1(y)
    else:
        y = ((1 / (((dof + 6) / (dof * y) - 0.089 * d - 0.822) * (dof + 2) * 3) + 0.5 / (dof + 4)) * y - 1) * (
            dof + 1
        ) / (dof + 2) + 1 / y
    return math.sqrt(dof * y)


def min_gain(text: str, incumbent: float) -> float:
    """`--min-gain` in the metric's unit: a number, or a percentage of the incumbent."""
    if text.endswith("%"):
        return float(text[:-1]) / 100 * abs(incumbent)
    return float(text)
