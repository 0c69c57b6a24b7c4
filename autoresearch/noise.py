"""How noisy a metric is, and what disturbs it: spread, drift, differences between slots, load. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import NormalDist
from typing import Any

from autoresearch import plain
from autoresearch.distributions import f_tail, student_t_quantile
from autoresearch.trial import mean

FACT = "noise"
"""Under which name a run notes what is known of it."""
ALARM = 0.001
"""How probable an alarm about drift or slots may be where there is none: it is looked for again and again."""
LEAST_ORDERED = 8
"""Fewer values in order say nothing about drift."""
PRIOR_DOF = 6
"""Until differences of pairs have shown their own spread, that of single measurements speaks for it."""
BEYOND_USE = 4.0
"""How many times more information one measurement at a time must give before the others are stopped for it."""


class Kind(StrEnum):
    """What kind of number the metric is."""

    DETERMINISTIC = "deterministic"
    """Every repetition so far gave the same value."""
    NOISY = "noisy"
    TIME_LIKE = "time-like"
    """What else runs on the machine changes it."""


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

    def of_differences(self, pairs: Noise) -> Noise:
        """The spread of a difference of two interleaved measurements, given what `pairs` have shown of it.

        With few pairs this spread of single measurements, twice as a variance, is pooled in: where anything drifts it
        is too wide, which errs on the safe side.
        """
        known = pairs.dof >= PRIOR_DOF and not pairs.deterministic  # equal counts, say, are not without noise
        if known or self.dof == 0:
            return pairs
        dof = pairs.dof + self.dof
        return Noise(math.sqrt((pairs.dof * pairs.stdev**2 + self.dof * 2 * self.stdev**2) / dof), dof)


@dataclass(frozen=True, slots=True)
class Fresh:
    """One fresh value of a tree, and where it was measured."""

    tree: str
    slot: int
    value: float


def slots_differ(values: Sequence[Fresh]) -> bool:
    """Whether slots give different values for one tree beyond noise: one-way analysis of variance on slots.

    Fisher's F on what is left of each value when its tree's mean is taken off.
    """
    rest = _off_tree_means(values)
    by_slot: dict[int, list[float]] = defaultdict(list)
    for value, left in zip(values, rest, strict=True):
        by_slot[value.slot].append(left)
    trees, slots = len({value.tree for value in values}), len(by_slot)
    within_dof = len(values) - trees - (slots - 1)
    if slots < 2 or within_dof < slots:
        return False
    between = sum(len(group) * mean(group) ** 2 for group in by_slot.values())
    within = sum(left**2 for left in rest) - between
    if within <= 0.0:
        return between > 0.0
    ratio = (between / (slots - 1)) / (within / within_dof)
    return f_tail(ratio, slots - 1, within_dof) < ALARM


def drifts(values: Sequence[Fresh]) -> bool:
    """Whether values of one tree move slowly: neighbours in time are more alike than values far apart.

    The mean square successive difference: von Neumann, J. (1941), Ann. Math. Stat. 12(4), with the normal
    approximation of Young, L. C. (1941), the same volume; trees are joined by Stouffer's method, weighted by size.
    """
    by_tree: dict[str, list[float]] = defaultdict(list)
    for value in values:
        by_tree[value.tree].append(value.value)
    total = weights = 0.0
    for group in by_tree.values():
        if len(group) >= LEAST_ORDERED:
            weight = math.sqrt(len(group))
            total += weight * _succession(group)
            weights += weight**2
    if not weights:
        return False
    return total / math.sqrt(weights) > NormalDist().inv_cdf(1 - ALARM)


def _succession(values: Sequence[float]) -> float:
    """Standard normal where the order means nothing, large where neighbours are alike."""
    count, center = len(values), mean(values)
    squares = sum((value - center) ** 2 for value in values)
    if squares == 0.0:
        return 0.0
    steps = sum((after - before) ** 2 for before, after in pairwise(values))
    return (1 - steps / (2 * squares)) / math.sqrt((count - 2) / (count**2 - 1))


def _off_tree_means(values: Sequence[Fresh]) -> list[float]:
    by_tree: dict[str, list[float]] = defaultdict(list)
    for value in values:
        by_tree[value.tree].append(value.value)
    means = {tree: mean(group) for tree, group in by_tree.items()}
    return [value.value - means[value.tree] for value in values]


def load_matters(alone: Sequence[float], loaded: Sequence[float], alarm: float = 0.01) -> bool:
    """Whether the unchanged code gives clearly another value at the run's load than alone: Student's t-test.

    `alarm`: how probable it may be that it says so by chance.
    """
    if len(alone) < 2 or len(loaded) < 2:
        return False
    spread = Noise().with_group(alone).with_group(loaded)
    error = spread.stdev * math.sqrt(1 / len(alone) + 1 / len(loaded))
    difference = abs(mean(loaded) - mean(alone))
    return difference > 0.0 and difference > student_t_quantile(1 - alarm / 2, spread.dof) * error


@dataclass(frozen=True, slots=True)
class Load:
    """The unchanged code alone and at the run's load: spread of its values, and seconds that one takes."""

    alone: Noise
    alone_seconds: float
    loaded: Noise
    loaded_seconds: float


