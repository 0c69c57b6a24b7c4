"""The stand-in of --screen: a cheaper command that is run first; what is clearly worse on it is not measured."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from autoresearch import plain
from autoresearch.actions import Note
from autoresearch.events import Measured
from autoresearch.schedule import Work
from autoresearch.state import candidates, ending
from autoresearch.state.gauge import Gauge, clearly_worse, tree_of
from autoresearch.state.life import Live
from autoresearch.state.staging import Step, steps
from autoresearch.trial import Measurement, Outcome, Purpose, Reason, mean

if TYPE_CHECKING:
    from autoresearch.state.run import Run

FACT = "standin"
BASELINES, NOISY_BASELINES = 3, 6
"""Values of the unchanged code: more where they differ."""
REMEMBERED = 200
"""Candidates over which the agreement is worked out, the latest ones."""
POOR_AGREEMENT, POOR_AFTER = 0.3, 20
"""An agreement below this, over at least so many candidates, is poor."""


@dataclass(slots=True)
class Standin:
    """What is known of it."""

    gauge: Gauge = field(default_factory=lambda: Gauge("--screen"))
    pairs: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """(stand-in, metric) of candidates that have both."""
    screened_out: int = 0

    def wanted(self, tree: str) -> int:
        """How many values of the unchanged code are needed."""
        return BASELINES if len({*self.gauge.pools.get(tree, ())}) <= 1 else NOISY_BASELINES


def measured(run: Run, event: Measured) -> None:
    """The stand-in ran: on a candidate, or on what candidates are compared with."""
    gauge, live = run.gates.standin.gauge, run.live.get(event.trial)
    if live is not None:
        _candidate_measured(run, live, event)
    elif (tree := tree_of(run, event.trial)) and gauge.metric is not None:
        gauge.take(tree, event.measurement)


def _candidate_measured(run: Run, live: Live, event: Measured) -> None:
    standin, seen = run.gates.standin, event.measurement
    live = replace(
        live, pending=live.pending - 1, seconds=live.seconds + seen.seconds_total, worker=event.slot, last=seen
    )
    run.live[live.number] = live
    run.asking.pace = run.asking.pace.measured(seen.seconds_total)
    value = standin.gauge.take(live.candidate.tree if live.candidate else "", seen)
    note = "" if value is None else _why_not(run, live, value)
    if seen.failure is not Reason.CHECKS_FAILED:
        seconds = seen.seconds_total - seen.check_seconds
        run.gates.staging.seen(Step.STANDIN, seconds, rejected=value is None or bool(note))
    if value is None:
        candidates.failed(run, replace(live, failed=seen), seen)
    elif note:
        standin.screened_out += 1
        ending.end(run, live, Outcome.DISCARD, Reason.SCREENED_OUT, note)
        say(run)
    else:
        candidates.schedule_screen(run, live)


def _why_not(run: Run, live: Live, value: float) -> str:
    """Why a candidate does not go on; empty where it does, or where nothing is known of its parent."""
    gauge = run.gates.standin.gauge
    parent = gauge.pools.get(tree_of(run, live.parent), ())
    if not parent or gauge.metric is None or not clearly_worse([value], parent, gauge.spread, gauge.metric.direction):
        return ""
    return f"the stand-in gives {plain.number(value)}, its parent's {plain.number(mean(parent))}"


def seen(run: Run, event: Measured) -> None:
    """The metric of a candidate was measured: whether the stand-in ranks as it does."""
    live, value = run.live.get(event.trial), event.measurement.value
    if event.purpose is not Purpose.SCREEN or live is None or live.candidate is None or value is None:
        return
    if pool := run.gates.standin.gauge.pools.get(live.candidate.tree):
        run.gates.standin.pairs.append((pool[0], value))


def landed(run: Run, trial: int, tree: str, commit: str) -> None:
    """Candidates are compared with it: a combination has no value yet."""
    if Step.STANDIN in steps(run) and tree not in run.gates.standin.gauge.pools:
        run.schedule.add(Work(trial, commit, Purpose.STANDIN))


def say(run: Run) -> None:
    """Note how it does, for views."""
    standin = run.gates.standin
    agreement, candidates = rank_agreement(standin.pairs), len(standin.pairs)
    poor = agreement is not None and candidates >= POOR_AFTER and agreement < POOR_AGREEMENT
    fact = {"agreement": agreement, "candidates": candidates, "screened_out": standin.screened_out, "poor": poor}
    run.do(Note(FACT, fact | {"left_out": Step.STANDIN not in steps(run)}))


def rank_agreement(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rank correlation, ties by their mean rank; None for fewer than 3 pairs, or where one side is constant.

    Spearman, C. (1904), The proof and measurement of association between two things. Am. J. Psychology 15.
    """
    if len(pairs) < 3:
        return None
    left, right = (_ranks([pair[side] for pair in pairs]) for side in (0, 1))
    middle = (len(pairs) + 1) / 2
    spreads = [sum((rank - middle) ** 2 for rank in ranks) for ranks in (left, right)]
    if 0.0 in spreads:
        return None
    shared = sum((one - middle) * (other - middle) for one, other in zip(left, right, strict=True))
    return float(shared / (spreads[0] * spreads[1]) ** 0.5)


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of theirs."""
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values), 1):
        places.setdefault(value, []).append(place)
    return [sum(places[value]) / len(places[value]) for value in values]


def baseline_measured(run: Run, measurement: Measurement) -> None:
    """It ran on the unchanged code, before the plan is shown.

    Raises:
        UsageError: it fails there, or prints no number or several.
    """
    gauge = run.gates.standin.gauge
    if gauge.metric is None or not measurement.ok:
        gauge.choose(measurement, run.config, run.metric.direction)
    gauge.take(run.given.base_tree, measurement)
