"""How trials end: landing, rows, and what waited for them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autoresearch.actions import Land, Note, Record
from autoresearch.record import CONFIRMATIONS
from autoresearch.state import bounds, candidates, gates, life, measuring, proposals
from autoresearch.state.life import Live, Stage
from autoresearch.trial import Outcome, Purpose, Reason

if TYPE_CHECKING:
    from autoresearch.state.run import Run


def land(run: Run, live: Live, reason: Reason) -> None:
    """Move the branch, one trial at a time: the next keep is judged against what lands now."""
    candidate = live.candidate
    others = (other for other in run.live.values() if other.number != live.number)
    if candidate is None or any(other.stage is Stage.LANDING for other in others) or bounds.refused(run, live):
        return
    message = live.message or life.landing_message(live, run.metric)
    verdict = Reason.REPLACED if live.alone else reason
    run.live[live.number] = replace(live, stage=Stage.LANDING, verdict=verdict, message=message)
    run.do(Land(live.number, candidate.commit, run.tip, message))


def landed(run: Run, live: Live, commit: str) -> None:
    """The branch moved to it: it is the incumbent, and others are judged against it from now on."""
    if live.candidate is None:
        return
    if not live.fresh and live.screen is not None:
        run.archive.measured(live.candidate.tree, live.screen, live.worker or 0)
    if live.value is not None and live.compared is not None:
        run.archive.confirmations = run.archive.confirmations.with_win(
            run.metric.direction.gain(live.compared, live.value)
        )
    last = live.last
    if last is not None:
        at_bound = last.at_bound and live.value == last.value
        run.archive.shown = replace(run.archive.shown, tail=last.tail, extra=last.extra, at_bound=at_bound)
    landed = replace(live, candidate=replace(live.candidate, commit=commit))
    end(run, landed, Outcome.KEEP, live.verdict or Reason.IMPROVED)
    measuring.ask_feedback(run, live.number, commit)
    gates.landed(run, live.number)
    run.schedule.queues[Purpose.ANCHOR].clear()  # fresh runs of an older incumbent decide nothing any more
    for other in list(run.live.values()):
        if other.stage is Stage.CONFIRMING and (not other.alone or run.regime.paired):
            dropped = run.schedule.drop(other.number)
            other = replace(other, pending=other.pending - dropped)
            # Values beside an older incumbent are no evidence of being better than this one.
            run.live[other.number] = replace(other, fresh=(), beside=()) if other.alone else other
    candidates.advance_all(run)


def end(run: Run, live: Live, outcome: Outcome, reason: Reason, note: str = "") -> None:
    """The one place where a trial ends."""
    if not run.baseline.recorded:
        run.live[live.number] = replace(live, stage=Stage.ENDING, ending=(outcome, reason, note))
        return
    if live.fresh and outcome is not Outcome.KEEP:
        run.archive.confirmations = run.archive.confirmations.lost()
    if live.fresh:
        run.do(Note(CONFIRMATIONS, run.archive.confirmations.to_row()))
    trial = live.ended(outcome, reason, note, run.clock.at, run.metric)
    run.live.pop(live.number, None)
    run.archive.add(trial)
    if live.own is not None:
        run.archive.results.setdefault(live.own.tree, trial)
    if live.candidate is not None and outcome is not Outcome.KEEP:
        run.archive.forget_pool(live.candidate.tree, live.number)
    run.population.tell(trial)
    run.budget = run.budget.end(live.number)
    run.do(Record(trial))


def resolve_waiting(run: Run) -> None:
    """Let go on what waited for another trial, until nothing more does: one may wait for another that waits."""
    while any([_resolve(run, live) for live in list(run.live.values()) if live.stage is Stage.WAITING]):
        pass


def _resolve(run: Run, live: Live) -> bool:
    """Let one trial go on; whether it did."""
    if live.candidate is not None:
        candidates.meet_twin(run, live, live.candidate)
    elif live.parent in run.asking.dropped:
        proposals.drop(run, live.number)
    elif not run.stopping:
        proposals.apply(run, live)
    now = run.live.get(live.number)
    return now is None or now.stage is not Stage.WAITING


def record_baseline(run: Run) -> None:
    """Its row is the first: as soon as a candidate could be judged, or with what there is when the run ends."""
    if run.baseline.recorded or not run.baseline.good:
        return
    run.baseline.recorded = True
    trial = run.baseline.trial(run.baseline_values, run.given.base, run.given.base_tree, run.clock.at)
    run.archive.add(trial)
    run.do(Record(trial))
    bounds.baseline_recorded(run)
    for live in list(run.live.values()):
        if live.ending is not None:
            end(run, live, *live.ending)
    candidates.advance_all(run)
