"""In which order a candidate passes checks, stand-in and measurement: the one that decides cheapest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import permutations
from typing import TYPE_CHECKING

from autoresearch.events import Measured
from autoresearch.schedule import Work
from autoresearch.state.life import Live, Stage
from autoresearch.trial import Purpose, Reason

if TYPE_CHECKING:
    from autoresearch.state.run import Run

ENOUGH = 8
"""Candidates that every step has decided on before the order is changed."""
LEAST_SECONDS, LEAST_SHARE = 1.0, 0.1
"""What another order must save for each candidate: figures of a few seconds are not worth an order that changes."""


class Step(StrEnum):
    """What a candidate passes, in the order of the beginning."""

    CHECKS = "checks"
    STANDIN = "stand-in"
    MEASURE = "measure"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step took so far, and how often it rejected."""

    runs: int = 0
    rejected: int = 0
    seconds: float = 0.0
    """Of all runs together."""

    def after(self, seconds: float, rejected: bool) -> Cost:
        """With one more run."""
        return Cost(self.runs + 1, self.rejected + rejected, self.seconds + seconds)

    @property
    def share(self) -> float:
        """The share that it rejects, by Laplace's rule of succession: never 0 or 1 because it was not seen yet."""
        return (self.rejected + 1) / (self.runs + 2)


Order = tuple[Step, ...]


def order(costs: Mapping[Step, Cost], usual: Order) -> Order:
    """The order of least expected time, where that saves clearly against the usual one.

    A step that comes behind another is only paid for candidates that the other let pass. The stand-in stands in for
    the measurement: behind it it decides nothing, so it comes before it or is left out.
    """
    if any(costs.get(step, Cost()).runs < ENOUGH for step in usual):
        return usual
    without = tuple(step for step in usual if step is not Step.STANDIN)
    possible = [each for each in permutations(usual) if _stands_in(each)]
    best = min([*possible, *permutations(without)], key=lambda steps: expected_seconds(costs, steps))
    now, then = expected_seconds(costs, usual), expected_seconds(costs, best)
    return best if now - then > max(LEAST_SECONDS, LEAST_SHARE * now) else usual


def _stands_in(steps: Sequence[Step]) -> bool:
    return Step.STANDIN not in steps or steps.index(Step.STANDIN) < steps.index(Step.MEASURE)


def expected_seconds(costs: Mapping[Step, Cost], steps: Sequence[Step]) -> float:
    """What one candidate takes on average."""
    expected, passing = 0.0, 1.0
    for step in steps:
        expected += passing * costs[step].seconds / costs[step].runs
        passing *= 1 - costs[step].share
    return expected


@dataclass(slots=True)
class Staging:
    """What the steps took so far."""

    costs: dict[Step, Cost] = field(default_factory=dict)
    passed: dict[int, set[str]] = field(default_factory=dict)
    """Live trials to those of their commits that have passed the checks; trial 0 stands for the unchanged code."""

    def seen(self, step: Step, seconds: float, *, rejected: bool) -> None:
        """A candidate took a step."""
        self.costs[step] = self.costs.get(step, Cost()).after(seconds, rejected)


def steps(run: Run) -> Order:
    """The order that holds now. Where a file fixes the trials it never changes: equal runs have equal rows."""
    config = run.config
    used = {Step.CHECKS: bool(config.check), Step.STANDIN: config.screen is not None, Step.MEASURE: True}
    usual = tuple(step for step in Step if used[step])
    return usual if run.given.ordered or config.repeats == 1 else order(run.gates.staging.costs, usual)


def checks_for(run: Run, work: Work) -> tuple[str, ...]:
    """The checks that a measurement runs: every tree that lands has passed them, and once is enough."""
    if work.commit in run.gates.staging.passed.get(work.trial, ()):
        return ()
    match work.purpose:
        case Purpose.BASELINE | Purpose.CONFIRM:
            return run.config.check
        case Purpose.SCREEN if _checks_before(run, Step.MEASURE):
            return run.config.check
        case Purpose.STANDIN if work.trial in run.live and _checks_before(run, Step.STANDIN):
            return run.config.check
    return ()


def _checks_before(run: Run, step: Step) -> bool:
    now = steps(run)
    return Step.CHECKS in now[: now.index(step)] if step in now else True


def first(run: Run, live: Live) -> Purpose:
    """What a candidate is measured for next: the stand-in, where there is one and it has not passed it."""
    tree = live.candidate.tree if live.candidate else ""
    standin = Step.STANDIN in steps(run) and tree not in run.gates.standin.gauge.pools
    return Purpose.STANDIN if standin else Purpose.SCREEN


def seen(run: Run, event: Measured) -> None:
    """A measurement ended: whether it passed the checks."""
    staging, measurement = run.gates.staging, event.measurement
    if not measurement.check_seconds or (event.trial and event.trial not in run.live):
        return
    passed = staging.passed.setdefault(event.trial, set())
    rejected = measurement.failure is Reason.CHECKS_FAILED
    if event.trial and event.commit not in passed:
        staging.seen(Step.CHECKS, measurement.check_seconds, rejected=rejected)
    if not rejected:
        passed.add(event.commit)


def judged(run: Run, event: Measured) -> None:
    """The measurement's consequences were drawn: whether it rejected the candidate."""
    staging, live = run.gates.staging, run.live.get(event.trial)
    undecided = live is not None and live.stage is Stage.SCREENING
    if event.purpose is Purpose.SCREEN and event.measurement.failure is not Reason.CHECKS_FAILED and not undecided:
        rejected = live is None or live.stage in (Stage.DEFERRED, Stage.PROPOSING, Stage.ENDING)
        seconds = event.measurement.seconds_total - event.measurement.check_seconds
        staging.seen(Step.MEASURE, seconds, rejected=rejected)
    for number in [number for number in staging.passed if number and number not in run.live]:
        del staging.passed[number]
