"""What the database of a run says about it: frozen pictures for the commands that look at a run from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from autoresearch.metric import Metric
from autoresearch.trial import Trial, Usage

CONFIRMATIONS = "confirmations"
"""Under which name a run notes how many confirmations it began, won and lost."""


class RunState(StrEnum):
    """Where a run stands."""

    RUNNING = "running"
    DRAINING = "draining"
    """It was asked to stop and lets running measurements end."""
    ENDED = "ended"
    INTERRUPTED = "interrupted"
    """Its process is gone and did not end it; `resume` goes on."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run of a repository, as listed."""

    tag: str
    run_dir: Path
    began_at: float
    """When it began or was last resumed, in seconds since the epoch."""
    pid: int | None = None
    """The process that runs it now."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as its database and its lock show it. Trials carry neither edits nor tails."""

    tag: str
    run_dir: Path
    state: RunState
    pid: int | None
    stop_reason: str | None
    """In words; None while it has not stopped."""
    config: Mapping[str, Any]
    metric: Metric | None
    """None until the baseline was read and the plan agreed to."""
    baseline: Trial | None
    best: Trial | None
    """The last keep: the tip of the branch; the baseline where nothing was kept."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """Ended trials by outcome, the baseline left out."""
    deterministic: bool | None = None
    """Whether all repeated measurements agreed; None: nothing was measured twice."""
    confirmed: int = 0
    """Candidates that were measured more than once."""
    top: Sequence[Trial] = ()
    """Up to five keeps by their own gain, the baseline left out."""
    failed: Sequence[Trial] = ()
    """Up to five trials that were not kept: nearest misses first, crashes last."""
    usage: Usage = Usage()
    """Everything that was spent, proposals without a row included."""
    began_at: float = 0.0
    ended_at: float | None = None
    """When it stopped; None while it runs."""
    seconds: float = 0.0
    """Time in which it ran, all its processes together."""
    slot_use: float | None = None
    """Share of slot time spent measuring, from 0 to 1; None where no process ended in order."""
    slots: int | None = None
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is known of the run as a whole, by name, as `Note` stored it; docs/results.md describes each."""
    folder: str = ""
    """Where in the checkout it was started, relative to its root."""

    @property
    def branch(self) -> str:
        return f"autoresearch/{self.tag}"

    @property
    def objective(self) -> str:
        return str(self.config.get("objective", ""))

    @property
    def experiments(self) -> int:
        """Ended trials, the baseline left out."""
        return sum(self.outcomes.values())