def beyond_use(load: Load, slots: int) -> bool:
    """Whether one measurement at a time tells more in an hour than `slots` of them side by side, by far.

    What a measurement tells goes with 1 / variance. A spread of a few values is not known well, hence the margin.
    """
    if load.alone.dof < 1 or load.loaded.dof < 2:
        return False
    alone = load.alone_seconds * load.alone.stdev**2
    return load.loaded_seconds * load.loaded.stdev**2 > BEYOND_USE * slots * alone


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is known of the noise, for people and scripts."""

    kind: Kind
    value: float
    """The mean of the unchanged code's values, as trials are compared with it."""
    noise: Noise
    slots: Sequence[float] = ()
    """The mean of the unchanged code's values in each slot that measured it."""
    slots_differ: bool = False
    drifts: bool = False
    paired: bool = False
    """Candidates are confirmed in interleaved pairs."""
    alone: bool = False
    """They are confirmed while nothing else is measured."""
    exclusive: bool = False
    """Everything is measured one at a time."""
    smallest: Sequence[tuple[int, float]] = ()
    """(measurements of a candidate and of the incumbent together, the smallest gain that they tell from noise)."""

    @property
    def ways(self) -> tuple[str | bool, ...]:
        """What decides how candidates are measured and compared."""
        return (self.kind, self.slots_differ, self.drifts, self.paired, self.alone, self.exclusive)

    @property
    def words(self) -> str:
        """One line: what kind of number it is, how candidates are confirmed, which gain can be told from noise."""
        if self.kind is Kind.DETERMINISTIC and self.noise.dof == 0:
            return "not known: nothing was measured twice"
        if self.kind is Kind.DETERMINISTIC:
            said = f"none in {self.noise.dof + 1} measurements: deterministic so far"
            return f"{said}; measured one at a time" if self.exclusive else said
        degrees = f"{self.noise.dof} degree{'' if self.noise.dof == 1 else 's'} of freedom"
        spread = f"standard deviation {plain.number(self.noise.stdev, 3)} ({degrees})"
        return "; ".join([f"{self.kind}, {spread}", *self._disturbances(), *self._ways(), *self._costs()])

    def _disturbances(self) -> Iterator[str]:
        if len(self.slots) > 1:
            low, high = plain.number(min(self.slots), 4), plain.number(max(self.slots), 4)
            yield f"slots {'differ' if self.slots_differ else 'agree so far'} ({low} to {high})"
        if self.drifts:
            yield "it drifts"

    def _ways(self) -> Iterator[str]:
        if self.exclusive:
            yield "measured one at a time"
        if self.paired:
            yield "confirmed in interleaved pairs" + (" while nothing else is measured" if self.alone else "")

    def _costs(self) -> Iterator[str]:
        """Half way through a confirmation, and at its end; before that only far larger gains show."""
        known = [(count, gain) for count, gain in self.smallest if math.isfinite(gain)]
        if known:
            (few, large), (many, small) = known[len(known) // 2], known[-1]
            more = f", {plain.number(small, 3)} in {many}" if many > few else ""
            yield f"a gain of {plain.number(large, 3)} shows in {few} measurements{more}"

    def to_row(self) -> Mapping[str, Any]:
        """Plain JSON values."""
        return {
            "kind": str(self.kind),
            "value": self.value,
            "stdev": self.noise.stdev,
            "dof": self.noise.dof,
            "slots": list(self.slots),
            "slots_differ": self.slots_differ,
            "drifts": self.drifts,
            "paired": self.paired,
            "alone": self.alone,
            "exclusive": self.exclusive,
            "smallest_gains": [
                {"measurements": count, "gain": gain} for count, gain in self.smallest if math.isfinite(gain)
            ],
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Picture:
        """What `to_row` made."""
        flags = {name: row[name] for name in ("slots_differ", "drifts", "paired", "alone", "exclusive")}
        smallest = tuple((each["measurements"], each["gain"]) for each in row["smallest_gains"])
        spread = Noise(row["stdev"], row["dof"])
        return cls(Kind(row["kind"]), row["value"], spread, tuple(row["slots"]), **flags, smallest=smallest)
