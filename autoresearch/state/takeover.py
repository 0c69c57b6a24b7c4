"""The baseline as `check` has measured it: it counts as if this run had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoresearch.events import TakenOver
from autoresearch.state import gates, measuring, regime
from autoresearch.trial import Purpose

if TYPE_CHECKING:
    from autoresearch.state.run import Run


def taken_over(run: Run, event: TakenOver) -> None:
    """Values of the unchanged code are known before the first slot is ready.

    Raises:
        UsageError: the baseline cannot be read.
    """
    baselines = [measured for measured in event.measured if measured.purpose is Purpose.BASELINE]
    for measured in baselines[: run.config.repeats]:
        gates.seen(run, measured)
        measuring.baseline_measured(run, measured.slot, measured.measurement)
    for measured in event.measured:
        if measured.purpose is Purpose.SOLO and run.config.repeats is None:
            regime.solo_measured(run, measured.measurement)
    run.baseline.taken_over = len(run.baseline.good) >= run.baseline.wanted(run.config.repeats)
