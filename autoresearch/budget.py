"""Trials, seconds and dollars: reserved before they are spent, settled after."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoresearch.config import RunConfig

PROMISES = 8
"""Into how many proposals a small ceiling is dealt at least, where they can be held to that."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user allows a run in all, `resume` included; None: no limit."""

    trials: int | None = None
    seconds: float | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """What is spent and what is promised. Each change returns a new budget.

    Law: spent plus reserved dollars never exceed the limit by a reservation, so a proposer that keeps below what was
    reserved for it never overshoots. A trial is reserved from the moment it is asked for until its row exists.
    """

    limits: Limits = Limits()
    trials: int = 0
    """Rows besides the baseline."""
    usd: float = 0.0
    forfeited_usd: float = 0.0
    """Promised to proposals that were cancelled or killed: the server may bill what it had begun."""
    reserved: Mapping[int, float] = field(default_factory=dict)
    """Dollars promised to the proposals in flight, by trial."""
    live: frozenset[int] = frozenset()
    """Trials that were asked for and have no row yet."""

    def allows(self, usd: float) -> bool:
        """Whether one more trial may be asked for whose proposal costs at most `usd`."""
        if self.limits.trials is not None and self.trials + len(self.live) >= self.limits.trials:
            return False
        return self.affords(usd)

    def affords(self, usd: float) -> bool:
        """Whether `usd` more may be reserved."""
        if self.limits.usd is None:
            return True
        taken = self.usd + self.forfeited_usd + sum(self.reserved.values())
        return taken + usd <= self.limits.usd and self.usd < self.limits.usd

    def reserve(self, trial: int, usd: float) -> Budget:
        """A trial is asked for whose proposal may cost this much."""
        return replace(self, reserved={**self.reserved, trial: usd}, live=self.live | {trial})

    def settle(self, trial: int, usd: float) -> Budget:
        """A proposal was answered: what was reserved for it becomes what it cost."""
        reserved = {number: amount for number, amount in self.reserved.items() if number != trial}
        return replace(self, reserved=reserved, usd=self.usd + usd)

    def forfeit(self, trial: int) -> Budget:
        """A proposal was cancelled or killed: what was promised to it is not to be had again."""
        lost = self.reserved.get(trial, 0.0)
        return replace(self.settle(trial, 0.0), forfeited_usd=self.forfeited_usd + lost)

    def drop(self, trial: int) -> Budget:
        """A trial was given up without a row."""
        return replace(self.settle(trial, 0.0), live=self.live - {trial})

    def end(self, trial: int) -> Budget:
        """A trial has its row."""
        return replace(self, trials=self.trials + 1, live=self.live - {trial})

    @property
    def trials_left(self) -> int | None:
        return None if self.limits.trials is None else max(0, self.limits.trials - self.trials)

    @property
    def usd_left(self) -> float | None:
        return None if self.limits.usd is None else max(0.0, self.limits.usd - self.usd - self.forfeited_usd)


def promise_usd(ceiling_usd: float | None, most_usd: float, least_usd: float) -> float:
    """What to reserve for a proposal that costs at most `most_usd`.

    Under a small ceiling less, where it can be held to `least_usd`: one proposal's bound would leave much of the
    ceiling unused, and the others waiting.
    """
    if ceiling_usd is None or not least_usd:
        return most_usd
    return min(most_usd, max(least_usd, ceiling_usd / PROMISES))


def limits_of(config: RunConfig) -> Limits:
    """The limits that a configuration names."""
    usd = None if config.max_cost is None or math.isinf(config.max_cost) else config.max_cost
    return Limits(config.max_trials, config.max_time, usd)
