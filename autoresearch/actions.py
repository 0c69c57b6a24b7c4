"""What a run does next. The coordinator carries actions out and feeds back what happened as events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoresearch.brief import Brief
from autoresearch.metric import Metric
from autoresearch.protocols import Request
from autoresearch.trial import Change, Measurement, Purpose, Substitute, Trial


@dataclass(frozen=True, slots=True)
class SuggestMeasure:
    """The measure command prints no reading; show the one that works and ask. Answered by MeasureReplaced."""

    command: str


@dataclass(frozen=True, slots=True)
class Approve:
    """Show the plan and ask. Answered by Approved."""

    metric: Metric
    baseline: Measurement


@dataclass(frozen=True, slots=True)
class MakeCanary:
    """Make a commit in which the scope's files are replaced. Answered by CanaryMade."""

    base: str
    substitute: Substitute
    path: str = ""
    """The one file that is replaced; empty: all of the scope."""


@dataclass(frozen=True, slots=True)
class StartBranch:
    """Create the run's branch. Carried out at once, in order; no event follows."""

    base: str


@dataclass(frozen=True, slots=True)
class Propose:
    """Ask the proposer. Answered by Proposed, ProposingFailed, Deferred or Exhausted."""

    brief: Brief
    parent_commit: str


@dataclass(frozen=True, slots=True)
class CancelProposal:
    """Stop waiting for a proposal; no event follows."""

    trial: int


@dataclass(frozen=True, slots=True)
class Apply:
    """Make a commit of a change. Answered by Applied or Rejected."""

    trial: int
    parent_commit: str
    change: Change


@dataclass(frozen=True, slots=True)
class Measure:
    """Measure a commit in a slot. Answered by Measured or SlotFailed."""

    slot: int
    commit: str
    purpose: Purpose
    request: Request


@dataclass(frozen=True, slots=True)
class Merge:
    """Put parent..candidate on top of a newer incumbent, in memory. Answered by Merged."""

    trial: int
    candidate: str
    parent_commit: str
    onto: str


@dataclass(frozen=True, slots=True)
class Land:
    """Move the branch, compare-and-swap. Answered by Landed."""

    trial: int
    candidate: str
    expected: str
    message: str


@dataclass(frozen=True, slots=True)
class Record:
    """Write an ended trial's row. Carried out at once, in order; no event follows."""

    trial: Trial


@dataclass(frozen=True, slots=True)
class Note:
    """Store a fact about the run, for views; a later one of the same name replaces it.

    Carried out at once, in order; no event follows.
    """

    name: str
    value: Mapping[str, Any]
    """Plain JSON values."""


@dataclass(frozen=True, slots=True)
class Wake:
    """Answer with TimePassed at this time, in seconds since the epoch."""

    at: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing is running and nothing will: the run ends."""

    why: str
    failed: bool = False
    """The run could not go on, as where no slot is left."""


Action = (
    SuggestMeasure
    | Approve
    | MakeCanary
    | StartBranch
    | Propose
    | CancelProposal
    | Apply
    | Measure
    | Merge
    | Land
    | Record
    | Note
    | Wake
    | Stop
)
