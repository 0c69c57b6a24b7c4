"""What is known of trees: who measured which, with which values, and how noisy the metric is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from autoresearch.noise import Fresh, Noise
from autoresearch.trial import Outcome, Reason, Trial, Usage

_EDITS_KEPT = 2_000
_TAIL_KEPT = 400
_REFUSAL_KEPT = 2_000
"""Of what failing checks and builds printed, which proposers are shown."""


@dataclass(slots=True)
class Tally:
    """Sums over ended trials, kept as they end; the baseline is left out."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    usage: Usage = Usage()
    kept: list[Trial] = field(default_factory=list)
    """In the order in which they landed."""

    def add(self, trial: Trial) -> None:
        """Count an ended trial."""
        if trial.baseline:
            return
        self.outcomes[str(trial.outcome)] += 1
        self.reasons[str(trial.reason)] += 1
        self.usage += trial.usage
        if trial.outcome is Outcome.KEEP:
            self.kept.append(trial)


@dataclass(frozen=True, slots=True)
class Shown:
    """What proposers are shown of the incumbent."""

    tail: str = ""
    extra: Mapping[str, float] = field(default_factory=dict)
    feedback: str = ""
    at_bound: bool = False


@dataclass(frozen=True, slots=True)
class Confirmations:
    """Confirmations: how many were begun, and how many of those that ended ended as a win."""

    begun: int = 0
    won: int = 0
    ended: int = 0
    largest_gain: float = 0.0
    """Of those that were won; in the metric's unit."""

    @property
    def win_share(self) -> float:
        """How probable it is that one is won: Laplace's rule of succession with one loss more."""
        return (self.won + 1) / (self.ended + 3)

    def beginning(self) -> Confirmations:
        """One more has its first fresh run."""
        return replace(self, begun=self.begun + 1)

    def with_win(self, gain: float) -> Confirmations:
        """One was won."""
        return replace(self, won=self.won + 1, ended=self.ended + 1, largest_gain=max(self.largest_gain, gain))

    def to_row(self) -> dict[str, int]:
        """Plain JSON values."""
        return {"begun": self.begun, "won": self.won, "ended": self.ended}

    def lost(self) -> Confirmations:
        """One was lost."""
        return replace(self, ended=self.ended + 1)


@dataclass(slots=True)
class Archive:
    """Ended trials and the measurements that count, by tree."""

    ended: list[Trial] = field(default_factory=list)
    """In the order in which they ended, the baseline first; long edits and tails stay in the store."""
    index: dict[int, int] = field(default_factory=dict)
    """Trial number to its place in `ended`."""
    owners: dict[str, int] = field(default_factory=dict)
    """Tree to the trial that measured it first."""
    results: dict[str, Trial] = field(default_factory=dict)
    """Tree to the trial whose end says what it is worth."""
    pools: dict[str, list[float]] = field(default_factory=dict)
    """Tree to its fresh values; screening values are not among them."""
    unanchored: set[str] = field(default_factory=set)
    """Trees that failed when they were measured again; no more of them is asked for."""
    tally: Tally = field(default_factory=Tally)
    shown: Shown = Shown()
    noise: Noise = Noise()
    """The spread of one measurement, pooled over all trees that were measured more than once."""
    pair_noise: Noise = Noise()
    """The spread of a pair's difference, pooled over all candidates."""
    fresh: list[Fresh] = field(default_factory=list)
    """Fresh values in the order of time."""
    confirmations: Confirmations = Confirmations()

    def add(self, trial: Trial) -> None:
        """Take an ended trial in."""
        size = sum(len(edit.content or "") + len(edit.old or "") + len(edit.new or "") for edit in trial.edits)
        kept = _REFUSAL_KEPT if trial.reason in (Reason.CHECKS_FAILED, Reason.BUILD_FAILED) else _TAIL_KEPT
        slim = replace(trial, tail=trial.tail[-kept:], edits=trial.edits if size <= _EDITS_KEPT else ())
        self.index[trial.number] = len(self.ended)
        self.ended.append(slim)
        self.tally.add(slim)
        if trial.tree and trial.tree not in self.results:
            self.results[trial.tree] = slim

    def trial(self, number: int) -> Trial | None:
        """An ended trial; None where there is none of that number."""
        place = self.index.get(number)
        return None if place is None else self.ended[place]

    def measured(self, tree: str, value: float, slot: int) -> None:
        """A fresh value of a tree."""
        self.fresh.append(Fresh(tree, slot, value))
        pool = self.pools.setdefault(tree, [])
        self.noise = self.noise.with_value(pool, value)
        pool.append(value)

    def restart(self, tree: str, values: Sequence[float]) -> None:
        """Only these values count: what was measured before was measured under another load."""
        self.pools = {tree: list(values)}
        self.fresh, self.noise = [], Noise().with_group(values)

    def disagreed(self, values: Sequence[float]) -> None:
        """Values of one tree differ though the metric seemed deterministic: it is noisy from here on."""
        self.noise = self.noise.with_group(values)

    def forget_pool(self, tree: str, owner: int) -> None:
        """A trial's tree is no longer compared with: its values only count for the noise."""
        if self.owners.get(tree) == owner:
            self.pools.pop(tree, None)

    def give_up(self, tree: str, owner: int) -> None:
        """A trial measures its tree no further, and nothing is known of it: another one may."""
        if self.owners.get(tree) == owner:
            del self.owners[tree]
            self.pools.pop(tree, None)
