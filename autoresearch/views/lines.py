"""What a run says while it lasts: lines for people, and one JSON object per line for programs.

With `--json` every line on stdout is an object `{"v": 1, "at": SECONDS_SINCE_THE_EPOCH, "event": NAME, ...}`:

    plan         rows: [{label, text}], notes: [text]
    message      text
    slot         slot, state (ready, failed, retired), device, why
    metric       name, direction (minimize, maximize), reader: {kind, key}
    baseline     metric, direction, value, n, stdev, commit
    trial_ended  trial, parent, status, reason, hypothesis, edits, metric, delta, n, stdev, seconds, usd, model, commit:
                 what `log --json` has
    noise        first, and when it is measured in another way, what `status --json` has in facts.noise:
                 kind, value, stdev, dof, slots, slots_differ, drifts, paired, alone, exclusive, smallest_gains
    unseen_files files: replaced by rubbish, each alone, they do not change the measurement
    waiting      why: what the model's server said; empty when it answers again
    plateau      trials since the last keep are many; proposals turn to bolder changes
    draining     why: no new trials begin, running measurements end
    stopped      why, slot_use (0 to 1), slots, seconds
    summary      text

A number that is not known or not finite is null. Keys and events may be added; those that are here keep their meaning.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autoresearch import plain
from autoresearch.events import (
    Approved,
    Deferred,
    Ended,
    Event,
    Measured,
    MeasureReplaced,
    Merged,
    Proposed,
    ProposingFailed,
    Rejected,
    Resumed,
    SlotFailed,
    SlotReady,
    StopAsked,
)
from autoresearch.metric import Metric
from autoresearch.noise import Kind, Picture
from autoresearch.plan import Plan
from autoresearch.snapshot import Snapshot
from autoresearch.trial import Outcome, Purpose, Reason, Trial
from autoresearch.views import inspect

VERSION = 1
_PAST = {Outcome.KEEP: "kept", Outcome.DISCARD: "discarded", Outcome.CRASH: "crashed"}
_LONGEST_TEXT = 300
_LOOK_EVERY_SECONDS = 1.0
_WAITING_EVERY_SECONDS = 300.0
"""A server that answers now and then would fill the night with lines."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that happened, worth a line."""

    text: str
    """For people; on one line and safe to print."""
    event: str = ""
    """Its name in JSON; empty: it is not shown there."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    verbose: bool = False
    """People see it only where they asked for more."""


def how_to_stop_now(draining: str) -> str:
    """What ends a drain, by why it began."""
    return "Ctrl-C again to stop now" if draining == "Ctrl-C" else "Ctrl-C twice to stop now"


def stamped(at: float, text: str) -> str:
    """The line with its local time of day before it."""
    return f"{time.strftime('%H:%M:%S', time.localtime(at))}  {text}"


def json_line(at: float, event: str, fields: Mapping[str, Any]) -> str:
    """One object of the schema, on one line."""
    return inspect.to_json({"v": VERSION, "at": at, "event": event, **fields})


def plan_fields(plan: Plan) -> dict[str, Any]:
    """What the event `plan` carries."""
    return {"rows": [{"label": label, "text": text} for label, text in plan.rows], "notes": list(plan.notes)}


class Teller:
    """Turns events into notices, and says a state that lasts only once."""

    def __init__(self) -> None:
        self._looked_at = -_LOOK_EVERY_SECONDS
        self._waiting = False
        """A wait was said, and not yet its end."""
        self._waiting_said_at = -_WAITING_EVERY_SECONDS
        self._draining = False
        self._plateau = False
        self._noise: Picture | None = None
        self._unseen = False
        """It was said which files of the scope do not matter."""
        self._retired: frozenset[int] = frozenset()
        self._last = False
        """It was said that baseline and best are measured again."""

    def tell(
        self, at: float, event: Event, ended: Sequence[Trial], snapshot: Callable[[], Snapshot]
    ) -> Iterator[Notice]:
        """What is worth a line. A snapshot is made once a second at most, and where a line needs it."""
        kept = any(trial.outcome is Outcome.KEEP for trial in ended)
        picture = None
        exact = self._noise is not None and self._noise.kind is Kind.DETERMINISTIC
        if (
            kept
            or (exact and ended)
            or isinstance(event, SlotReady | SlotFailed)
            or _of_canary(event)
            or at - self._looked_at >= _LOOK_EVERY_SECONDS
        ):
            picture, self._looked_at = snapshot(), at
        yield from self._waits(at, event)
        yield from _of_event(event, picture)
        if picture is not None and not any(trial.baseline for trial in ended):
            yield from self._says_noise(picture.noise)  # what a trial was judged by is said before how it ended
        for trial in ended:
            yield _of_trial(trial, picture)
            if trial.baseline and picture is not None:
                yield from self._states(picture)
        if isinstance(event, StopAsked) and not (self._last and event.why.startswith("--")):
            yield from self._drains(event.why)
        if picture is not None:
            yield from self._states(picture)
        if isinstance(event, Ended):
            yield _stopped(event)

    def _waits(self, at: float, event: Event) -> Iterator[Notice]:
        if isinstance(event, Deferred) and at - self._waiting_said_at >= _WAITING_EVERY_SECONDS:
            self._waiting, self._waiting_said_at = True, at
            yield Notice(f"waiting for the model's server: {_short(event.why)}", "waiting", {"why": event.why})
        elif isinstance(event, Deferred):
            yield Notice(f"trial {event.trial} is asked for again: {_short(event.why)}", verbose=True)
        elif isinstance(event, Proposed | ProposingFailed) and self._waiting:
            self._waiting = False
            yield Notice("the model's server answers again", "waiting", {"why": ""})

    def _states(self, picture: Snapshot) -> Iterator[Notice]:
        for slot in picture.slots:
            if slot.retired and slot.number not in self._retired:
                self._retired |= {slot.number}
                yield _slot(slot.number, "retired", why=slot.retired)
        if picture.unseen_files and not self._unseen:
            self._unseen = True
            files = ", ".join(picture.unseen_files)
            text = f"these files of the scope do not change the measurement: {_short(files)}"
            yield Notice(text, "unseen_files", {"files": list(picture.unseen_files)})
        yield from self._says_noise(picture.noise)
        if picture.plateau and not self._plateau:
            yield Notice("plateau: nothing was kept for a while; proposals turn to bolder changes", "plateau")
        self._plateau = picture.plateau
        last = any(slot.purpose is Purpose.FINAL for slot in picture.slots)
        if picture.draining and not last and not self._last and any(slot.trial is not None for slot in picture.slots):
            yield from self._drains(picture.draining)
        if last and not self._last:
            self._last, self._draining = True, False  # a stop from outside is said once more
            yield Notice("measuring the baseline and the best again; Ctrl-C leaves the rest out")

    def _says_noise(self, noise: Picture | None) -> Iterator[Notice]:
        """At the start, and when another kind of number shows; a spread that is known better is no news."""
        if noise is None:
            return
        told, self._noise = self._noise, noise
        if told is None or told.ways != noise.ways:
            yield Notice(f"noise: {noise.words}", "noise", dict(noise.to_row()))

    def _drains(self, why: str) -> Iterator[Notice]:
        if not self._draining:
            self._draining = True
            text = f"draining ({_short(why)}): running measurements end; {how_to_stop_now(why)}"
            yield Notice(text, "draining", {"why": why})


def _of_canary(event: Event) -> bool:
    return isinstance(event, Measured) and event.purpose is Purpose.CANARY


def _of_event(event: Event, picture: Snapshot | None) -> Iterator[Notice]:
    match event:
        case SlotReady(slot, device):
            work = {view.number: view.purpose for view in picture.slots} if picture else {}
            doing = ", measuring the baseline" if work.get(slot) is Purpose.BASELINE else ""
            yield _slot(slot, "ready", doing, device=device)
        case SlotFailed(slot, why):
            yield _slot(slot, "failed", why=why)
        case MeasureReplaced(command):
            yield Notice(f"the measure command is now: {_short(command)}", verbose=True)
        case Approved(metric):
            yield _metric(metric)  # the plan has shown it
        case Resumed():
            yield Notice("the run goes on")
        case Proposed(trial, proposal):
            yield Notice(f"trial {trial} proposed: {_short(proposal.change.hypothesis)}", verbose=True)
        case ProposingFailed(trial, why):
            yield Notice(f"trial {trial}: no usable change: {_short(why)}", verbose=True)
        case Rejected(trial, reason, why):
            yield Notice(f"trial {trial} rejected ({reason}): {_short(why)}", verbose=True)
        case Measured():
            yield _measured(event)
        case Merged(trial, _, candidate):
            merged = "rebased onto the new best, measured again" if candidate else "conflicts with the new best"
            yield Notice(f"trial {trial} {merged}", verbose=candidate is None)  # a conflict shows in how it ends


def _slot(number: int, state: str, doing: str = "", *, device: str = "", why: str = "") -> Notice:
    more = (f": {_short(device or why)}" if device or why else "") + doing
    fields = {"slot": number, "state": state, "device": device, "why": why}
    return Notice(f"slot {number} {state}{more}", "slot", fields)


def _metric(metric: Metric) -> Notice:
    reader = {"kind": str(metric.reader.kind), "key": metric.reader.key}
    fields = {"name": metric.name, "direction": str(metric.direction), "reader": reader}
    name = plain.one_line(metric.name) or "the number printed"
    return Notice(f"metric: {name}, {metric.direction}", "metric", fields, verbose=True)


def _measured(event: Measured) -> Notice:
    seen = event.measurement
    result = plain.number(seen.value) if seen.value is not None else str(seen.failure or "no value yet")
    time_taken = plain.duration(seen.wall_seconds)
    text = f"trial {event.trial} {event.purpose} in slot {event.slot}: {result}, {time_taken}"
    return Notice(text, verbose=True)


def _of_trial(trial: Trial, picture: Snapshot | None) -> Notice:
    if trial.baseline:
        return _baseline(trial, picture.metric if picture else None)
    more = "; ".join(text for text in (_why(trial), trial.note) if text)
    note = f": {_short(more)}" if more else ""
    text = f"trial {trial.number} {_PAST[trial.outcome]} ({trial.reason}{note})"
    if trial.outcome is not Outcome.CRASH and trial.value is not None:
        text += f" {plain.number(trial.value)}"
    if trial.outcome is not Outcome.CRASH and trial.delta is not None:
        text += f", gain {trial.delta:+.4g}"
    if trial.outcome is Outcome.KEEP and picture and picture.baseline is not None and picture.best is not None:
        text += f", now {plain.improvement(picture.baseline, picture.best)} against the baseline"
    if trial.implausible and trial.outcome is Outcome.KEEP:
        text += ", which is too good to be true: look at its diff"
    return Notice(f"{text}: {_short(trial.hypothesis) or '(no hypothesis)'}", "trial_ended", inspect.log_line(trial))


def _why(trial: Trial) -> str:
    """What a gain and a reason that seem to disagree have to do with each other."""
    gained = trial.delta is not None and trial.delta > 0
    match trial.reason:
        case Reason.EQUAL:
            return "too small to tell" if trial.delta else ""
        case Reason.UNCONFIRMED:
            return "fresh runs leave it within the noise" if gained else "fresh runs are no better"
        case Reason.CONFLICT:
            return "with the new best"
        case Reason.SUPERSEDED:
            return "adds nothing to the new best"
        case _:
            return ""


def _baseline(trial: Trial, metric: Metric | None) -> Notice:
    value = "not measured" if trial.value is None else plain.number(trial.value)
    spread = "" if trial.stdev is None else f", standard deviation {plain.number(trial.stdev, 3)}"
    spread = ", all equal" if trial.stdev == 0 else spread
    fields = {
        "metric": metric.name if metric else None,
        "direction": str(metric.direction) if metric else None,
        "value": trial.value,
        "n": trial.n,
        "stdev": trial.stdev,
        "commit": trial.commit,
    }
    note = f"; {_short(trial.note)}" if trial.note else ""
    return Notice(f"baseline: {value}, measured {plain.times(trial.n)}{spread}{note}", "baseline", fields)


def _stopped(event: Ended) -> Notice:
    facts = {name: event.facts.get(name) for name in ("slot_use", "slots", "seconds")}
    return Notice(f"stopped: {_short(event.why)}", "stopped", {"why": event.why, **facts})


def _short(text: str) -> str:
    line = plain.one_line(text)
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"
