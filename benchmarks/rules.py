"""Rival rules, told and asked by the same machine as a run: one trial, one number, and how it is believed."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass, field

from autoresearch.actions import Action, Apply, Land, Measure, Merge, Propose, Record, Stop, Wake
from autoresearch.brief import Brief
from autoresearch.config import RunConfig
from autoresearch.distributions import student_t_quantile
from autoresearch.events import Applied, Began, Event, Landed, Measured, Merged, Proposed, SlotReady, SlotsComplete
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.protocols import Request
from autoresearch.schedule import Load, Pace, wants_proposal
from autoresearch.state import Run
from autoresearch.trial import Candidate, Measurement, Operator, Outcome, Purpose, Reason, Trial
from benchmarks.simulation import Rule

METRIC = Metric("score", Direction.MAXIMIZE, Reader(ReaderKind.NAME, "score"))


@dataclass(slots=True)
class Tried:
    """A trial that is under way."""

    number: int
    parent: str
    asked_at: float
    candidate: Candidate | None = None
    """What would land: the change on its parent, or merged onto a newer incumbent."""
    own: Candidate | None = None
    """The change on its parent."""
    value: float | None = None
    """What is stored of it."""
    compared: float = 0.0
    n: int = 0
    pairs: list[tuple[float, float]] = field(default_factory=list)
    """(incumbent, candidate), measured one after the other."""
    half: float | None = None
    """The first half of a pair."""


class Naive:
    """Strictly better in one run than the number that is recorded for the incumbent.

    Subclasses say otherwise. What wins lands on whatever the incumbent is by then, unmeasured where that has moved.
    """

    baselines = 1

    def __init__(self, began: Began, at: float) -> None:
        self.config = RunConfig.from_row(began.config)
        self.tip = began.base
        self.recorded: dict[str, float] = {}
        """Commit to the one number that is believed of it."""
        self.sample: list[float] = []
        """Of the baseline."""
        self.free: list[int] = []
        self.slots = 0
        self.waiting: deque[Tried] = deque()
        self.live: dict[int, Tried] = {}
        self.asked = self.rows = 0
        self.pace = Pace()
        self.at = at
        self._out: list[Action] = []

    # What a rule says.

    def screened(self, tried: Tried, slot: int, value: float) -> None:
        """Its one measurement."""
        tried.value, tried.compared = value, self.number_to_beat(tried)
        self.free.append(slot)
        if self.wins(value - tried.compared):
            self.bring_up(tried)
        else:
            self.end(tried, Outcome.DISCARD, Reason.WORSE)

    def number_to_beat(self, tried: Tried) -> float:
        """What its measurement is compared with."""
        return self.recorded[self.tip]

    def wins(self, gain: float) -> bool:
        """Whether it is kept."""
        return gain > 0

    def confirmed(self, tried: Tried, slot: int, commit: str, value: float) -> None:
        """One more measurement for it."""
        raise NotImplementedError

    def brought_up(self, tried: Tried) -> None:
        """It sits on the incumbent."""
        self.land(tried)

    # What all have in common.

    def tell(self, at: float, event: Event) -> list[Action]:
        """Take in what happened; say what to do next."""
        self.at, self._out = at, []
        match event:
            case SlotReady(slot):
                self.free.append(slot)
                self.slots += 1
            case SlotsComplete():
                self._begin()
            case Measured(trial, slot, purpose, commit, measurement):
                self.pace = self.pace.measured(measurement.seconds_total)
                self._measured(trial, slot, purpose, commit, measurement)
            case Proposed(trial, proposal):
                tried = self.live[trial]
                self.pace = self.pace.proposed(at - tried.asked_at)
                self._out.append(Apply(trial, tried.parent, proposal.change))
            case Applied(trial, candidate):
                tried = self.live[trial]
                tried.own = tried.candidate = candidate
                self.waiting.append(tried)
            case Merged(trial, _, merged):
                self._merged(self.live[trial], merged)
            case Landed(trial, commit):
                self.tip = commit
                tried = self.live[trial]
                self.recorded[commit] = tried.value or 0.0
                self.end(tried, Outcome.KEEP, Reason.IMPROVED)
        self._dispatch()
        return self._out

    def measure(self, slot: int, tried: Tried, commit: str, purpose: Purpose) -> None:
        """In a slot that is free or held."""
        tried.n += commit != self.tip
        request = Request(tried.number, "measure", math.inf, METRIC)
        self._out.append(Measure(slot, commit, purpose, request))

    def bring_up(self, tried: Tried) -> None:
        """Put it on top of the incumbent as it is now."""
        if tried.own is None:
            return
        if tried.parent == self.tip:
            self.brought_up(tried)
        else:
            self._out.append(Merge(tried.number, tried.own.commit, tried.parent, self.tip))

    def land(self, tried: Tried) -> None:
        """Move the branch."""
        if tried.candidate is not None:
            self._out.append(Land(tried.number, tried.candidate.commit, self.tip, ""))

    def end(self, tried: Tried, outcome: Outcome, reason: Reason) -> None:
        """Its row."""
        del self.live[tried.number]
        self.rows += 1
        delta = None if tried.value is None else tried.value - tried.compared
        row = Trial(tried.number, outcome, reason, "", value=tried.value, delta=delta, n=tried.n)
        self._out.append(Record(row))

    @property
    def over(self) -> bool:
        """Whether no measurement may begin."""
        return self.config.max_time is not None and self.at >= self.config.max_time

    def _begin(self) -> None:
        request = Request(0, "measure", math.inf, METRIC)
        while self.free and len(self.live) < self.baselines:
            slot = self.free.pop(0)
            self.live[-slot] = Tried(-slot, self.tip, self.at)
            self._out.append(Measure(slot, self.tip, Purpose.BASELINE, request))
        if self.config.max_time is not None:
            self._out.append(Wake(self.config.max_time))

    def _measured(self, trial: int, slot: int, purpose: Purpose, commit: str, measurement: Measurement) -> None:
        value = measurement.value
        if purpose is Purpose.BASELINE:
            self._baseline_measured(slot, value or 0.0)
        elif value is None:
            self.free.append(slot)
            self.end(self.live[trial], Outcome.CRASH, measurement.failure or Reason.EXIT)
        elif purpose is Purpose.SCREEN:
            self.screened(self.live[trial], slot, value)
        else:
            self.confirmed(self.live[trial], slot, commit, value)

    def _baseline_measured(self, slot: int, value: float) -> None:
        self.sample.append(value)
        self.live.pop(-slot, None)
        if len(self.sample) + len(self.live) < self.baselines:
            self.live[-slot] = Tried(-slot, self.tip, self.at)
            request = Request(0, "measure", math.inf, METRIC)
            self._out.append(Measure(slot, self.tip, Purpose.BASELINE, request))
        else:
            self.free.append(slot)
        self.recorded[self.tip] = statistics.fmean(self.sample)

    def _merged(self, tried: Tried, merged: Candidate | None) -> None:
        if merged is None:
            self.end(tried, Outcome.DISCARD, Reason.CONFLICT)
        else:
            tried.candidate = merged
            self.brought_up(tried)

    def _dispatch(self) -> None:
        ready = len(self.sample) >= self.baselines
        while ready and self.free and self.waiting and not self.over:
            tried, slot = self.waiting.popleft(), self.free.pop(0)
            if tried.candidate is not None:
                self.measure(slot, tried, tried.candidate.commit, Purpose.SCREEN)
        while ready and not self.over and self._wants_proposal():
            self.asked += 1
            self.live[self.asked] = Tried(self.asked, self.tip, self.at)
            brief = Brief(self.asked, 0, Operator.IMPROVE, self.config, METRIC, 0.0, 0.0, 0)
            self._out.append(Propose(brief, self.tip))
        if self.rows == self.config.max_trials:
            self._out.append(Stop("--max-trials reached"))
        elif self.over and len(self.free) == self.slots and all(isinstance(each, Record) for each in self._out):
            self._out.append(Stop("--max-time reached"))

    def _wants_proposal(self) -> bool:
        if self.config.max_trials is not None and self.asked >= self.config.max_trials:
            return False
        proposing = sum(tried.own is None for tried in self.live.values())
        load = Load(self.slots, len(self.free), proposing, len(self.waiting), len(self.live))
        return wants_proposal(load, self.pace, None)


class Stale(Naive):
    """Strictly better than the number of the parent that it started from, as it was recorded then."""

    def number_to_beat(self, tried: Tried) -> float:
        """What was known when it was proposed."""
        return self.recorded[tried.parent]


class TwoSigma(Naive):
    """Better by two standard deviations, known from three runs of the baseline."""

    baselines = 3

    def wins(self, gain: float) -> bool:
        """Whether one run is far enough ahead."""
        return gain > 2 * statistics.stdev(self.sample)


class FourPairs(Naive):
    """What is better by one standard deviation in one run is measured in four ABBA pairs, in one slot.

    A paired t-test, one-sided. Where the incumbent moves meanwhile, the pairs begin again.
    """

    baselines = 3
    pairs = 4
    confidence = 0.99

    def screened(self, tried: Tried, slot: int, value: float) -> None:
        """Worth four pairs, or not."""
        tried.value, tried.compared = value, self.recorded[self.tip]
        if value - tried.compared > statistics.stdev(self.sample) and not self.over:
            self.held[tried.number] = slot
            self.bring_up(tried)
        else:
            self.free.append(slot)
            self.end(tried, Outcome.DISCARD, Reason.WORSE)

    def __init__(self, began: Began, at: float) -> None:
        super().__init__(began, at)
        self.held: dict[int, int] = {}
        """Trial to the slot that it keeps."""
        self.onto: dict[int, str] = {}
        """Trial to the incumbent that it is measured against."""

    def brought_up(self, tried: Tried) -> None:
        """The pairs begin."""
        tried.pairs, tried.half = [], None
        self.onto[tried.number] = self.tip
        self._next(tried)

    def confirmed(self, tried: Tried, slot: int, commit: str, value: float) -> None:
        """Half a pair more."""
        if self.onto[tried.number] != self.tip:
            self.bring_up(tried)
            return
        if tried.half is None:
            tried.half = value
        else:
            incumbent, candidate = (tried.half, value) if commit != self.tip else (value, tried.half)
            tried.pairs.append((incumbent, candidate))
            tried.half = None
        if len(tried.pairs) < self.pairs:
            self._next(tried)
        else:
            self._judge(tried)

    def end(self, tried: Tried, outcome: Outcome, reason: Reason) -> None:
        """Its row; its slot is free."""
        if tried.number in self.held:
            self.free.append(self.held.pop(tried.number))
        super().end(tried, outcome, reason)

    def _next(self, tried: Tried) -> None:
        """ABBA: the incumbent first in every other pair."""
        incumbent_first = len(tried.pairs) % 2 == 0
        incumbent = incumbent_first == (tried.half is None)
        commit = self.tip if incumbent or tried.candidate is None else tried.candidate.commit
        if self.over:
            self.end(tried, Outcome.DISCARD, Reason.CANCELLED)
        else:
            purpose = Purpose.ANCHOR if incumbent else Purpose.CONFIRM
            self.measure(self.held[tried.number], tried, commit, purpose)

    def _judge(self, tried: Tried) -> None:
        gains = [candidate - incumbent for incumbent, candidate in tried.pairs]
        tried.compared = statistics.fmean(incumbent for incumbent, _ in tried.pairs)
        tried.value = tried.compared + statistics.fmean(gains)
        error = statistics.stdev(gains) / math.sqrt(len(gains))
        if statistics.fmean(gains) > student_t_quantile(self.confidence, len(gains) - 1) * error:
            self.land(tried)
        else:
            self.end(tried, Outcome.DISCARD, Reason.UNCONFIRMED)


RULES: dict[str, Rule] = {"ours": Run, "naive": Naive, "stale": Stale, "two_sigma": TwoSigma, "four_pairs": FourPairs}
"""By the name that tables use."""
