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
DISTURBED = "other programs used the machine while it was compared"
INCUMBENT_FAILURES = 3
"""After so many pairs in which the incumbent gave no value the candidate stays unconfirmed."""


def measured(run: Run, slot: SlotState, work: Work, event: Measured) -> None:
    """One side of a pair was measured: measure the other, or take the pair in."""
    live = run.live.get(work.trial)
    goes_on = live is not None and work.against == run.tip and not run.stopping
    if slot.half is None and event.measurement.ok and goes_on:
        run.slots.hold(slot.number, event.measurement)
        measuring.measure_side(run, slot.number, work, second=True)
        return
    run.slots.finish(slot.number, run.clock.at)
    first, second = (event.measurement, None) if slot.half is None else (slot.half, event.measurement)
    candidate, incumbent = (first, second) if work.candidate_first else (second, first)
    if live is None:
        return
    if candidate is not None and not candidate.ok:
        _take_in(run, live, slot.number, work, candidate)
    elif incumbent is not None and not incumbent.ok and work.against == run.tip:
        _incumbent_failed(run, live, work)
    elif candidate is None or incumbent is None or work.against != run.tip:
        give_up(run, live)
    else:
        _whole(run, live, slot, work, candidate, incumbent)


def give_up(run: Run, live: Live) -> None:
    """A pair will not be whole, or is one with an older incumbent: it says nothing. While the run drains, that is all:
    `resume` begins it anew."""
    live = replace(live, pending=live.pending - 1)
    run.live[live.number] = live
    if not live.pending and not run.stopping:
        candidates.advance(run, live)


def queue_again(run: Run, work: Work) -> None:
    """The machine failed under it: measure it elsewhere, unless that has become of no use."""
    live = run.live.get(work.trial)
    if work.against and live is None:
        return
    if work.against and live is not None and work.against != run.tip:
        give_up(run, live)
    else:
        run.schedule.add(work, first=True)


def _whole(run: Run, live: Live, slot: SlotState, work: Work, candidate: Measurement, incumbent: Measurement) -> None:
    """Both sides of a pair have a value. It counts, unless others used the machine and the metric minds."""
    if run.regime.time_like and (disturbed(candidate, slot.cpus) or disturbed(incumbent, slot.cpus)):
        if live.disturbed < REPEATED:
            seconds = live.seconds + candidate.seconds_total
            run.live[live.number] = replace(live, disturbed=live.disturbed + 1, n=live.n + 1, seconds=seconds)
            run.schedule.add(work, first=True)
            return
        live = replace(live, note=DISTURBED)
    gain = run.metric.direction.gain(incumbent.value or 0.0, candidate.value or 0.0)
    run.archive.pair_noise = run.archive.pair_noise.with_value(live.gains(run.metric.direction), gain)
    live = replace(live, beside=(*live.beside, incumbent.value or 0.0))
    if not work.alone:
        run.archive.measured(run.incumbent_tree, incumbent.value or 0.0, slot.number)
    _take_in(run, live, slot.number, work, candidate)


def _take_in(run: Run, live: Live, slot: int, work: Work, candidate: Measurement) -> None:
    event = Measured(work.trial, slot, Purpose.CONFIRM, work.commit, candidate)
    candidates.candidate_measured(run, live, event, pooled=not work.alone)


def _incumbent_failed(run: Run, live: Live, work: Work) -> None:
    work = replace(work, losses=work.losses + 1)
    if work.losses < INCUMBENT_FAILURES:
        run.schedule.add(work, first=True)
        return
    run.schedule.drop(live.number)
    note = "the incumbent could not be measured beside it"
    ending.end(run, replace(live, pending=0), Outcome.DISCARD, Reason.UNCONFIRMED, note)
