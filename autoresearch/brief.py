"""What a proposer is told about the run: everything but the files, which it reads from a tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoresearch.config import RunConfig
from autoresearch.metric import Metric
from autoresearch.trial import Change, Operator, Reason, Trial


@dataclass(frozen=True, slots=True)
class Repair:
    """The same trial's earlier change, and how it failed."""

    change: Change
    reason: Reason
    tail: str
    """The end of what its run printed or redirected; of a change that was refused, why."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A trial that another worker is trying right now."""

    number: int
    operator: Operator
    hypothesis: str
    """Empty while its proposal is not answered."""


@dataclass(frozen=True, slots=True)
class Brief:
    """One request for a change."""

    trial: int
    parent: int
    """The trial to start from; its commit is the tree that the proposer is handed."""
    operator: Operator
    config: RunConfig
    metric: Metric
    baseline: float
    best: float
    incumbent: int
    incumbent_tail: str = ""
    """The end of the incumbent's output."""
    incumbent_extra: Mapping[str, float] = field(default_factory=dict)
    feedback: str = ""
    history: Sequence[Trial] = ()
    """Ended trials in the order in which they ended, the baseline first."""
    in_flight: Sequence[InFlight] = ()
    combine_with: Trial | None = None
    repair: Repair | None = None
    spend_limit_usd: float | None = None
    """What this proposal may cost at most; None: no limit was named."""
