"""Trial 0: the unchanged code, measured in every slot; the metric is chosen on its first good value."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from autoresearch.metric import Metric
from autoresearch.schedule import BASELINES
from autoresearch.state.life import memory_gb
from autoresearch.trial import Measurement, Outcome, Reason, Trial, mean

FIRST_TIMEOUT_SECONDS = 3600.0
"""What the baseline itself may take where no --timeout was given."""
TIMEOUT_SECONDS = 300.0


@dataclass(slots=True)
class Baseline:
    """What is known of the unchanged code."""

    metric: Metric | None = None
    approved: bool = False
    suggested: str = ""
    """A measure command that is suggested instead; nothing is measured until the user has answered."""
    stale: set[int] = field(default_factory=set)
    """Slots that still run a command that was replaced; what they measure does not count."""
    good: list[Measurement] = field(default_factory=list)
    failed: list[Measurement] = field(default_factory=list)
    recorded: bool = False
    taken_over: bool = False
    """An earlier process of this run has measured it; new slots need not."""

    def wanted(self, repeats: int | None) -> int:
        """Good values before a candidate can be judged."""
        return repeats if repeats is not None else BASELINES

    @property
    def failures(self) -> str:
        """How often it gave no value, in words; empty where it always gave one."""
        if not self.failed:
            return ""
        return f"{len(self.failed)} of {len(self.failed) + len(self.good)} runs failed: {self.failed[-1].failure}"

    @property
    def hopeless(self) -> str:
        """Why the baseline cannot be relied on, or an empty string."""
        if len(self.failed) >= BASELINES + len(self.good):
            last = self.failed[-1]
            return (
                f"the baseline failed {len(self.failed)} of {len(self.failed) + len(self.good)} times: {last.failure}"
            )
        return ""

    def timeout_seconds(self, asked: float | None, *, of_itself: bool = False) -> float:
        """The limit of a measurement: what was asked for, else 5 minutes or twice the slowest baseline."""
        if asked is not None:
            return asked
        if of_itself or not self.good:
            return FIRST_TIMEOUT_SECONDS
        return max(TIMEOUT_SECONDS, 2 * max(measurement.wall_seconds for measurement in self.good))

    def trial(self, values: Sequence[float], commit: str, tree: str, at: float) -> Trial:
        """Its row: the first one, always kept."""
        first = self.good[0]
        return Trial(
            number=0,
            outcome=Outcome.KEEP,
            reason=Reason.BASELINE,
            hypothesis="baseline",
            commit=commit,
            tree=tree,
            value=mean(values),
            n=len(values),
            stdev=statistics.stdev(values) if len(values) > 1 else None,
            seconds=sum(measurement.seconds_total for measurement in self.good),
            worker=0,
            memory_gb=memory_gb(first),
            extra=first.extra,
            tail=first.tail,
            note=self.failures,
            ended_at=at,
        )
