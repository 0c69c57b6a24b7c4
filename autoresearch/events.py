"""What happened to a run. Stored in this order before anything follows from it; the run's state is their fold.

An event goes to JSON and back by `to_row` and `event_from_row`. A new field needs a default, so that older runs fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from autoresearch.metric import Metric
from autoresearch.trial import Candidate, Change, Measurement, Proposal, Purpose, Reason, Reply, Substitute, Usage


@dataclass(frozen=True, slots=True)
class Began:
    """The run exists: what was asked for, and where it starts."""

    config: Mapping[str, Any]
    base: str
    """The base commit."""
    base_tree: str
    folder: str = ""
    """Where in the checkout it was started, relative to its root."""
    proposer_repairs: bool = False
    """Whether a crash, or a change that was refused, is sent back to the proposer once."""
    proposer_ordered: bool = False
    """Replay: line k is trial k, and the run makes no trials of its own."""
    cost_bound_usd: float = 0.0
    """The most that one proposal can cost; reserved before each."""
    baseline_only: bool = False
    """`check`: stop when the baseline is measured."""
    cost_least_usd: float = 0.0
    """What one proposal can be held to under a small ceiling; 0: it cannot."""
    canary_files: tuple[str, ...] = ()
    """Files of the scope that may be replaced alone; empty: there is no canary."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A new process took the run over: what was in flight is void; `config` is what it goes on with."""

    config: Mapping[str, Any]
    proposer_repairs: bool = False
    proposer_ordered: bool = False
    cost_bound_usd: float = 0.0
    cost_least_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class MeasureReplaced:
    """The measure command prints no reading as it stands; the user (or --yes) took the suggested one."""

    command: str


@dataclass(frozen=True, slots=True)
class Approved:
    """The user (or --yes) agreed to the plan; the metric is fixed from here on."""

    metric: Metric
    max_cost: float | None = None
    """A ceiling in dollars that the user named when asked."""
    max_workers: int | None = None
    """As many slots as the free memory bears; the others are retired."""


@dataclass(frozen=True, slots=True)
class CanaryMade:
    """Files of the scope were replaced in a commit, to see whether the measurement notices."""

    commit: str
    substitute: Substitute
    path: str = ""
    """The one file that was replaced; empty: all of the scope."""


@dataclass(frozen=True, slots=True)
class SlotReady:
    """A slot can measure."""

    slot: int
    device: str = ""
    """What the slot runs on, in words."""
    shares_cpus: bool = True
    """Whether what other slots measure slows timings in it."""
    cpus: int = 1
    """How many logical CPUs it may use, shared or not."""


@dataclass(frozen=True, slots=True)
class SlotsComplete:
    """No further slot will appear."""


@dataclass(frozen=True, slots=True)
class SlotFailed:
    """The machine failed under a slot; what it was measuring is measured again."""

    slot: int
    why: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement ended."""

    trial: int
    slot: int
    purpose: Purpose
    commit: str
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class TakenOver:
    """`check` has measured the unchanged code on this machine, not long before the run."""

    measured: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Proposed:
    """A proposer answered with a change."""

    trial: int
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class ProposingFailed:
    """A proposer answered, and the answer holds no usable change."""

    trial: int
    why: str
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Deferred:
    """The model's server could not answer; the proposal is asked for again."""

    trial: int
    why: str
    retry_after_seconds: float | None = None
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The proposer has nothing left to propose."""

    trial: int
    why: str = "proposals exhausted"


@dataclass(frozen=True, slots=True)
class Applied:
    """A change became a commit on top of its parent's."""

    trial: int
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Rejected:
    """A change leaves the scope or does not apply."""

    trial: int
    reason: Reason
    why: str


@dataclass(frozen=True, slots=True)
class Merged:
    """A candidate was merged onto a newer incumbent in memory; no candidate where they conflict."""

    trial: int
    onto: str
    candidate: Candidate | None


@dataclass(frozen=True, slots=True)
class Landed:
    """The branch moved to a trial's tree."""

    trial: int
    commit: str


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A stop from outside: Ctrl-C, SIGTERM, `stop`. The run drains."""

    why: str


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A moment came that the run had asked to be woken at."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The run stopped, in order; `resume` may go on."""

    why: str
    """The stop reason in words, as `--max-trials reached`."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What only the running process knew: slot_use (0 to 1), slots, seconds (of this process)."""


Event = (
    Began
    | Resumed
    | MeasureReplaced
    | Approved
    | CanaryMade
    | SlotReady
    | SlotsComplete
    | SlotFailed
    | Measured
    | TakenOver
    | Proposed
    | ProposingFailed
    | Deferred
    | Exhausted
    | Applied
    | Rejected
    | Merged
    | Landed
    | StopAsked
    | TimePassed
    | Ended
)


@dataclass(frozen=True, slots=True)
class Stamped:
    """An event and when it happened, in seconds since the epoch."""

    at: float
    event: Event


_KINDS: dict[str, type] = {kind.__name__: kind for kind in Event.__args__}


def kind_of(event: Event) -> str:
    """The event's name, as stored."""
    return type(event).__name__


def to_row(event: Event) -> dict[str, Any]:
    """The event as plain JSON values."""
    match event:
        case Measured():
            row = {name: getattr(event, name) for name in event.__slots__}
            return row | {"measurement": event.measurement.to_row()}
        case TakenOver():
            return {"measured": [to_row(each) for each in event.measured]}
        case Proposed():
            proposal = event.proposal
            return {
                "trial": event.trial,
                "change": proposal.change.to_row(),
                "reply": asdict(proposal.reply),
                "parent": proposal.parent,
            }
        case _:
            return asdict(event)


def event_from_row(kind: str, row: Mapping[str, Any]) -> Event:
    """The event that `to_row` made.

    Raises:
        KeyError: a kind that this version does not know.
    """
    fields = dict(row)
    match kind:
        case "Began":
            fields["canary_files"] = tuple(fields.get("canary_files", ()))
        case "CanaryMade":
            fields["substitute"] = Substitute(fields["substitute"])
        case "Approved":
            fields["metric"] = Metric.from_row(fields["metric"])
        case "Measured":
            fields["purpose"] = Purpose(fields["purpose"])
            fields["measurement"] = Measurement.from_row(fields["measurement"])
        case "TakenOver":
            fields["measured"] = tuple(event_from_row("Measured", each) for each in fields["measured"])
        case "Proposed":
            proposal = Proposal(Change.from_row(fields["change"]), _reply(fields["reply"]), fields.get("parent"))
            return Proposed(fields["trial"], proposal)
        case "ProposingFailed":
            fields["reply"] = _reply(fields["reply"]) if fields.get("reply") else None
        case "Applied":
            fields["candidate"] = Candidate(**fields["candidate"])
        case "Merged":
            fields["candidate"] = Candidate(**fields["candidate"]) if fields["candidate"] else None
        case "Rejected":
            fields["reason"] = Reason(fields["reason"])
    event: Event = _KINDS[kind](**fields)
    return event


def _reply(row: Mapping[str, Any]) -> Reply:
    return Reply(row["text"], tuple(row["prompt"]), row["model"], Usage(**row["usage"]))
