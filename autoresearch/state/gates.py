"""What a candidate passes beside its own number: checks, the stand-in, constraints; and the holdout of keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from autoresearch.actions import Approve
from autoresearch.events import Measured
from autoresearch.metric import Metric
from autoresearch.schedule import Work
from autoresearch.state import bounds, holdout, staging, standin
from autoresearch.state.bounds import Bounds
from autoresearch.state.gauge import tree_of
from autoresearch.state.holdout import Holdout
from autoresearch.state.staging import Staging
from autoresearch.state.standin import Standin
from autoresearch.trial import Purpose

if TYPE_CHECKING:
    from autoresearch.state.run import Run


@dataclass(slots=True)
class Gates:
    """What is known of all of them."""

    staging: Staging = field(default_factory=Staging)
    bounds: Bounds = field(default_factory=Bounds)
    standin: Standin = field(default_factory=Standin)
    holdout: Holdout = field(default_factory=Holdout)
    question: Approve | None = None
    """The plan's question, while it waits for stand-in and holdout to be read on the unchanged code."""


def ask(run: Run, question: Approve) -> None:
    """Ask the plan's question, as soon as stand-in and holdout are known to work."""
    run.gates.question = question
    _ask_if_ready(run)


def _ask_if_ready(run: Run) -> None:
    question = run.gates.question
    if question is not None and not any(_missing(run)):
        run.gates.question = None
        run.clock.ask()
        run.do(question)


def baseline_work(run: Run) -> Work | None:
    """What is run on the unchanged code beside the measure command, before the plan is shown."""
    if run.baseline.metric is None or run.baseline.approved:
        return None
    running = [slot.work.purpose for slot in run.slots.busy if slot.work]
    for purpose, known, missing in _missing(run):
        if running.count(purpose) < missing:
            return Work(0, run.given.base, purpose, known + running.count(purpose))
    return None


def _missing(run: Run) -> Iterator[tuple[Purpose, int, int]]:
    """What is still to be run on the unchanged code: how often it was, and how often more."""
    base, config, gates = run.given.base_tree, run.config, run.gates
    known = len(gates.standin.gauge.pools.get(base, ()))
    if config.screen is not None and known < gates.standin.wanted(base):
        yield Purpose.STANDIN, known, gates.standin.wanted(base) - known
    if config.holdout is not None and base not in gates.holdout.gauge.pools:
        yield Purpose.HOLDOUT, 0, 1


def of_baseline(run: Run, work: Work) -> bool:
    """Whether it is the unchanged code's first time, which may take longer than what is known."""
    first = work.purpose in (Purpose.STANDIN, Purpose.HOLDOUT) and not run.baseline.approved
    return work.purpose is Purpose.BASELINE or first


def command_of(run: Run, purpose: Purpose) -> tuple[str, Metric | None]:
    """What is run for a purpose, and how it is read."""
    config, gates = run.config, run.gates
    match purpose:
        case Purpose.STANDIN:
            return config.screen or "", gates.standin.gauge.metric
        case Purpose.HOLDOUT:
            return config.holdout or "", gates.holdout.gauge.metric
        case Purpose.FEEDBACK:
            return config.feedback or "", None
        case _:
            return config.measure, run.baseline.metric


def seen(run: Run, event: Measured) -> None:
    """A measurement ended; nothing has followed from it yet."""
    staging.seen(run, event)
    bounds.seen(run, event)
    standin.seen(run, event)


def judged(run: Run, event: Measured) -> None:
    """A candidate was measured, and what follows from it was drawn."""
    staging.judged(run, event)
    if event.purpose is Purpose.SCREEN and run.config.screen is not None:
        standin.say(run)


def measured(run: Run, event: Measured) -> None:
    """Stand-in or holdout ran."""
    before = not run.baseline.approved
    match event.purpose:
        case Purpose.STANDIN if before and event.trial == 0:
            standin.baseline_measured(run, event.measurement)
        case Purpose.HOLDOUT if before:
            holdout.baseline_measured(run, event.measurement)
        case Purpose.STANDIN:
            standin.measured(run, event)
        case _:
            holdout.measured(run, event)
    _ask_if_ready(run)


def landed(run: Run, trial: int) -> None:
    """A trial is the incumbent from now on."""
    tree, commit = tree_of(run, trial), run.commit_of(trial)
    if commit is not None:
        standin.landed(run, trial, tree, commit)
    holdout.top_up(run)


def resumed(run: Run) -> None:
    """A new process: what was queued is queued again."""
    run.gates.holdout.called_off = False
    if run.baseline.approved and run.population.incumbent:
        landed(run, run.population.incumbent)
