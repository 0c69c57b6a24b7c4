"""The end of a run that ended by itself: baseline and best are measured again, afresh, by turns, over all slots."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autoresearch.actions import Note, Wake
from autoresearch.comparison import FACT, compare
from autoresearch.events import Measured
from autoresearch.schedule import Work
from autoresearch.state import measuring, regime
from autoresearch.trial import Purpose, Reason, mean

if TYPE_CHECKING:
    from autoresearch.state.run import Run

RUNS = 5
"""Of each, where time is left and --repeats does not say otherwise."""
LEAST_RUNS = 2
"""Of each: fewer say nothing about the spread."""
MOST_OF_TIME = 0.25
"""How much of --max-time is reserved at most: a run that is shorter than its own end would try nothing."""
FIRST_SEED = 1000
"""Seeds of these runs count from here on, so that none is one that the search has chosen by."""


@dataclass(slots=True)
class Finale:
    """What is known of it; values by pair, whose two sides have the same seed."""

    best: int = 0
    trials: int = -1
    """Rows of the run when it began: what was measured before a further trial ended does not count."""
    baseline: dict[int, float] = field(default_factory=dict)
    bests: dict[int, float] = field(default_factory=dict)
    failed: dict[tuple[int, int], str] = field(default_factory=dict)
    """(trial, pair) to why it gave no value."""
    begun: bool = False
    """By this process."""
    over: bool = False
    cut: str = ""
    """Why it was not begun, or ended early."""
    wake_at: float = 0.0
    """The moment that the run was last to be woken at for it, in seconds since the epoch."""

    def of(self, trial: int) -> dict[int, float]:
        """The values of the baseline, or of the best."""
        return self.bests if trial else self.baseline

    def failures(self, trial: int) -> int:
        """How often it gave no value."""
        return sum(number == trial for number, _ in self.failed)

    def hopeless(self, trial: int) -> bool:
        """It fails more often than not."""
        return self.failures(trial) >= LEAST_RUNS + len(self.of(trial))


def runs_wanted(run: Run) -> int:
    """How often each is measured."""
    repeats = run.config.repeats
    return RUNS if repeats is None else max(repeats, LEAST_RUNS)


def reserved_seconds(run: Run) -> float:
    """What of --max-time is kept for it, and for the measurements that are running when it comes; 0: nothing."""
    limit, seconds = run.config.max_time, run_seconds(run)
    if limit is None or run.population.incumbent == 0 or not seconds:
        return 0.0
    usable, share = _side_by_side(run), MOST_OF_TIME * limit
    wanted = (math.ceil(2 * runs_wanted(run) / usable) + 1) * seconds
    least = (math.ceil(2 * LEAST_RUNS / usable) + 1) * seconds
    return min(wanted, share) if least <= share else 0.0


def run_seconds(run: Run) -> float:
    """How long one measurement takes, as far as is known, with a tenth in reserve."""
    baseline = [measurement.seconds_total for measurement in run.baseline.good]
    return 1.1 * max(run.asking.pace.measure_seconds, mean(baseline) if baseline else 0.0)


def wake(run: Run) -> None:
    """Ask to be woken when the reserved time begins, also where that moves."""
    limit, reserved, finale = run.config.max_time, reserved_seconds(run), run.finale
    if limit is None or not reserved or run.stopping:
        return
    at = run.clock.when(limit - reserved)
    if finale.wake_at <= run.clock.at or at < finale.wake_at - 1.0:
        finale.wake_at = at
        run.do(Wake(at))


def stop_asked(run: Run, why: str) -> None:
    """A stop from outside leaves it out, or ends it; a run that stops by itself says so with its own reason."""
    if run.stopping is None or why != run.stopping.why:
        _cut(run, f"stopped by {why}")


def ahead(run: Run) -> bool:
    """The run has stopped by itself, and measures again or will: the first signal ends only that."""
    return bool(run.stopping and not run.finale.over and not _why_not(run))


def resumed(run: Run) -> None:
    """In a new process it is begun anew at the next end; what was measured counts if no further trial ends."""
    finale = run.finale
    finale.begun, finale.over, finale.cut, finale.wake_at = False, False, "", 0.0
    run.do(Note(FACT, {"skipped": "the run was resumed and has not ended since"}))


def deal(run: Run) -> bool:
    """Once nothing else is under way: give free slots its work. Whether it is over."""
    finale, queue = run.finale, run.schedule.queues[Purpose.FINAL]
    if finale.over or not run.baseline.approved or run.given.baseline_only:
        return True
    if not finale.begun:
        _begin(run)
    _cut(run, _why_not(run) or ("no slot was left" if run.slots.lost else ""))
    for slot in run.slots.free:
        if queue and not _fits(run):
            _cut(run, "no time was left before --max-time")
        if queue and regime.admits(run):
            measuring.start(run, slot.number, queue.popleft())
    finale.over = not queue and not run.slots.busy
    if finale.over:
        run.do(Note(FACT, _found(run)))
    return finale.over


def measured(run: Run, work: Work | None, event: Measured) -> None:
    """One of its measurements ended."""
    if work is None:
        return
    finale, pair = run.finale, work.index - FIRST_SEED
    if event.measurement.value is None:
        finale.failed[event.trial, pair] = str(event.measurement.failure or Reason.NO_METRIC)
        if finale.hopeless(event.trial):
            _cut(run, _failures(run, event.trial))
    else:
        finale.of(event.trial)[pair] = event.measurement.value


def _why_not(run: Run) -> str:
    if run.stopping and run.stopping.failed:
        return "the run could not go on"
    return run.finale.cut or ("nothing was kept" if run.population.incumbent == 0 else "")


def _begin(run: Run) -> None:
    finale, best = run.finale, run.population.incumbent
    finale.begun = True
    if (finale.best, finale.trials) != (best, run.budget.trials):
        finale.best, finale.trials = best, run.budget.trials
        finale.baseline, finale.bests, finale.failed = {}, {}, {}
    sides = ((0, run.given.base), (best, run.tip))
    for pair in range(_pairs(run)):
        for trial, commit in sides if pair % 2 == 0 else sides[::-1]:
            if pair not in finale.of(trial) and (trial, pair) not in finale.failed:
                alone = run.regime.alone or run.regime.exclusive
                run.schedule.add(Work(trial, commit, Purpose.FINAL, FIRST_SEED + pair, alone=alone))


def _pairs(run: Run) -> int:
    """As many as are wanted and fit into what is left of --max-time; too few say nothing, and are none."""
    wanted, left = runs_wanted(run), _seconds_left(run)
    if math.isinf(left) or not run_seconds(run):
        return wanted
    done = len(run.finale.baseline) + len(run.finale.bests)
    rounds = math.floor(max(0.0, left) / run_seconds(run))
    fitting = min(wanted, (done + rounds * _side_by_side(run)) // 2)
    if fitting < LEAST_RUNS:
        run.finale.cut = run.finale.cut or "no time was left before --max-time"
        return 0
    return fitting


def _side_by_side(run: Run) -> int:
    """How many are measured at a time."""
    return 1 if run.regime.alone or run.regime.exclusive else max(1, run.slots.usable)


def _fits(run: Run) -> bool:
    """Whether a measurement that starts now will have ended before --max-time is over."""
    return run_seconds(run) <= _seconds_left(run)


def _seconds_left(run: Run) -> float:
    limit = run.config.max_time
    return math.inf if limit is None else limit - run.clock.elapsed_seconds


def _cut(run: Run, why: str) -> None:
    """End it early, where there is a reason."""
    if why:
        run.finale.cut = run.finale.cut or why
        run.schedule.queues[Purpose.FINAL].clear()


def _found(run: Run) -> dict[str, Any]:
    """What it has found, as a fact."""
    finale = run.finale
    baseline, best = list(finale.baseline.values()), list(finale.bests.values())
    if run.population.incumbent == 0 or min(len(baseline), len(best)) < LEAST_RUNS:
        return {"skipped": finale.cut or _failures(run, finale.best) or _failures(run, 0)}
    for values in (baseline, best):
        if run.archive.noise.deterministic and len({*values}) > 1:
            run.archive.disagreed(values)
    failed = [words for trial in (0, finale.best) if (words := _failures(run, trial))]
    return compare(baseline, best, run.archive.noise).to_row() | {"trial": finale.best, "failed": failed}


def _failures(run: Run, trial: int) -> str:
    """How often baseline or best failed, in words; empty where neither did."""
    finale, failures = run.finale, run.finale.failures(trial)
    if not failures:
        return ""
    last = [why for (number, _), why in finale.failed.items() if number == trial][-1]
    of = failures + len(finale.of(trial))
    return f"{'the best' if trial else 'the baseline'} failed {failures} of {of} times: {last}"
