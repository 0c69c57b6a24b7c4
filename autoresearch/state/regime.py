"""How candidates are compared on this machine: with the incumbent's pool, or in interleaved pairs, drained or not.

The regime follows from what is known of the noise: load that changes the value, drift, slots that differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from autoresearch import acceptance, tools
from autoresearch import noise as noises
from autoresearch.actions import Note
from autoresearch.metric import ReaderKind
from autoresearch.noise import FACT, Kind, Load, Noise, Picture
from autoresearch.schedule import Work
from autoresearch.state import candidates, measuring
from autoresearch.state.life import Live, Stage
from autoresearch.trial import Measurement, Purpose, mean

if TYPE_CHECKING:
    from autoresearch.state.run import Run

SOLOS = 2
"""How often the baseline is measured alone, to see whether load changes its value."""
SOLOS_TO_BE_SURE = 4
"""How often where it seems to: much follows from it."""
SUSPICION, ALARM = 0.01, 0.002
"""How probable it may be that load seems to matter by chance: after the first of these runs, and after all of them."""
ANCHORS = 8
"""About one run in so many is a fresh run of the incumbent."""
LATEST = 400
"""Drift and slots are judged by so many of the latest fresh values."""
IMPLAUSIBLE = 10.0
"""A gain of more than so many times the largest that was confirmed so far is too good to be true."""
POOL_AT_LOAD = 2
"""Of an incumbent that was confirmed alone, before candidates are screened against it at the run's load."""


@dataclass(slots=True)
class Regime:
    """What was found out about the noise, and how measurements are made for it."""

    solo: list[Measurement] = field(default_factory=list)
    """The baseline alone."""
    solo_done: bool = False
    time_like: bool = False
    slots_differ: bool = False
    drifts: bool = False
    exclusive: bool = False
    """Everything is measured one at a time."""
    alone: bool = False
    """Confirmations are measured while nothing else is."""
    anchors: int = 0
    runs: int = 0
    """Measurements of candidates and of the incumbent, anchors among them."""
    said: tuple[int, ...] = ()
    """What views were told last of how candidates are compared, and of how well the spread is known."""

    @property
    def paired(self) -> bool:
        """Candidates are confirmed in pairs, interleaved with the incumbent."""
        return self.time_like or self.slots_differ or self.drifts


def speaks_of_time(run: Run) -> bool:
    """Whether the metric is a duration, by how it is read or by the objective's words."""
    metric = run.metric
    if metric.reader.kind is ReaderKind.RESOURCE:
        return metric.reader.key != "peak_rss_mb"
    return tools.speaks_of_time(run.config.objective) or tools.speaks_of_time(metric.name)


def wants_solo(run: Run) -> bool:
    """Whether the baseline is to be measured alone now: it is noisy, and slots share what it runs on."""
    regime = run.regime
    if regime.solo_done or regime.exclusive or run.config.repeats is not None or run.baseline.recorded:
        return False
    if len(run.baseline.good) < run.baseline.wanted(None) or measuring.baselines_running(run):
        return False
    shared = sum(slot.shares_cpus for slot in run.slots.states.values() if not slot.retired) > 1
    return shared and not run.archive.noise.deterministic


def admits(run: Run) -> bool:
    """Whether one more measurement may begin beside those that run."""
    busy = run.slots.busy
    return not busy or not (run.regime.exclusive or any(slot.work and slot.work.alone for slot in busy))


def solo(run: Run) -> Work | None:
    """The baseline alone, as soon as nothing else is measured."""
    return None if run.slots.busy else Work(0, run.given.base, Purpose.SOLO, len(run.regime.solo), alone=True)


def solo_measured(run: Run, measurement: Measurement) -> None:
    """The baseline was measured alone."""
    regime = run.regime
    if measurement.value is None:
        regime.solo_done = True
        return
    regime.solo.append(measurement)
    alone, loaded = _values(regime.solo), _values(run.baseline.good)
    certain = len(regime.solo) >= SOLOS_TO_BE_SURE
    matters = noises.load_matters(alone, loaded, ALARM if certain else SUSPICION)
    if certain or (len(regime.solo) >= SOLOS and not matters):
        regime.solo_done, regime.time_like, regime.alone = True, matters, matters
        if matters and run.config.exclusive == "auto":
            _choose_exclusive(run, alone, loaded)


def _choose_exclusive(run: Run, alone: Sequence[float], loaded: Sequence[float]) -> None:
    load = Load(
        alone=Noise().with_group(alone),
        alone_seconds=mean([each.seconds_total for each in run.regime.solo]),
        loaded=Noise().with_group(loaded),
        loaded_seconds=mean([each.seconds_total for each in run.baseline.good]),
    )
    side_by_side = len({fresh.slot for fresh in run.archive.fresh})
    if noises.beyond_use(load, side_by_side):
        run.regime.exclusive, run.regime.alone = True, False
        run.archive.restart(run.given.base_tree, alone)
        _screen_again(run)


def _screen_again(run: Run) -> None:
    """Candidates that were screened beside others are not compared with values of one at a time."""
    for live in list(run.live.values()):
        if live.stage is Stage.SCREENING and live.screen is not None:
            candidates.schedule_screen(run, replace(live, screen=None, own_screen=None))


