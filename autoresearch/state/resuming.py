"""Going on in a new process: what was in flight is done again."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

from autoresearch.budget import limits_of
from autoresearch.config import RunConfig
from autoresearch.events import Resumed
from autoresearch.schedule import Schedule
from autoresearch.state import candidates, ending, finale, gates, measuring, proposals
from autoresearch.state.canary import Canary
from autoresearch.state.life import Live, Stage
from autoresearch.state.slots import Slots
from autoresearch.trial import Reason

if TYPE_CHECKING:
    from autoresearch.state.run import Run


def resumed(run: Run, event: Resumed, at: float) -> None:
    """What was in flight is done again: proposals are asked for, measurements are scheduled anew."""
    run.clock.resume(at)
    run.given = replace(
        run.given,
        config=RunConfig.from_row(event.config),
        repairs=event.proposer_repairs,
        ordered=event.proposer_ordered,
        cost_bound_usd=event.cost_bound_usd,
        cost_least_usd=event.cost_least_usd,
    )
    run.stopping, run.schedule, run.canary = None, Schedule(), Canary()
    bounded = run.config.workers is None
    run.slots = Slots(most=run.slots.most, why_bound=run.slots.why_bound) if bounded else Slots()
    run.asking.exhausted, run.asking.not_before = "", 0.0
    for number in list(run.budget.reserved):
        run.budget = run.budget.forfeit(number)
    run.budget = replace(run.budget, limits=limits_of(run.config))
    run.baseline.taken_over = run.baseline.recorded
    finale.resumed(run)
    run.be_patient()
    run.wake_at_the_end()
    for live in sorted(run.live.values(), key=attrgetter("number")):
        take_up(run, replace(live, pending=0))
    measuring.ask_feedback(run, run.population.incumbent, run.tip)
    gates.resumed(run)


def take_up(run: Run, live: Live) -> None:
    """Do again what its stage was waiting for."""
    run.live[live.number] = live
    match live.stage:
        case Stage.PROPOSING | Stage.DEFERRED:
            run.live[live.number] = replace(live, stage=Stage.DEFERRED)
        case Stage.APPLYING:
            proposals.apply(run, live)
        case Stage.SCREENING if live.screen is None and live.failed is None:
            candidates.schedule_screen(run, live)
        case Stage.SCREENING | Stage.CONFIRMING:
            candidates.advance(run, live)
        case Stage.MERGING:
            run.live[live.number] = replace(live, stage=Stage.QUEUED)
        case Stage.LANDING:
            ending.land(run, replace(live, stage=Stage.CONFIRMING), live.verdict or Reason.IMPROVED)
