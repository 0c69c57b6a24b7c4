"""From asking for a change to having one."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from autoresearch.actions import Apply, Propose, Wake
from autoresearch.brief import Brief, InFlight
from autoresearch.events import Deferred
from autoresearch.population import Ask
from autoresearch.schedule import Load, wants_proposal
from autoresearch.state import ending
from autoresearch.state.life import Live, Stage
from autoresearch.trial import Operator, Outcome, Proposal, Purpose, Reason, Reply, Usage, mean

if TYPE_CHECKING:
    from autoresearch.state.run import Run


def ask(run: Run) -> None:
    """Ask for a new trial."""
    propose(run, chosen(run, run.asking.number()))


def ask_again(run: Run, live: Live) -> None:
    """A proposal that was not answered is asked for anew, from where the run stands now; a repair as it was."""
    propose(run, live if live.repair else replace(chosen(run, live.number), usage=live.usage))


def chosen(run: Run, number: int) -> Live:
    """What trial `number` starts from."""
    if run.given.ordered:
        ask = Ask(run.population.incumbent, Operator.IMPROVE)
    else:
        random = Random(f"{run.config.seed}:{number}")
        others = [live.operator for live in run.live.values() if live.number != number]
        ask = run.population.ask(random, others)
    parent_commit = run.commit_of(ask.parent) or run.given.base
    return Live(number, ask.parent, parent_commit, ask.operator, Stage.PROPOSING, run.clock.at, ask.combine_with)


def propose(run: Run, live: Live) -> None:
    """Ask the proposer for a trial's change."""
    live = replace(live, stage=Stage.PROPOSING, asked_at=run.clock.at)
    run.live[live.number] = live
    run.budget = run.budget.reserve(live.number, run.proposal_usd)
    run.do(Propose(brief(run, live), live.parent_commit))


def brief(run: Run, live: Live) -> Brief:
    """What the proposer is told."""
    others = (other for other in run.live.values() if other.number != live.number)
    limited = run.budget.limits.usd is not None
    return Brief(
        trial=live.number,
        parent=live.parent,
        operator=live.operator,
        config=run.config,
        metric=run.metric,
        baseline=mean(run.baseline_values),
        best=run.best,
        incumbent=run.population.incumbent,
        incumbent_tail=run.archive.shown.tail,
        incumbent_extra=run.archive.shown.extra,
        feedback=run.archive.shown.feedback,
        history=tuple(run.archive.ended),
        in_flight=tuple(
            InFlight(other.number, other.operator, other.change.hypothesis if other.change else "") for other in others
        ),
        combine_with=None if live.combine_with is None else run.archive.trial(live.combine_with),
        repair=live.repair,
        spend_limit_usd=run.proposal_usd if limited else None,
    )


def asked_for(run: Run, number: int) -> Live | None:
    """The trial whose proposal is answered; None where it was given up while the answer was under way."""
    live = run.live.get(number)
    return live if live is not None and live.stage is Stage.PROPOSING else None


def proposed(run: Run, number: int, proposal: Proposal) -> None:
    """The proposer answered with a change."""
    usage = proposal.reply.usage
    run.budget = run.budget.settle(number, usage.cost_usd)
    live = asked_for(run, number)
    if live is None:
        return
    run.asking.answered(run.clock.at - live.asked_at)
    live = replace(live, change=proposal.change, model=proposal.reply.model, usage=live.usage + usage)
    if proposal.parent is not None:
        live = replace(live, parent=proposal.parent)
    apply(run, live)


def apply(run: Run, live: Live) -> None:
    """Apply its change to its parent, or wait for the parent to end."""
    if live.parent in run.live and live.parent < live.number:
        run.live[live.number] = replace(live, stage=Stage.WAITING)
        return
    commit = run.commit_of(live.parent)
    change = live.change
    if commit is None or change is None:
        ending.end(run, live, Outcome.CRASH, Reason.DOES_NOT_APPLY, f"its parent, trial {live.parent}, has no commit")
        return
    live = replace(live, stage=Stage.APPLYING, parent_commit=commit)
    run.live[live.number] = live
    run.do(Apply(live.number, commit, change))


def proposing_failed(run: Run, number: int, why: str, reply: Reply | None) -> None:
    """The proposer answered, uselessly."""
    usage = reply.usage if reply else Usage()
    run.budget = run.budget.settle(number, usage.cost_usd)
    live = asked_for(run, number)
    if live is None:
        return
    run.asking.answered(run.clock.at - live.asked_at)
    live = replace(live, usage=live.usage + usage, model=reply.model if reply else live.model)
    if live.repair is not None:
        ending.end(run, live, Outcome.CRASH, live.repair.reason, f"the repair failed: {why}")
    else:
        ending.end(run, live, Outcome.CRASH, Reason.PROPOSER_FAILED, why)


def deferred(run: Run, event: Deferred) -> None:
    """The model's server could not answer; the proposal waits to be asked for again."""
    run.budget = run.budget.settle(event.trial, event.cost_usd)
    live = asked_for(run, event.trial)
    if live is None:
        return
    run.asking.defer(live.asked_at, run.clock.at, event.why, event.retry_after_seconds)
    run.live[live.number] = replace(live, stage=Stage.DEFERRED)
    run.do(Wake(run.asking.not_before))


def exhausted(run: Run, number: int, why: str) -> None:
    """The proposer has nothing left."""
    run.asking.exhausted = why
    if (live := asked_for(run, number)) is not None:
        give_up(run, live)


def drop(run: Run, number: int) -> None:
    """Give a trial up without a row; its number is dealt again."""
    run.budget = run.budget.drop(number)
    del run.live[number]
    run.asking.drop(number)


def give_up(run: Run, live: Live) -> None:
    """It will not be answered: a repair ends as the crash that it was, another proposal leaves no row."""
    run.budget = run.budget.forfeit(live.number)
    if live.repair is None:
        drop(run, live.number)
    else:
        ending.end(run, live, Outcome.CRASH, live.repair.reason)


def give_up_unaffordable(run: Run) -> None:
    """What was to be asked again, where the money is spent meanwhile."""
    if run.budget.reserved or run.budget.affords(run.proposal_usd):
        return
    for live in list(run.live.values()):
        if live.stage is Stage.DEFERRED:
            give_up(run, live)


def ask_while_wanted(run: Run) -> None:
    """Ask again for what waits, then for new trials, as many as the slots need."""
    if run.clock.at < run.asking.not_before:
        return
    for live in list(run.live.values()):
        if live.stage is Stage.DEFERRED and has_place(run) and run.budget.affords(run.proposal_usd):
            ask_again(run, live)
    while (
        not run.given.baseline_only
        and not run.asking.exhausted
        and not run.archive.shown.at_bound
        and run.budget.allows(run.proposal_usd)
        and wants_proposal(load(run), run.asking.pace, run.config.proposers)
    ):
        ask(run)


def has_place(run: Run) -> bool:
    """Whether --proposers allows one more in flight."""
    limit = run.config.proposers
    return limit is None or sum(live.stage is Stage.PROPOSING for live in run.live.values()) < limit


def load(run: Run) -> Load:
    """What the slots have to do."""
    stages = [live.stage for live in run.live.values()]
    return Load(
        slots=max(1, run.slots.usable),
        free=len(run.slots.free),
        proposing=stages.count(Stage.PROPOSING) + stages.count(Stage.DEFERRED),
        queued=stages.count(Stage.APPLYING) + run.schedule.waiting(Purpose.SCREEN, Purpose.STANDIN),
        live=len(run.live) + (not run.baseline.recorded),
    )