def look(run: Run) -> None:
    """Say what is known of the noise, for views: first with the baseline, then whenever another way follows from it or
    twice as much is known of the spread."""
    if not run.baseline.recorded:
        return
    regime, exact = run.regime, run.archive.noise.deterministic
    if not exact and not regime.time_like and (not regime.said or regime.said[0]):
        regime.time_like = speaks_of_time(run)
    known = run.archive.noise.dof.bit_length()
    now = (exact, regime.time_like, regime.slots_differ, regime.drifts, regime.alone, regime.exclusive, known)
    if now != regime.said:
        regime.said = now
        run.do(Note(FACT, picture(run).to_row()))


def picture(run: Run) -> Picture:
    """What is known of the noise."""
    regime, spread = run.regime, noise(run)
    kind = Kind.DETERMINISTIC if run.archive.noise.deterministic else Kind.NOISY
    if regime.time_like:
        kind = Kind.TIME_LIKE
    smallest: list[tuple[int, float]] = []
    if spread.dof and kind is not Kind.DETERMINISTIC:
        config = run.config
        smallest = acceptance.smallest_gains(spread, config.confidence, paired=regime.paired, repeats=config.repeats)
    return Picture(
        kind=kind,
        value=mean(run.baseline_values),
        noise=run.archive.noise,
        slots=_by_slot(run),
        slots_differ=regime.slots_differ,
        drifts=regime.drifts,
        paired=regime.paired,
        alone=regime.alone,
        exclusive=regime.exclusive,
        smallest=smallest,
    )


def _by_slot(run: Run) -> tuple[float, ...]:
    by_slot: dict[int, list[float]] = {}
    if run.archive.noise.deterministic:
        return ()
    for fresh in run.archive.fresh:
        if fresh.tree == run.given.base_tree:
            by_slot.setdefault(fresh.slot, []).append(fresh.value)
    return tuple(mean(values) for _, values in sorted(by_slot.items()))


def noise(run: Run) -> Noise:
    """The spread that a comparison is judged by: of one measurement, or of a pair's difference."""
    if run.regime.paired:
        return run.archive.noise.of_differences(run.archive.pair_noise)
    return run.archive.noise


def watch(run: Run) -> None:
    """Look for drift and for slots that differ, after a fresh run of the incumbent."""
    regime, fresh = run.regime, run.archive.fresh[-LATEST:]
    regime.slots_differ = regime.slots_differ or noises.slots_differ(fresh)
    regime.drifts = regime.drifts or noises.drifts(fresh)


def wants_anchor(run: Run) -> bool:
    """Whether the next free slot measures the incumbent afresh, to see drift and to know it better."""
    if run.archive.noise.deterministic or run.config.repeats is not None:
        return False
    if run.incumbent_tree in run.archive.unanchored:
        return False
    return run.regime.anchors * ANCHORS < run.regime.runs


def count(run: Run, work: Work) -> None:
    """A measurement begins: about one in so many has to be of the incumbent."""
    if work.purpose in (Purpose.SCREEN, Purpose.CONFIRM, Purpose.ANCHOR):
        run.regime.runs += 2 if work.against else 1
        run.regime.anchors += work.purpose is Purpose.ANCHOR or bool(work.against)


def unpooled(run: Run) -> bool:
    """Whether nothing is known of the incumbent at the run's load, and something can be."""
    tree = run.incumbent_tree
    return run.regime.alone and tree not in run.archive.pools and tree not in run.archive.unanchored


def anchor(run: Run) -> Work:
    """A fresh run of the incumbent."""
    return Work(run.population.incumbent, run.tip, Purpose.ANCHOR, len(run.incumbent_pool))


def top_up(run: Run, wanted: int) -> None:
    """Queue fresh runs of the incumbent, less those that are coming."""
    tip = run.tip
    coming = run.schedule.count(tip, Purpose.ANCHOR)
    running = [slot.work for slot in run.slots.busy if slot.work]
    coming += sum(work.commit == tip and work.purpose is Purpose.ANCHOR for work in running)
    for index in range(max(0, wanted - coming)):
        index += len(run.incumbent_pool) + coming
        run.schedule.add(Work(run.population.incumbent, tip, Purpose.ANCHOR, index))


def compared(run: Run, live: Live) -> float:
    """What a candidate is compared with: the incumbent beside it, or its pool."""
    return mean(live.beside) if live.beside else mean(run.incumbent_pool)


def implausible(run: Run, live: Live) -> bool:
    """Whether a candidate is too good to be true: far beyond every gain so far, or an exact 0 of an unknown tool."""
    if live.value is None:
        return False
    if live.value == 0.0 and run.metric.reader.kind is not ReaderKind.TOOL:
        return True
    largest = run.archive.confirmations.largest_gain
    gain = run.metric.direction.gain(compared(run, live), live.value)
    return largest > 0.0 and gain > IMPLAUSIBLE * largest and not math.isclose(gain, largest)


def _values(measurements: Sequence[Measurement]) -> list[float]:
    return [measurement.value for measurement in measurements if measurement.value is not None]
