"""The merge queue: promising candidates are confirmed against the incumbent as it is now, the most promising first.

A win makes every confirmation beside it one against an older incumbent, whose runs are then superseded. So a further
one begins only where those under way are likely to come to nothing: a candidate that is superseded again and again is
measured often, and each new test of it is one more that it may fail.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from autoresearch import acceptance
from autoresearch.acceptance import Decision, Evidence, Verdict
from autoresearch.actions import Merge
from autoresearch.schedule import Work
from autoresearch.state import candidates, ending, regime
from autoresearch.state.life import Live, Stage
from autoresearch.trial import Candidate, Outcome, Purpose, Reason, mean

if TYPE_CHECKING:
    from autoresearch.state.run import Run

LIKELY_WINS = 0.4
"""A further confirmation begins while fewer wins than this are expected of those under way."""
SHRUNK = 0.5
"""How much of the gain that a screen shows is believed: it was chosen for being high."""


def join(run: Run, live: Live) -> None:
    """A candidate is promising: it waits for its turn, the more urgently the more it promises."""
    promise = 0.0
    if live.fresh:
        promise = _gain(run, live)
    elif live.compared is not None and live.screen is not None:
        promise = SHRUNK * run.metric.direction.gain(live.compared, live.screen)
    run.live[live.number] = replace(live, stage=Stage.QUEUED, pending=0, promise=promise)


def start_next(run: Run) -> bool:
    """Begin the most promising confirmation, where there is room for one; whether that was done."""
    waiting = [live for live in run.live.values() if live.stage is Stage.QUEUED]
    if run.stopping or not run.baseline.recorded or not waiting or not _has_room(run):
        return False
    live = max(waiting, key=lambda live: (live.promise, -live.number))
    begin(run, replace(live, stage=Stage.CONFIRMING))
    return True


def _has_room(run: Run) -> bool:
    under_way = Counter(live.stage for live in run.live.values())
    if under_way[Stage.LANDING]:
        return False
    active = under_way[Stage.CONFIRMING] + under_way[Stage.MERGING]
    return active * run.archive.confirmations.win_share < LIKELY_WINS


def begin(run: Run, live: Live) -> None:
    """Confirm a candidate: its combination with the incumbent, where that has moved since its parent was chosen."""
    if live.alone or live.base == run.tip:
        judge(run, live)
    elif live.own is not None:
        run.live[live.number] = replace(live, stage=Stage.MERGING)
        run.do(Merge(live.number, live.own.commit, live.parent_commit, run.tip))


def merged(run: Run, live: Live, onto: str, candidate: Candidate | None) -> None:
    """Its change was put on top of the incumbent, or conflicts with it."""
    give_up_combination(run, live)
    if candidate is None:
        compete_alone(run, live, Reason.CONFLICT)
        return
    owner = run.archive.owners.setdefault(candidate.tree, live.number)
    if candidate.tree in run.archive.results:
        compete_alone(run, live, Reason.SUPERSEDED)
    elif owner == live.number:
        judge(run, live.rebased(candidate, onto))
    else:
        run.live[live.number] = replace(live.rebased(candidate, onto), stage=Stage.WAITING)


def go_on(run: Run, live: Live) -> None:
    """None of its measurements is pending: decide, or queue again where the incumbent has moved meanwhile."""
    if live.alone or live.base == run.tip:
        judge(run, live)
    elif live.fresh and live.lines >= 0 and _gain(run, live) <= _least_hope(run, live):
        lost(run, live, Reason.UNCONFIRMED)
    else:
        join(run, live)


def _gain(run: Run, live: Live) -> float:
    """Over what it was measured beside, else over the pool that it was compared with."""
    if live.beside:
        return mean(live.gains(run.metric.direction))
    return run.metric.direction.gain(live.compared or 0.0, mean(live.fresh))


def _least_hope(run: Run, live: Live) -> float:
    return acceptance.HOPELESS[0] * run.archive.noise.stdev * math.sqrt(1 / len(live.fresh) + 1 / acceptance.POOL)


def judge(run: Run, live: Live) -> None:
    """Decide on a candidate that sits on the incumbent, or competes with it; never against an older one."""
    if live.base != run.tip and not live.alone:
        join(run, live)
        return
    regime.look(run)  # a first disagreement may ask for pairs
    live = live.in_pairs if run.regime.paired else live
    live = replace(live, compared=regime.compared(run, live), implausible=regime.implausible(run, live))
    run.live[live.number] = live
    verdict = acceptance.judge(_evidence(run, live), regime.noise(run), run.rule)
    match verdict.decision:
        case Decision.MEASURE:
            measure_more(run, live, verdict)
        case Decision.KEEP:
            ending.land(run, live, verdict.reason or Reason.IMPROVED)
        case Decision.DISCARD:
            lost(run, live, verdict.reason or Reason.UNCONFIRMED)


def _evidence(run: Run, live: Live) -> Evidence:
    return Evidence(
        screen=live.screen,
        fresh=live.fresh,
        incumbent=run.incumbent_pool,
        lines=live.lines,
        topped_up=run.incumbent_tree in run.archive.unanchored,
        pairs=live.gains(run.metric.direction) if run.regime.paired else None,
        implausible=live.implausible,
    )


def lost(run: Run, live: Live, reason: Reason) -> None:
    """It is no better than the incumbent: a combination's candidate may still beat it alone."""
    if live.merged and not live.alone:
        run.archive.confirmations = run.archive.confirmations.lost()
        candidates.conclude(run, live, Outcome.DISCARD, reason)
        compete_alone(run, live, Reason.SUPERSEDED)
    else:
        ending.end(run, live, Outcome.DISCARD, Reason.SUPERSEDED if live.alone else reason)


def measure_more(run: Run, live: Live, verdict: Verdict) -> None:
    """Schedule what the verdict wants; nothing while the run drains, so that `resume` takes it up."""
    if run.stopping or live.candidate is None:
        return
    commit, against = live.candidate.commit, run.tip if run.regime.paired else ""
    for index in range(verdict.candidate_runs):
        index += live.n - live.disturbed  # a pair that is repeated keeps its place
        work = Work(live.number, commit, Purpose.CONFIRM, index, against=against, alone=run.regime.alone)
        run.schedule.add(work)
    run.live[live.number] = replace(live, pending=verdict.candidate_runs)
    regime.top_up(run, verdict.incumbent_runs)


def compete_alone(run: Run, live: Live, reason: Reason) -> None:
    """A candidate that conflicts with or does not add to the incumbent replaces it, if it beats it alone."""
    give_up_combination(run, live)
    pool = run.incumbent_pool
    alone = replace(live.competing_alone(), compared=mean(pool))
    if alone.own_screen is not None:
        verdict = acceptance.screen(alone.own_screen, pool, 0, run.archive.noise, run.rule)
        if verdict.decision is not Decision.DISCARD or regime.unpooled(run):
            join(run, alone)
            return
    ending.end(run, alone, Outcome.DISCARD, reason)


def give_up_combination(run: Run, live: Live) -> None:
    """What it was merged to is measured no further: another trial may."""
    if live.own is not None and live.candidate is not None and live.candidate.tree != live.own.tree:
        run.archive.give_up(live.candidate.tree, live.number)
