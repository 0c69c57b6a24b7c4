"""The baseline as `check` has measured it: it counts as if this run had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoresearch.events import TakenOver
from autoresearch.state import gates, measuring

if TYPE_CHECKING:
    from autoresearch.state.run import Run


def taken_over(run: Run, event: TakenOver) -> None:
    """Values of the unchanged code are known before the first slot is ready.

    Raises:
        UsageError: the baseline cannot be read.
    """
    for measured in event.measured[: run.config.repeats]:
        gates.seen(run, measured)
        measuring.baseline_measured(run, measured.slot, measured.measurement)
    run.baseline.taken_over = len(run.baseline.good) >= run.baseline.wanted(run.config.repeats)
