"""From a change to a verdict: apply, screen, merge, confirm; always against the incumbent as it is now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autoresearch import acceptance
from autoresearch.acceptance import Decision
from autoresearch.brief import Repair
from autoresearch.events import Measured
from autoresearch.schedule import Work
from autoresearch.state import bounds, confirming, ending, regime, staging
from autoresearch.state.life import Live, Stage
from autoresearch.trial import Candidate, Measurement, Outcome, Purpose, Reason, mean

if TYPE_CHECKING:
    from autoresearch.state.run import Run


def applied(run: Run, live: Live, candidate: Candidate) -> None:
    """A change became a commit: it is screened, unless its tree is known or being measured."""
    owner = run.archive.owners.setdefault(candidate.tree, live.number)
    live = live.applied(candidate)
    if owner != live.number or candidate.tree in run.archive.results:
        run.live[live.number] = replace(live, stage=Stage.WAITING, pending=0)
    else:
        schedule_screen(run, live)


def meet_twin(run: Run, live: Live, candidate: Candidate) -> None:
    """Its tree is another trial's: it ends with that one, or takes the tree over where that one gave it up."""
    known = run.archive.results.get(candidate.tree)
    owner = run.archive.owners.setdefault(candidate.tree, live.number)
    if known is None and owner != live.number:
        return
    if known is None:
        if live.merged:
            confirming.judge(run, replace(live, stage=Stage.CONFIRMING))
        else:
            schedule_screen(run, replace(live, stage=Stage.SCREENING))
    elif known.number == live.number:
        ending.end(run, live, known.outcome, known.reason, "the repair changed nothing")
    elif live.merged:
        confirming.compete_alone(run, live, Reason.SUPERSEDED)
    else:
        outcome = Outcome.CRASH if known.outcome is Outcome.CRASH else Outcome.DISCARD
        twin = replace(live, own_screen=known.value)
        ending.end(run, twin, outcome, Reason.DUPLICATE, f"same tree as trial {known.number}")


def schedule_screen(run: Run, live: Live) -> None:
    """Queue its first measurement."""
    if live.candidate is not None:
        run.live[live.number] = replace(live, pending=1)
        run.schedule.add(Work(live.number, live.candidate.commit, staging.first(run, live)))


def rejected(run: Run, live: Live, reason: Reason, why: str) -> None:
    """Its edits, or its merge, left the scope or did not apply."""
    if live.stage is Stage.MERGING:
        confirming.compete_alone(run, live, Reason.CONFLICT)
    elif not repair(run, live, reason, why):
        ending.end(run, live, Outcome.CRASH, reason, why)


def candidate_measured(run: Run, live: Live, event: Measured, *, pooled: bool = True) -> None:
    """One of its measurements ended; one that is not `pooled` was made under another load than the pools."""
    live = live.measured(event.purpose, event.slot, event.measurement)
    run.asking.pace = run.asking.pace.measured(event.measurement.seconds_total)
    if live.failed is not None:
        live = replace(live, pending=live.pending - run.schedule.drop(live.number))
    elif event.purpose is Purpose.CONFIRM and live.candidate is not None and live.fresh:
        note_disagreement(run, live)
        if len(live.fresh) == 1:
            run.archive.confirmations = run.archive.confirmations.beginning()
        if pooled:
            run.archive.measured(live.candidate.tree, live.fresh[-1], event.slot)
    run.live[live.number] = live
    if live.pending == 0:
        advance(run, live)


def note_disagreement(run: Run, live: Live) -> None:
    """An identical tree gave another value: a metric that seemed deterministic is noisy from here on."""
    values = [live.screen, live.fresh[-1]]
    if run.archive.noise.deterministic and live.screen is not None and live.screen != live.fresh[-1]:
        run.archive.disagreed([value for value in values if value is not None])


def advance_all(run: Run) -> None:
    """Decide on every trial that waits for a decision."""
    for live in list(run.live.values()):
        if live.pending == 0 and live.stage in (Stage.SCREENING, Stage.CONFIRMING):
            advance(run, live)


def advance(run: Run, live: Live) -> None:
    """Decide on a trial none of whose measurements is pending."""
    if not run.baseline_done or not run.baseline.recorded:
        return
    if live.failed is not None:
        failed(run, live, live.failed)
    elif live.stage is Stage.SCREENING and live.screen is not None:
        screened(run, live, live.screen)
    elif live.stage is Stage.CONFIRMING:
        confirming.go_on(run, live)


def screened(run: Run, live: Live, value: float) -> None:
    """Its first measurement is judged against its parent."""
    if regime.unpooled(run):
        regime.top_up(run, regime.POOL_AT_LOAD)
        return
    parent = run.pool_of(live.parent)
    live = replace(live, compared=mean(parent))
    verdict = acceptance.screen(value, parent, live.lines, run.archive.noise, run.rule)
    if verdict.decision is Decision.DISCARD:
        ending.end(run, live, Outcome.DISCARD, verdict.reason or Reason.WORSE)
    elif not bounds.refused(run, live):
        confirming.join(run, live)


def unmeasurable(run: Run, number: int) -> None:
    """Two slots could not even hold its files, and then measured the incumbent well: the candidate is at fault."""
    if (live := run.live.get(number)) is not None:
        run.schedule.drop(number)
        note = "no slot could be made ready for it, though they were for the incumbent"
        ending.end(run, replace(live, pending=0), Outcome.CRASH, Reason.DOES_NOT_APPLY, note)


def failed(run: Run, live: Live, measurement: Measurement) -> None:
    """A measurement of it gave no value."""
    reason = measurement.failure or Reason.NO_METRIC
    if live.merged and not live.alone:
        conclude(run, live, Outcome.DISCARD if reason is Reason.CHECKS_FAILED else Outcome.CRASH, reason)
        confirming.compete_alone(run, live, Reason.SUPERSEDED)
    elif reason is Reason.CHECKS_FAILED:
        ending.end(run, live, Outcome.DISCARD, reason, measurement.tail.partition("\n")[0])
    elif not repair(run, live, reason, measurement.tail):
        code = measurement.exit_code
        ending.end(run, live, Outcome.CRASH, reason, f"status {code}" if code else "")


def conclude(run: Run, live: Live, outcome: Outcome, reason: Reason) -> None:
    """Its tree is decided on, though the trial goes on with another one: twins end here."""
    if live.candidate is not None:
        concluded = live.ended(outcome, reason, "", run.clock.at, run.metric)
        run.archive.results.setdefault(live.candidate.tree, concluded)


def repair(run: Run, live: Live, reason: Reason, tail: str) -> bool:
    """Send a crash back to the proposer, once; whether that was done."""
    wanted = run.given.repairs and live.repair is None and live.change is not None and not run.stopping
    if not wanted or not run.budget.affords(run.proposal_usd) or live.change is None:
        return False
    conclude(run, live, Outcome.CRASH, reason)
    again = Live(live.number, live.parent, live.parent_commit, live.operator, Stage.DEFERRED, run.clock.at)
    spent = replace(again, usage=live.usage, model=live.model, n=live.n, seconds=live.seconds, worker=live.worker)
    crashed = replace(spent, change=live.change, candidate=live.candidate, last=live.last)
    run.live[live.number] = replace(crashed, repair=Repair(live.change, reason, tail))
    return True
