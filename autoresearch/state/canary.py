"""Whether the measurement sees the edits: files of the scope are replaced, and it has to notice.

First all of them at once, by rubbish, and where that is not noticed, by nothing. The plan's question waits for that, so
that nothing is spent where something else is measured. Then, where a measurement is short, each file alone, when a slot
has nothing else to do: those that do not matter are named.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from autoresearch import plain
from autoresearch.actions import Approve, MakeCanary
from autoresearch.errors import EditUnseen
from autoresearch.events import CanaryMade
from autoresearch.schedule import BASELINES, Work
from autoresearch.state import gates
from autoresearch.trial import Measurement, Purpose, Reason, Substitute

if TYPE_CHECKING:
    from autoresearch.state.run import Run

FILES_ALONE = 20
"""At most so many files are replaced alone."""
ALONE_SECONDS = 10.0
"""Only where the baseline takes less than this."""
ALL_ALONE_SECONDS = 60.0
"""No further file is tried after so much measuring of single ones."""
CLEAR_DEVIATIONS = 5.0
"""How many standard deviations beyond the baseline's range a value is no chance."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One canary, from being asked for to a verdict."""

    substitute: Substitute
    path: str = ""
    """The file that is replaced alone; empty: all of the scope."""
    commit: str = ""
    """Empty while it is being made."""
    seen: Measurement | None = None


@dataclass(slots=True)
class Canary:
    """What is known of whether the edits are seen."""

    files: Sequence[str] = ()
    """Files of the scope, as many as may be tried alone; empty: there is no canary."""
    noticed: str = ""
    """How the scope's replacement was noticed, in words; empty: not yet."""
    question: Approve | None = None
    """The plan's question, while it waits for the verdict."""
    attempt: Attempt | None = None
    waiting: Work | None = None
    """The scope's replacement, while it waits for a slot."""
    tried: int = 0
    """How many files were replaced alone."""
    unseen: list[str] = field(default_factory=list)
    """Those of them that made no difference."""
    seconds: float = 0.0
    """Slot time spent on files alone."""
    done: bool = False
    """No further file is tried."""

    @property
    def making(self) -> bool:
        """A commit is being made."""
        return self.attempt is not None and not self.attempt.commit

    def take(self) -> Work | None:
        """The scope's replacement goes before all other work."""
        work, self.waiting = self.waiting, None
        return work


def noticed(seen: Measurement, baseline: Sequence[float]) -> str:
    """How a measurement differs from the baseline's values, in words; empty: it does not.

    A crash, a timeout, no metric, or a value that lies more than 5 standard deviations beyond the baseline's range;
    where all of these are equal, any other value.
    """
    if seen.value is None:
        return _failure(seen)
    spread = statistics.stdev(baseline) if len(baseline) > 1 else 0.0
    beyond = max(min(baseline) - seen.value, seen.value - max(baseline))
    if beyond > CLEAR_DEVIATIONS * spread:
        return f"{plain.number(seen.value)} in place of {plain.number(statistics.fmean(baseline))}"
    return ""


def _failure(seen: Measurement) -> str:
    match seen.failure:
        case Reason.EXIT:
            return f"crash, exit {seen.exit_code}"
        case Reason.SIGNAL:
            return f"crash, signal {-(seen.exit_code or 0)}"
        case Reason.NO_METRIC | None:
            return "no metric"
        case other:
            return str(other).replace("_", " ")


def ask(run: Run, question: Approve) -> None:
    """Ask the plan's question, as soon as the edits are known to be seen."""
    run.canary.question = question
    if not run.canary.files:
        _ask(run)


def _ask(run: Run) -> None:
    question, run.canary.question = run.canary.question, None
    if question is not None:
        gates.ask(run, question)


def made(run: Run, event: CanaryMade) -> None:
    """A canary is a commit: it waits for a slot."""
    if run.canary.attempt is not None and run.canary.making:
        run.canary.attempt = replace(run.canary.attempt, commit=event.commit)
        queue(run, Work(0, event.commit, Purpose.CANARY))


def queue(run: Run, work: Work) -> None:
    """Measure a canary, or measure it again where the machine failed under it."""
    attempt, work = run.canary.attempt, replace(work, losses=0)
    if attempt is not None and attempt.path:
        run.schedule.add(work, first=True)
    else:
        run.canary.waiting = work


def measured(run: Run, measurement: Measurement) -> None:
    """A canary was measured."""
    if run.canary.attempt is not None:
        run.canary.attempt = replace(run.canary.attempt, seen=measurement)


def advance(run: Run) -> None:
    """Judge what was measured, and ask for the next canary.

    Raises:
        EditUnseen: neither rubbish nor nothing in place of the scope's files made a difference.
    """
    canary = run.canary
    if run.stopping or not canary.files or canary.done:
        return
    attempt = canary.attempt
    if attempt is None:
        _begin(run, Attempt(Substitute.RUBBISH))
    elif attempt.seen is not None and (not attempt.seen.ok or _enough(run)):
        values = [each.value for each in run.baseline.good if each.value is not None]
        how = noticed(attempt.seen, values)
        if attempt.path:
            canary.tried += 1
            canary.seconds += attempt.seen.seconds_total
            canary.unseen += [] if how else [attempt.path]
            _next_alone(run)
        elif how:
            canary.noticed = how if attempt.substitute is Substitute.RUBBISH else f"{how}, with the files empty"
            _ask(run)
            _next_alone(run)
        elif attempt.substitute is Substitute.RUBBISH:
            _begin(run, Attempt(Substitute.NOTHING))
        else:
            raise EditUnseen(plain.number(attempt.seen.value or 0.0))


def _enough(run: Run) -> bool:
    """A value that differs proves nothing before it is known how far the baseline's differ."""
    return len(run.baseline.good) >= min(BASELINES, run.baseline.wanted(run.config.repeats))


def _begin(run: Run, attempt: Attempt) -> None:
    run.canary.attempt = attempt
    run.do(MakeCanary(run.given.base, attempt.substitute, attempt.path))


def _next_alone(run: Run) -> None:
    canary = run.canary
    slow = not run.baseline.good or run.baseline.good[0].wall_seconds >= ALONE_SECONDS
    if slow or len(canary.files) < 2 or canary.tried == len(canary.files) or canary.seconds > ALL_ALONE_SECONDS:
        canary.attempt, canary.done = None, True
    else:
        _begin(run, Attempt(Substitute.RUBBISH, canary.files[canary.tried]))
