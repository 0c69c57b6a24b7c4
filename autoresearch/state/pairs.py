"""Pairs: candidate and incumbent, measured one after the other in one slot with equal seeds, taking turns to begin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autoresearch.events import Measured
from autoresearch.load import disturbed
from autoresearch.schedule import Work
from autoresearch.state import candidates, ending, measuring
from autoresearch.state.life import Live
from autoresearch.state.slots import SlotState
from autoresearch.trial import Measurement, Outcome, Purpose, Reason

if TYPE_CHECKING:
    from autoresearch.state.run import Run

REPEATED = 4
"""So many disturbed pairs of one candidate are measured again; further ones count, and the trial says so."""
INCUMBENT_FAILURES = 3
"""After so many pairs in which the incumbent gave no value the candidate stays unconfirmed."""


def measured(run: Run, slot: SlotState, work: Work, event: Measured) -> None:
    """One side of a pair was measured: measure the other, or take the pair in."""
    live = run.live.get(work.trial)
    if slot.half is None and event.measurement.ok and live is not None and not run.stopping:
        run.slots.hold(slot.number, event.measurement)
        measuring.measure_side(run, slot.number, work, second=True)
        return
    run.slots.finish(slot.number, run.clock.at)
    if live is None:
        return
    candidate, incumbent = event.measurement, slot.half
    if work.candidate_first != (slot.half is None):
        candidate, incumbent = slot.half or Measurement(None), event.measurement
    if incumbent is not None and not incumbent.ok:
        _incumbent_failed(run, live, work)
    elif incumbent is None and candidate.ok:
        run.live[live.number] = replace(live, pending=live.pending - 1)  # the run drains: `resume` begins it anew
    elif incumbent is not None and _to_be_repeated(run, live, slot, candidate, incumbent):
        again = replace(
            live, disturbed=live.disturbed + 1, n=live.n + 1, seconds=live.seconds + candidate.seconds_total
        )
        run.live[live.number] = again
        run.schedule.add(work, first=True)
    else:
        _take_in(run, live, slot.number, work, candidate, incumbent)


def _take_in(
    run: Run, live: Live, slot: int, work: Work, candidate: Measurement, incumbent: Measurement | None
) -> None:
    if incumbent is not None and incumbent.value is not None and candidate.value is not None:
        gain = run.metric.direction.gain(incumbent.value, candidate.value)
        run.archive.pair_noise = run.archive.pair_noise.with_value(live.gains(run.metric.direction), gain)
        live = replace(live, beside=(*live.beside, incumbent.value))
        if not work.alone:
            run.archive.measured(run.incumbent_tree, incumbent.value, slot)
    event = Measured(work.trial, slot, Purpose.CONFIRM, work.commit, candidate)
    candidates.candidate_measured(run, live, event, pooled=not work.alone)


def _to_be_repeated(run: Run, live: Live, slot: SlotState, candidate: Measurement, incumbent: Measurement) -> bool:
    """Others used the machine meanwhile, and the metric is one that this changes."""
    if not run.regime.time_like or live.disturbed >= REPEATED:
        return False
    return disturbed(candidate, slot.cpus) or disturbed(incumbent, slot.cpus)


def _incumbent_failed(run: Run, live: Live, work: Work) -> None:
    work = replace(work, losses=work.losses + 1)
    if work.losses < INCUMBENT_FAILURES:
        run.schedule.add(work, first=True)
        return
    run.schedule.drop(live.number)
    note = "the incumbent could not be measured beside it"
    ending.end(run, replace(live, pending=0), Outcome.DISCARD, Reason.UNCONFIRMED, note)
