"""What views see of a running run: one frozen picture, made on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoresearch.metric import Metric
from autoresearch.noise import Picture
from autoresearch.trial import Purpose, Trial, Usage


@dataclass(frozen=True, slots=True)
class SlotView:
    """One slot, now."""

    number: int
    device: str
    trial: int | None = None
    """What it measures; None: it is free."""
    purpose: Purpose | None = None
    hypothesis: str = ""
    since: float = 0.0
    """When its present stage began, in seconds since the epoch."""
    busy_seconds: float = 0.0
    """Time spent measuring so far, the running measurement not counted."""
    ready_at: float = 0.0
    retired: str = ""
    """Why it is no longer used."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a run at one moment."""

    at: float
    began_at: float
    metric: Metric | None
    """None until the baseline was read."""
    slots: Sequence[SlotView]
    baseline: float | None
    best: float | None
    stdev: float | None
    """Spread of one measurement; None: not known; 0: deterministic so far."""
    incumbent: int
    kept: Sequence[Trial]
    """Keeps in the order in which they landed, the baseline left out."""
    experiments: int
    outcomes: Mapping[str, int]
    """Ended trials by outcome, the baseline left out."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    proposing: int = 0
    """Proposals asked for and not yet answered."""
    queued: int = 0
    """Candidates that wait for a slot."""
    waiting: str = ""
    """What the run waits for and why, where it waits."""
    usage: Usage = Usage()
    timeout_seconds: float = 0.0
    draining: str = ""
    """Why no new trials are started; empty while they are."""
    trials_left: int | None = None
    seconds_left: float | None = None
    usd_left: float | None = None
    plateau: bool = False
    noise: Picture | None = None
    """What is known of the noise; None until the baseline has its row."""
    approved: bool = False
    """The plan was agreed to; a resumed run's was."""
    elapsed_seconds: float = 0.0
    """Of the whole run, the time between two of its processes left out."""
    unseen_files: tuple[str, ...] = ()
    """Files of the scope whose replacement, each alone, did not change the measurement; known once all were tried."""

    @property
    def slot_use(self) -> float:
        """Share of slot time spent measuring, from 0 to 1."""
        present = busy = 0.0
        for slot in self.slots:
            present += max(0.0, self.at - slot.ready_at)
            busy += slot.busy_seconds + (self.at - slot.since if slot.trial is not None else 0.0)
        return busy / present if present else 0.0
