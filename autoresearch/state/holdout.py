"""The holdout command, run on what was kept: a keep that loses on it is marked. No proposer sees any of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoresearch.actions import Note
from autoresearch.events import Measured
from autoresearch.schedule import Work
from autoresearch.state import finale, measuring, regime
from autoresearch.state.gauge import Gauge, clearly_worse, tree_of
from autoresearch.trial import Measurement, Purpose, Reason

if TYPE_CHECKING:
    from autoresearch.state.run import Run

FACT = "holdout"
LEAST_RUNS = 2
"""Of each side, where the first look says that a keep loses."""


@dataclass(slots=True)
class Holdout:
    """What is known of it."""

    gauge: Gauge = field(default_factory=lambda: Gauge("--holdout"))
    failed: dict[int, str] = field(default_factory=dict)
    """Keeps on which it gave no value, and why."""
    called_off: bool = False
    """The run was stopped from outside: `resume` measures what is missing."""


def baseline_measured(run: Run, measurement: Measurement) -> None:
    """It ran on the unchanged code, before the plan is shown.

    Raises:
        UsageError: it fails there, or prints no number or several.
    """
    gauge = run.gates.holdout.gauge
    gauge.choose(measurement, run.config, run.metric.direction)
    gauge.take(run.given.base_tree, measurement)


def measured(run: Run, event: Measured) -> None:
    """It ran on a keep."""
    holdout, tree = run.gates.holdout, tree_of(run, event.trial)
    if tree and holdout.gauge.take(tree, event.measurement) is None:
        holdout.failed.setdefault(event.trial, str(event.measurement.failure or Reason.NO_METRIC))
    top_up(run)


def top_up(run: Run) -> None:
    """Queue what is wanted and neither known nor under way, and note how the keeps do."""
    if run.config.holdout is None or run.gates.holdout.gauge.metric is None or not run.baseline.approved:
        return
    busy = [slot.work for slot in run.slots.busy if slot.work]
    coming = [work.trial for work in [*run.schedule.queues[Purpose.HOLDOUT], *busy] if work.purpose is Purpose.HOLDOUT]
    for trial, runs in wanted(run).items():
        known = len(_values(run, trial)) + coming.count(trial)
        for index in range(known, runs):
            run.schedule.add(Work(trial, run.commit_of(trial) or run.given.base, Purpose.HOLDOUT, index))
    run.do(Note(FACT, fact(run)))


def stop_asked(run: Run, why: str) -> None:
    """A stop from outside ends it; a run that stops by itself says so with its own reason."""
    run.gates.holdout.called_off |= run.stopping is None or why != run.stopping.why


def ahead(run: Run) -> bool:
    """The run has stopped by itself, and measures keeps or may: the first signal ends only that."""
    gate = run.gates.holdout
    return bool(run.config.holdout and run.stopping and not run.stopping.failed and not gate.called_off)


def deal(run: Run) -> bool:
    """At the end of a run that ended by itself: give free slots what still waits. Whether it is over."""
    queue, limit = run.schedule.queues[Purpose.HOLDOUT], run.config.max_time
    late = limit is not None and run.clock.elapsed_seconds + finale.run_seconds(run) > limit
    if late or not ahead(run):
        queue.clear()
    for slot in run.slots.free:
        if queue and regime.admits(run):
            measuring.start(run, slot.number, queue.popleft())
    return not run.slots.busy


def wanted(run: Run) -> dict[int, int]:
    """How often each keep is to be measured in all: once, and again where the first look says that it loses."""
    gauge, runs = run.gates.holdout.gauge, dict[int, int]()
    for before, trial in _compared(run):
        runs.setdefault(trial, 0 if trial in run.gates.holdout.failed else 1)
        after = _values(run, trial)
        if after and gauge.metric and gauge.metric.direction.better(_values(run, before)[0], after[0]):
            runs[trial] = LEAST_RUNS
            runs[before] = max(runs.get(before, 0), LEAST_RUNS)
    return {trial: count for trial, count in runs.items() if trial not in run.gates.holdout.failed}


def losing(run: Run) -> list[int]:
    """Keeps that lose on it against the keep before them, beyond noise, or on which it gives no value."""
    holdout, found = run.gates.holdout, []
    spread, metric = holdout.gauge.spread, holdout.gauge.metric
    for before, trial in _compared(run):
        sides = _values(run, trial), _values(run, before)
        enough = min(map(len, sides)) >= LEAST_RUNS
        if trial in holdout.failed or (metric and enough and clearly_worse(*sides, spread, metric.direction)):
            found.append(trial)
    return found


def fact(run: Run) -> dict[str, object]:
    """What views say of it."""
    holdout, keeps = run.gates.holdout, run.population.kept[1:]
    values = {str(trial): _values(run, trial) for trial in [0, *keeps] if _values(run, trial)}
    failed = {str(trial): why for trial, why in holdout.failed.items()}
    measured = sum(bool(_values(run, trial)) or trial in holdout.failed for trial in keeps)
    return {"values": values, "failed": failed, "loses": losing(run), "measured": measured, "keeps": len(keeps)}


def _compared(run: Run) -> Iterator[tuple[int, int]]:
    """Each keep, and before it the latest one before it that has a value."""
    before = 0
    for trial in run.population.kept[1:]:
        yield before, trial
        before = trial if _values(run, trial) and trial not in run.gates.holdout.failed else before


def _values(run: Run, trial: int) -> Sequence[float]:
    return run.gates.holdout.gauge.pools.get(tree_of(run, trial), ())
