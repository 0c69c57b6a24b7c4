"""Whether a candidate is kept: pure functions of measurements, the incumbent, the noise and the rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from autoresearch.distributions import student_t_quantile
from autoresearch.metric import Direction
from autoresearch.noise import Noise
from autoresearch.trial import Reason, mean

LOOKS = (2, 3, 4, 6, 8)
"""Numbers of fresh runs after which a confirmation is looked at."""
SPENT = (0.01, 0.05, 0.24, 0.30, 0.40)
"""How the error, 1 - confidence, is shared by the looks (Bonferroni). Early looks get little: what passes them passes
by far, so that the stored gain is not the luck of the first two runs (as in O'Brien and Fleming, 1979)."""
HOPELESS = (1.3, 1.75, 2.0, 2.25)
"""A gain of fewer standard errors than this ends a confirmation early; each look but the last has one."""
POOL = 4
"""Measurements of the incumbent that a confirmation wants beside it."""
POOL_AHEAD = 2
"""From POOL runs on, a confirmation wants a pool that is larger than itself: it serves the candidates after it, too."""
AGREE = 2
"""Equal values that decide where the metric is deterministic."""


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
    pairs: Sequence[float] | None = None
    """Gains over the incumbent, each of an interleaved pair; None: the fresh runs are compared with the pool. With
    them comes the noise of a difference."""
    implausible: bool = False
    """The gain is too good to be true."""


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

    Deterministic: two equal values decide, three where the gain is implausible. Noisy: fresh runs against the
    incumbent's pool, or interleaved pairs, looked at after 2, 3, 4, 6 and 8 of them, by Student's t-test on the pooled
    spread; the whole test holds the confidence.
    """
    values = [*([] if evidence.screen is None else [evidence.screen]), *evidence.fresh]
    if rule.repeats == 1 and values:
        return _decide_exactly(values[-1], evidence, rule)
    if noise.deterministic and rule.repeats is None:
        agreeing = AGREE + evidence.implausible
        if len(values) < agreeing:
            return measure(agreeing - len(values))
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
    """One look at a sequential test: keep above the look's quantile, stop where there is little hope, else go on."""
    looks = LOOKS if rule.repeats is None else (rule.repeats,)
    runs = len(evidence.fresh) if evidence.pairs is None else len(evidence.pairs)
    missing = _pool_wanted(POOL, evidence, rule)
    if runs < looks[0] or missing:
        return measure(max(0, looks[0] - runs), missing)
    gain, error = _gain(evidence, noise, runs, rule)
    place = max(place for place, look in enumerate(looks) if look <= runs)
    share = SPENT[place] if rule.repeats is None else 1.0
    threshold = student_t_quantile(1 - (1 - rule.confidence) * share, noise.dof) * error
    if gain > threshold and not _too_little(gain, evidence.lines, rule):
        return keep(Reason.IMPROVED)
    last = place == len(looks) - 1
    if evidence.lines < 0:
        more = None if last else looks[place + 1] - runs
        return _look_at_shorter(gain, error, noise, evidence.pairs is not None, more)
    if last or gain <= HOPELESS[place] * error:
        return discard(Reason.UNCONFIRMED)
    upcoming = looks[place + 1]
    return measure(upcoming - runs, _pool_wanted(pool_for(upcoming), evidence, rule))


def _look_at_shorter(gain: float, error: float, noise: Noise, paired: bool, more: int | None) -> Verdict:
    """Fewer lines are worth a keep where they cost nothing.

    Not worse by a standard deviation of one measurement, with 95% confidence: a test of non-inferiority at the last
    look alone. `more` fresh runs lead to the next look.
    """
    deviation = noise.stdev / math.sqrt(2) if paired else noise.stdev
    if gain <= -error - deviation / 2:
        return discard(Reason.UNCONFIRMED)
    if more is not None:
        return measure(more)
    if gain - student_t_quantile(0.95, noise.dof) * error > -deviation:
        return keep(Reason.SIMPLIFIED)
    return discard(Reason.UNCONFIRMED)


def pool_for(runs: int) -> int:
    """How large a pool a confirmation of so many fresh runs wants."""
    return runs + POOL_AHEAD if runs >= POOL else POOL


def _pool_wanted(size: int, evidence: Evidence, rule: Rule) -> int:
    """How many values the incumbent's pool lacks."""
    if evidence.pairs is not None or evidence.topped_up or rule.repeats is not None:
        return 0
    return max(0, size - len(evidence.incumbent))


def _gain(evidence: Evidence, noise: Noise, runs: int, rule: Rule) -> tuple[float, float]:
    """The gain and its standard error."""
    if evidence.pairs is not None:
        return mean(evidence.pairs), noise.stdev / math.sqrt(runs)
    gain = rule.direction.gain(mean(evidence.incumbent), mean(evidence.fresh))
    return gain, noise.stdev * math.sqrt(1 / runs + 1 / len(evidence.incumbent))


def smallest_gains(
    noise: Noise, confidence: float, *, paired: bool, repeats: int | None = None
) -> list[tuple[int, float]]:
    """(measurements, gain) for each look: what a confirmation tells from noise with a power of 80%.

    Measurements of the candidate and of the incumbent together; a pool that is there already costs less.
    """
    rows = []
    for look, share in zip(LOOKS, SPENT, strict=True) if repeats is None else [(repeats, 1.0)]:
        pool = look if paired or repeats is not None else pool_for(look)
        error = noise.stdev * (math.sqrt(1 / look) if paired else math.sqrt(1 / look + 1 / pool))
        dof = noise.dof + look - 1  # its own runs tell of the spread, too
        quantile = student_t_quantile(1 - (1 - confidence) * share, dof) + student_t_quantile(0.8, dof)
        rows.append((look + pool, quantile * error))
    return rows


def _too_little(gain: float, lines: int, rule: Rule) -> bool:
    return gain < rule.min_gain and lines > 0


def min_gain(text: str, incumbent: float) -> float:
    """`--min-gain` in the metric's unit: a number, or a percentage of the incumbent."""
    if text.endswith("%"):
        return float(text[:-1]) / 100 * abs(incumbent)
    return float(text)
