"""Many nights, over all cores, and what they come to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TypeVar

from benchmarks.account import Night, kept, median
from benchmarks.landscape import Kind, Mix
from benchmarks.noise import Conditions
from benchmarks.report import average, share
from benchmarks.rules import RULES
from benchmarks.simulation import CAMPAIGN, QUIET, TIMES, Times, night

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Case:
    """A kind of night. As many as wanted can be made of it, one a seed."""

    rule: str = "ours"
    mix: Mix = CAMPAIGN
    conditions: Conditions = QUIET
    slots: int = 8
    trials: int | None = None
    hours: float | None = None
    times: Times = TIMES

    def night(self, seed: int) -> Night:
        """One of them."""
        return night(
            RULES[self.rule],
            self.mix,
            self.conditions,
            slots=self.slots,
            seed=seed,
            trials=self.trials,
            hours=self.hours,
            times=self.times,
        )


@dataclass
class Sums:
    """Figures of several nights, added up. `sums["keeps"]` is a count; see `of` for their names."""

    counts: Counter[str] = field(default_factory=Counter)
    true_gain: float = 0.0
    biases: list[tuple[float, float]] = field(default_factory=list)
    """(true gain, what was stored beyond it) of every keep."""
    latencies: list[float] = field(default_factory=list)
    """From screen to landing, in measurement times."""
    slot_use: float = 0.0

    @classmethod
    def of(cls, one: Night) -> Sums:
        """A single night."""
        noops, gains = one.of_kind(Kind.NOOP), one.of_kind(Kind.GAIN)
        counts = Counter(
            nights=1,
            tried=len(one.tried),
            keeps=one.keeps,
            false_keeps=one.false_keeps,
            simplified=one.simplified,
            measurements=one.measurements,
            superseded=one.superseded,
            noops=len(noops),
            noops_kept=kept(noops),
            gains=len(gains),
            gains_kept=kept(gains),
        )
        biases = [(landing.gain, landing.bias) for landing in one.landings]
        return cls(counts, one.true_gain, biases, one.latencies, one.slot_use)

    def __getitem__(self, name: str) -> int:
        return self.counts[name]

    def add(self, other: Sums) -> None:
        """More nights."""
        self.counts.update(other.counts)
        self.true_gain += other.true_gain
        self.biases += other.biases
        self.latencies += other.latencies
        self.slot_use += other.slot_use

    def a_night(self, name: str) -> float:
        """A count's average."""
        return self[name] / self["nights"]

    @property
    def gain_a_night(self) -> float:
        """True, of the last tip over the base."""
        return self.true_gain / self["nights"]

    @property
    def slot_use_percent(self) -> float:
        """The average."""
        return 100 * self.slot_use / self["nights"]

    @property
    def per_candidate(self) -> float:
        """Measurements of candidates and incumbents, by the candidates that were tried."""
        return share(self["measurements"], self["tried"])

    @property
    def noops_per_hundred(self) -> float:
        """Keeps per 100 no-ops."""
        return 100 * share(self["noops_kept"], self["noops"])

    @property
    def power(self) -> float:
        """Share of the gains that were kept."""
        return share(self["gains_kept"], self["gains"])

    @property
    def latency(self) -> float:
        """The median."""
        return median(self.latencies)

    @property
    def superseded_percent(self) -> float:
        """Of the measurements of candidates and incumbents."""
        return 100 * share(self["superseded"], self["measurements"])

    @property
    def false_percent(self) -> float:
        """Of the keeps."""
        return 100 * share(self["false_keeps"], self["keeps"])

    def bias(self, least: float, most: float) -> float:
        """Of stored gains, where the true gain lies between."""
        return average([bias for gain, bias in self.biases if least <= gain <= most])


def gather(cases: Mapping[str, tuple[Case, int]], processes: int | None = None) -> dict[str, Sums]:
    """So many nights of each case, under the case's key; the same seeds for all."""
    todo = [(key, case, seed) for key, (case, nights) in cases.items() for seed in range(nights)]
    sums = {key: Sums() for key in cases}
    for (key, _, _), found in zip(todo, spread(_one, todo, processes), strict=True):
        sums[key].add(found)
    return sums


def spread(
    function: Callable[[A], B], todo: Sequence[A], processes: int | None = None, *, fresh: bool = False
) -> Iterable[B]:
    """What a function says of each, in their order; computed on all cores, or on so many.

    `fresh`: each in a process of its own, for what keeps a state that cannot be set back.
    """
    processes = processes or os.cpu_count() or 1
    if processes == 1:
        yield from map(function, todo)
    elif fresh:
        with ProcessPoolExecutor(processes, get_context("spawn"), max_tasks_per_child=1) as pool:
            yield from pool.map(function, todo)
    else:
        with ProcessPoolExecutor(processes) as pool:
            yield from pool.map(function, todo, chunksize=4)


def _one(todo: tuple[str, Case, int]) -> Sums:
    _, case, seed = todo
    return Sums.of(case.night(seed))
