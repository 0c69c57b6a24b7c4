"""The constraints of a run: what a candidate's secondary metrics must keep, at its screen and where it would land."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoresearch import plain
from autoresearch.constraints import Constraint, numbers, parse
from autoresearch.errors import UsageError
from autoresearch.events import Measured
from autoresearch.metric import RESOURCES
from autoresearch.state import candidates, confirming, ending
from autoresearch.state.life import Live
from autoresearch.trial import Measurement, Outcome, Purpose, Reason, mean

if TYPE_CHECKING:
    from autoresearch.state.run import Run

Numbers = Mapping[str, float]
TOLERATED_DEVIATIONS = 2.0
"""By how many standard deviations of the baseline one value may miss a bound; the mean of fresh runs may not at all."""
LEAST_RUNS = 2
"""Runs that decide on a bound; with fewer fresh ones the screen counts too."""
SHOWN = 12


@dataclass(slots=True)
class Bounds:
    """What was measured of live trials, by trial and commit: (whether it was a screen, its numbers)."""

    seen: dict[int, dict[str, list[tuple[bool, Numbers]]]] = field(default_factory=dict)


def constraints(run: Run) -> list[Constraint]:
    """As they were asked for."""
    return [parse(text) for text in run.config.constraint]


def seen(run: Run, event: Measured) -> None:
    """A candidate was measured."""
    if not run.config.constraint or event.purpose not in (Purpose.SCREEN, Purpose.CONFIRM):
        return
    bounds = run.gates.bounds
    for number in [number for number in bounds.seen if number not in run.live]:
        del bounds.seen[number]
    if event.trial in run.live and event.measurement.ok:
        rows = bounds.seen.setdefault(event.trial, {}).setdefault(event.commit, [])
        rows.append((event.purpose is Purpose.SCREEN, numbers(event.measurement, run.metric)))


def require(run: Run, baseline: Measurement) -> None:
    """The unchanged code names what the constraints are about, and keeps them.

    Raises:
        UsageError: it does not.
    """
    printed = numbers(baseline, run.metric)
    for constraint in constraints(run):
        if constraint.key not in printed:
            names = [*sorted({*baseline.extra, run.metric.name} - {""}), *RESOURCES]
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise UsageError(
                f"--constraint `{constraint.text}`: the baseline does not print {constraint.name}; "
                f"it has {', '.join(names[:SHOWN])}{more}"
            )
        if why := _broken(constraint, [printed], printed[constraint.key]):
            raise UsageError(f"--constraint `{constraint.text}`: the baseline breaks it: {why}")


def baseline_recorded(run: Run) -> None:
    """The baseline has all its values: on average they must keep the bounds, or nothing equal to it could be kept."""
    for constraint in constraints(run):
        values = _baseline(run, constraint)
        if why := _broken(constraint, [{constraint.key: value} for value in values], mean(values)):
            run.drain(f"the baseline breaks --constraint `{constraint.text}`: {why}", failed=True)


def refused(run: Run, live: Live) -> bool:
    """End a promising candidate that breaks a constraint, or let it compete alone; whether that was done.

    One screen decides only where it misses a bound by more than noise; where it would land, the mean of its fresh runs
    does.
    """
    why = next((why for constraint in constraints(run) if (why := _why(run, live, constraint))), "")
    if not why:
        return False
    if live.merged and not live.alone:
        candidates.conclude(run, live, Outcome.DISCARD, Reason.CONSTRAINT)
        confirming.compete_alone(run, live, Reason.CONSTRAINT)
    else:
        ending.end(run, live, Outcome.DISCARD, Reason.CONSTRAINT, why)
    return True


def _why(run: Run, live: Live, constraint: Constraint) -> str:
    commit = live.candidate.commit if live.candidate else ""
    rows = run.gates.bounds.seen.get(live.number, {}).get(commit, [])
    fresh = [row for screen, row in rows if not screen]
    counted = fresh if len(fresh) >= LEAST_RUNS else [row for _, row in rows]
    values, tolerated = _baseline(run, constraint), 0.0
    if not fresh and run.config.repeats != 1 and len(values) > 1:
        tolerated = TOLERATED_DEVIATIONS * statistics.stdev(values)
    return _broken(constraint, counted, mean(values), tolerated)


def _baseline(run: Run, constraint: Constraint) -> list[float]:
    """What the unchanged code printed under the name; its first measurement did."""
    rows = [numbers(each, run.metric) for each in run.baseline.good]
    return [row[constraint.key] for row in rows if constraint.key in row]


def _broken(constraint: Constraint, rows: Sequence[Numbers], baseline: float, tolerated: float = 0.0) -> str:
    """How the mean of some measurements breaks a constraint, in words; empty where it does not."""
    if not rows:
        return ""
    if any(constraint.key not in row for row in rows):
        return f"{constraint.name} was not printed"
    value, bound = mean([row[constraint.key] for row in rows]), constraint.bound(baseline)
    if constraint.holds(value, baseline) or 0 < constraint.excess(value, baseline) <= tolerated:
        return ""
    shown, limit = plain.apart(value, bound)
    return f"{constraint.name} is {shown}, and {constraint.text} asks for {constraint.comparison} {limit}"
