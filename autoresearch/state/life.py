"""One trial while it lives: its stages, and how it becomes a row."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from autoresearch.brief import Repair
from autoresearch.metric import Direction, Metric
from autoresearch.trial import Candidate, Change, Measurement, Operator, Outcome, Purpose, Reason, Trial, Usage, mean

_SUBJECT_LENGTH = 100


class Stage(StrEnum):
    """What a live trial waits for."""

    PROPOSING = "proposing"
    DEFERRED = "deferred"
    """It is to be asked for as soon as it may be: the model's server could not answer, or it is a repair."""
    APPLYING = "applying"
    WAITING = "waiting"
    """For another trial: the one with the same tree, or its parent."""
    SCREENING = "screening"
    QUEUED = "queued"
    """It is promising, and waits for its turn to be confirmed."""
    CONFIRMING = "confirming"
    MERGING = "merging"
    LANDING = "landing"
    ENDING = "ending"
    """It has ended, and waits for the baseline to have its row, which is the first."""


@dataclass(frozen=True, slots=True)
class Live:
    """A trial that was asked for and has no row yet. A stage takes one and returns a new one."""

    number: int
    parent: int
    parent_commit: str
    operator: Operator
    stage: Stage
    asked_at: float
    combine_with: int | None = None
    change: Change | None = None
    usage: Usage = Usage()
    model: str = ""
    own: Candidate | None = None
    """The change on its parent."""
    own_screen: float | None = None
    candidate: Candidate | None = None
    """What is measured now: `own`, or its combination with a newer incumbent."""
    base: str = ""
    """The commit that `candidate` sits on."""
    alone: bool = False
    """The incumbent moved and `own` competes as a replacement of it."""
    screen: float | None = None
    fresh: tuple[float, ...] = ()
    beside: tuple[float, ...] = ()
    """The incumbent's values that were measured in turn with the fresh ones; empty without pairs."""
    own_fresh: tuple[float, ...] = ()
    """Fresh values of `own`, while `candidate` is a combination."""
    promise: float = 0.0
    """The gain that is expected of it while it is queued."""
    disturbed: int = 0
    """Pairs that were thrown away because others used the machine meanwhile."""
    pending: int = 0
    """Measurements that were scheduled for it and have not ended."""
    failed: Measurement | None = None
    last: Measurement | None = None
    compared: float | None = None
    """The mean of the pool that it was last compared with."""
    n: int = 0
    seconds: float = 0.0
    worker: int | None = None
    repair: Repair | None = None
    implausible: bool = False
    """Its gain is too good to be true; it was confirmed even so."""
    note: str = ""
    """What its row says of how it was measured."""
    verdict: Reason | None = None
    """Why it lands."""
    message: str = ""
    """The commit message that it lands with; once asked for it stays, so that landing again changes nothing."""
    ending: tuple[Outcome, Reason, str] | None = None

    @property
    def value(self) -> float | None:
        """The mean of the fresh runs where there were some, else the single measurement."""
        if self.fresh:
            return mean(self.fresh)
        return self.screen if self.screen is not None else self.own_screen

    @property
    def lines(self) -> int:
        """Lines added minus removed against what the candidate sits on; nothing to boast of for a replacement."""
        if self.candidate is None or self.alone:
            return 0
        return self.candidate.added - self.candidate.removed

    @property
    def merged(self) -> bool:
        """What is measured is a combination: another tree than its own."""
        return self.own is not None and self.candidate is not None and self.candidate.tree != self.own.tree

    def applied(self, candidate: Candidate) -> Live:
        """The change became a commit on its parent; it is to be screened."""
        return replace(
            self, stage=Stage.SCREENING, own=candidate, candidate=candidate, base=self.parent_commit, pending=1
        )

    def rebased(self, candidate: Candidate, onto: str) -> Live:
        """The combination with a newer incumbent takes the candidate's place, unmeasured."""
        return replace(
            self,
            stage=Stage.CONFIRMING,
            candidate=candidate,
            base=onto,
            screen=None,
            fresh=(),
            beside=(),
            own_fresh=self.own_fresh if self.merged else self.fresh,
            alone=False,
            pending=0,
        )

    def competing_alone(self) -> Live:
        """The candidate as proposed competes with the incumbent that it does not build on."""
        return replace(
            self,
            stage=Stage.CONFIRMING,
            candidate=self.own,
            screen=self.own_screen,
            fresh=self.own_fresh if self.merged else self.fresh,
            beside=(),
            alone=True,
            pending=0,
            failed=None,
        )

    def measured(self, purpose: Purpose, slot: int, measurement: Measurement) -> Live:
        """One of its measurements ended."""
        live = replace(
            self,
            pending=self.pending - 1,
            n=self.n + 1,
            seconds=self.seconds + measurement.seconds_total,
            worker=slot,
            last=measurement,
        )
        if measurement.value is None:
            return replace(live, failed=measurement)
        if purpose is Purpose.SCREEN:
            return replace(live, screen=measurement.value, own_screen=measurement.value)
        return replace(live, fresh=(*live.fresh, measurement.value))

    @property
    def in_pairs(self) -> Live:
        """With those fresh values alone that have one of the incumbent beside them: the latest."""
        return replace(self, fresh=self.fresh[len(self.fresh) - len(self.beside) :])

    def gains(self, direction: Direction) -> tuple[float, ...]:
        """Of its pairs."""
        pairs = zip(self.beside, self.in_pairs.fresh, strict=True)
        return tuple(direction.gain(before, after) for before, after in pairs)

    def ended(self, outcome: Outcome, reason: Reason, note: str, at: float, metric: Metric) -> Trial:
        """The row."""
        last, value = self.last, self.value if self.failed is None else None
        candidate = self.candidate or Candidate("", "")
        compared = self.compared
        return Trial(
            number=self.number,
            outcome=outcome,
            reason=reason,
            hypothesis=self.change.hypothesis if self.change else "",
            parent=self.parent,
            operator=self.operator,
            edits=self.change.edits if self.change else (),
            commit=candidate.commit or None,
            tree=candidate.tree or None,
            value=value,
            delta=None if value is None or compared is None else metric.direction.gain(compared, value),
            n=self.n,
            stdev=statistics.stdev(self.fresh) if len(self.fresh) > 1 else None,
            added=candidate.added,
            removed=candidate.removed,
            seconds=self.seconds,
            usage=self.usage,
            model=self.model,
            worker=self.worker,
            memory_gb=memory_gb(last) if last else None,
            extra=last.extra if last else {},
            tail=last.tail if last else "",
            note=note or self.note,
            implausible=self.implausible,
            ended_at=at,
        )


