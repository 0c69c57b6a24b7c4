"""What a free slot does next, and how many proposals are wanted ahead of the slots."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from autoresearch.trial import Purpose

BASELINES = 3
"""The baseline is measured in every slot, and at least this often."""
MOST_PROPOSALS_PER_SLOT = 4

_ORDER = (
    *(Purpose.FEEDBACK, Purpose.ANCHOR, Purpose.CONFIRM, Purpose.SCREEN, Purpose.STANDIN),
    *(Purpose.FINAL, Purpose.CANARY, Purpose.HOLDOUT),
)
"""Confirmations go before screens; what a confirmation waits for goes before it."""


@dataclass(frozen=True, slots=True)
class Work:
    """One measurement that waits for a slot."""

    trial: int
    commit: str
    purpose: Purpose
    index: int = 0
    """How many measurements of this commit came before it: the seed counts from here."""
    losses: int = 0
    """How often a slot's machine failed under it."""
    against: str = ""
    """The incumbent's commit, where it is a pair: both are measured in this slot, one after the other."""
    alone: bool = False
    """Nothing else is measured meanwhile."""

    @property
    def candidate_first(self) -> bool:
        """Pairs take turns in who begins, so that what drifts evenly cancels: A B, B A, A B, ..."""
        return self.index % 2 == 0


@dataclass(slots=True)
class Schedule:
    """Queues of measurements by purpose."""

    queues: dict[Purpose, deque[Work]] = field(default_factory=lambda: {purpose: deque() for purpose in _ORDER})

    def add(self, work: Work, *, first: bool = False) -> None:
        """Queue a measurement behind those of its purpose, or before them."""
        queue = self.queues[work.purpose]
        if first:
            queue.appendleft(work)
        else:
            queue.append(work)

    def take(self, idle: bool = True) -> Work | None:
        """The next measurement, most urgent first.

        One that wants to be alone holds back what comes after it until all slots are `idle`.
        """
        for purpose in _ORDER:
            if self.queues[purpose]:
                if self.queues[purpose][0].alone and not idle:
                    return None
                return self.queues[purpose].popleft()
        return None

    def drop(self, trial: int) -> int:
        """Forget what a candidate still waits for; return how many measurements that were."""
        dropped = 0
        for purpose in (Purpose.STANDIN, Purpose.SCREEN, Purpose.CONFIRM):
            queue = self.queues[purpose]
            self.queues[purpose] = deque(work for work in queue if work.trial != trial)
            dropped += len(queue) - len(self.queues[purpose])
        return dropped

    def count(self, commit: str, purpose: Purpose) -> int:
        """How many measurements of a commit wait for a purpose."""
        return sum(work.commit == commit for work in self.queues[purpose])

    def waiting(self, *purposes: Purpose) -> int:
        """How many measurements wait, for these purposes or for any."""
        return sum(len(self.queues[purpose]) for purpose in purposes or _ORDER)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long proposing and measuring take, in seconds: moving averages; 0: not known."""

    propose_seconds: float = 0.0
    measure_seconds: float = 0.0

    def proposed(self, seconds: float) -> Pace:
        """With one more proposal that took this long."""
        return Pace(_average(self.propose_seconds, seconds), self.measure_seconds)

    def measured(self, seconds: float) -> Pace:
        """With one more measurement that took this long."""
        return Pace(self.propose_seconds, _average(self.measure_seconds, seconds))


def _average(before: float, seconds: float) -> float:
    return seconds if before == 0.0 else 0.8 * before + 0.2 * seconds


@dataclass(frozen=True, slots=True)
class Load:
    """What the slots have to do, for deciding whether one more proposal is asked for."""

    slots: int
    free: int
    proposing: int
    queued: int
    """Candidates that wait to be measured for the first time, or are being applied."""
    live: int
    """Trials without a row, the baseline among them."""


def wants_proposal(load: Load, pace: Pace, limit: int | None) -> bool:
    """Whether to ask for one more proposal now.

    As many are in flight as keep the slots fed at the present ratio of proposing to measuring, and half a wave more is
    ready; further ahead would only make ideas that know less. `limit` is the user's --proposers.
    """
    if load.slots == 1 and limit == 1:
        return load.live == 0
    needed = steady_proposals(load.slots, pace)
    in_flight = min(limit, needed) if limit is not None else needed
    hungry = max(0, load.free - load.queued)
    if limit is None:
        in_flight = max(in_flight, min(hungry, MOST_PROPOSALS_PER_SLOT * load.slots))
    ahead = in_flight + max(1, load.slots // 2)
    return load.proposing < in_flight and load.proposing + load.queued < ahead


def steady_proposals(slots: int, pace: Pace) -> int:
    """Proposals in flight that keep `slots` busy."""
    if not pace.measure_seconds or not pace.propose_seconds:
        return slots
    needed = 1.25 * slots * pace.propose_seconds / pace.measure_seconds
    return max(1, math.ceil(min(needed, MOST_PROPOSALS_PER_SLOT * slots)))


def wants_baseline(measured: int, running: int, slot_measured: bool, repeats: int | None, wave: int = 1) -> bool:
    """Whether a free slot measures the baseline: once in every slot and at least three times in all.

    In whole waves of as many at a time, so that each is measured at the same load. With --repeats exactly that often.
    """
    known = measured + running
    if repeats is not None:
        return known < repeats
    return not slot_measured or known < BASELINES or known % wave != 0
