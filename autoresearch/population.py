"""All ended trials, and which of them the next change starts from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random

from autoresearch.trial import Operator, Outcome, Reason, Trial

PLATEAU = 10
"""Ended trials without a keep after which the search widens."""
NEAR_MISSES = 20
"""How many discarded trials are remembered as worth combining."""

BEATEN = 10
"""How many superseded and conflicting trials stay parents."""

_STEADY = ((Operator.IMPROVE, 6), (Operator.EXPLORE, 2), (Operator.SIMPLIFY, 1))
_WIDE = (
    (Operator.IMPROVE, 2),
    (Operator.EXPLORE, 3),
    (Operator.ESCAPE, 3),
    (Operator.COMBINE, 3),
    (Operator.SIMPLIFY, 1),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What the next proposal starts from."""

    parent: int
    operator: Operator
    combine_with: int | None = None


@dataclass(slots=True)
class Population:
    """Champion first, wider on a plateau. Everything random comes from the generator that is passed in."""

    plateau_after: int = PLATEAU
    kept: list[int] = field(default_factory=list)
    """Kept trials in the order in which they landed, the baseline first."""
    near_misses: list[tuple[float, int]] = field(default_factory=list)
    """(gain, trial) of discarded trials with a value, best first."""
    beaten: list[int] = field(default_factory=list)
    """Trials that were promising, and did not go together with what was kept: parents of another line."""
    since_keep: int = 0

    @property
    def incumbent(self) -> int:
        return self.kept[-1]

    @property
    def plateau(self) -> bool:
        return self.since_keep >= self.plateau_after

    def ask(self, random: Random, in_flight: Iterable[Operator]) -> Ask:
        """A parent and an operator. Operators in flight count as used, so that workers differ."""
        weights = _WIDE if self.plateau else _STEADY
        used = Counter(in_flight)
        operators = [operator for operator, _ in weights]
        shares = [weight / (1 + used[operator]) for operator, weight in weights]
        operator = random.choices(operators, shares)[0]
        combine_with = None
        if operator is Operator.COMBINE:
            if not self.near_misses:
                return Ask(self.incumbent, Operator.EXPLORE)
            combine_with = random.choice(self.near_misses)[1]
        parent = self.incumbent
        others = [*self.kept[-4:-1], *self.beaten]
        if self.plateau and operator is Operator.EXPLORE and others:
            parent = random.choice(others)
        return Ask(parent, operator, combine_with)

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended."""
        if trial.outcome is Outcome.KEEP:
            self.kept.append(trial.number)
            self.since_keep = 0
            return
        self.since_keep += 1
        if trial.reason in (Reason.SUPERSEDED, Reason.CONFLICT) and trial.commit is not None:
            self.beaten = [*self.beaten, trial.number][-BEATEN:]
        if trial.outcome is Outcome.DISCARD and trial.delta is not None and trial.reason is not Reason.DUPLICATE:
            self.near_misses.append((trial.delta, trial.number))
            self.near_misses.sort(key=_best_first)
            del self.near_misses[NEAR_MISSES:]


def _best_first(miss: tuple[float, int]) -> tuple[float, int]:
    return (-miss[0], miss[1])