def memory_gb(measurement: Measurement) -> float | None:
    """`peak_vram_mb` / 1024 where printed, else the slot's GPU peak, else resident memory."""
    printed: Mapping[str, float] = measurement.extra
    if "peak_vram_mb" in printed:
        return printed["peak_vram_mb"] / 1024
    peak = measurement.gpu_peak_bytes or measurement.peak_bytes
    return peak / 2**30 if peak else None


def landing_message(live: Live, metric: Metric) -> str:
    """The commit message of a keep: the hypothesis, and what was measured as trailers."""
    hypothesis = (live.change.hypothesis if live.change else "") or f"trial {live.number}"
    subject = hypothesis if len(hypothesis) <= _SUBJECT_LENGTH else hypothesis[: _SUBJECT_LENGTH - 1] + "…"
    trailers = [f"Autoresearch-Trial: {live.number}"]
    if live.model:
        trailers.append(f"Autoresearch-Model: {live.model}")
    before = live.compared or 0.0
    trailers += [f"Metric-Before: {before!r}", f"Metric-After: {live.value!r}"]
    if len(live.fresh) > 1:
        trailers.append(f"Metric-Stdev: {statistics.stdev(live.fresh)!r}")
    trailers.append(f"Measurements: {live.n}")
    name = f"{metric.name}: " if metric.name else ""
    body = f"{name}{before:.6g} -> {live.value:.6g}"
    paragraphs = [subject, *([] if subject == hypothesis else [hypothesis]), body, "\n".join(trailers)]
    return "\n\n".join(paragraphs) + "\n"
