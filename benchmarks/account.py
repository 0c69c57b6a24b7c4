"""What happened in a night, counted beside what was true. It sees what a run is told and what it asks for."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from autoresearch.actions import Action, Measure, Merge, Record
from autoresearch.events import Event, Landed, Measured
from autoresearch.trial import Outcome, Purpose, Reason, Trial
from benchmarks.landscape import BASE, Idea, Kind, Tree

OF_CANDIDATES = (Purpose.SCREEN, Purpose.CONFIRM, Purpose.STANDIN)


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial with its row, and what it was in truth."""

    trial: Trial
    idea: Idea


@dataclass(frozen=True, slots=True)
class Landing:
    """A keep: what moved, and what that was worth in truth."""

    trial: Trial
    idea: Idea
    tree: Tree
    """Of the tip from then on."""
    true_before: float
    """Of the incumbent that it replaced."""
    true_after: float
    seconds: float
    """From the end of its screen."""

    @property
    def gain(self) -> float:
        return self.true_after - self.true_before

    @property
    def false(self) -> bool:
        """Kept as better, and it is not."""
        return self.gain <= 0 and self.trial.reason is not Reason.SIMPLIFIED

    @property
    def bias(self) -> float:
        """How much too good the stored gain is."""
        return (self.trial.delta or 0.0) - self.gain


@dataclass(slots=True)
class Night:
    """What came of one run."""

    ended: list[Ended] = field(default_factory=list)
    """Without the baseline."""
    landings: list[Landing] = field(default_factory=list)
    runs: Counter[str] = field(default_factory=Counter)
    """Measurements: `incumbent` are those of the tip for whatever reason, the others by purpose."""
    superseded: int = 0
    """Fresh runs of trees that were given up because the incumbent moved."""
    true_gain: float = 0.0
    """Of the last tip over the base."""
    measure_seconds: float = 1.0
    """Of one measurement."""
    slot_use: float = 0.0
    """Share of the slots' time in which they measured."""
    why: str = ""
    """The stop reason."""

    @property
    def tried(self) -> list[Ended]:
        """Those that were measured."""
        return [each for each in self.ended if each.trial.n]

    @property
    def tip(self) -> Tree:
        """The last tip's."""
        return self.landings[-1].tree if self.landings else BASE

    @property
    def keeps(self) -> int:
        return len(self.landings)

    @property
    def false_keeps(self) -> int:
        return sum(landing.false for landing in self.landings)

    @property
    def simplified(self) -> int:
        return sum(landing.trial.reason is Reason.SIMPLIFIED for landing in self.landings)

    @property
    def measurements(self) -> int:
        """Of candidates and incumbents; the baseline is not counted."""
        return sum(self.runs[name] for name in (*OF_CANDIDATES, "incumbent"))

    def of_kind(self, kind: Kind) -> list[Ended]:
        """Those that were measured and are of this kind in truth."""
        return [each for each in self.tried if each.idea.kind is kind]

    @property
    def latencies(self) -> list[float]:
        """From screen to landing, in measurement times."""
        return [landing.seconds / self.measure_seconds for landing in self.landings]


def kept(ended: list[Ended]) -> int:
    """How many of them were kept."""
    return sum(each.trial.outcome is Outcome.KEEP for each in ended)


def median(values: list[float]) -> float:
    """The median; NaN of nothing."""
    return statistics.median(values) if values else math.nan


class Account:
    """Keeps a night's figures. Who keeps it says which idea a trial is, and which tree a commit is."""

    def __init__(self, base: str, truth: Callable[[Tree], float]) -> None:
        self.night = Night()
        self.truth = truth
        self.tip = base
        self.trees: dict[str, Tree] = {base: BASE}
        self.ideas: dict[int, Idea] = {}
        self._screened_at: dict[int, float] = {}
        self._unsettled: Counter[int] = Counter()
        """Fresh runs of the tree that a trial would land as now."""
        self._before = 0.0

    def told(self, at: float, event: Event) -> None:
        """The run is about to be told of this."""
        match event:
            case Measured(trial, _, Purpose.SCREEN):
                self._screened_at[trial] = at
            case Landed(_, commit):
                self._before = self.truth(self.trees[self.tip])
                self.tip = commit

    def asked(self, at: float, event: Event, action: Action) -> None:
        """What the run asks for, having been told of the event."""
        match action:
            case Measure():
                self._count(action)
            case Merge(trial):
                self.night.superseded += self._unsettled.pop(trial, 0)
            case Record(trial) if not trial.baseline:
                idea = self.ideas[trial.number]
                self.night.ended.append(Ended(trial, idea))
                if isinstance(event, Landed) and event.trial == trial.number:
                    tree, seconds = self.trees[self.tip], at - self._screened_at[trial.number]
                    landing = Landing(trial, idea, tree, self._before, self.truth(tree), seconds)
                    self.night.landings.append(landing)

    def _count(self, action: Measure) -> None:
        purpose = action.purpose
        of_tip = action.commit == self.tip and purpose in OF_CANDIDATES
        self.night.runs["incumbent" if of_tip or purpose is Purpose.ANCHOR else purpose] += 1
        self._unsettled[action.request.trial] += purpose is Purpose.CONFIRM and not of_tip
