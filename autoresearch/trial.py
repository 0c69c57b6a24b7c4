"""What a run is made of: edits, changes, measurements and trials. All frozen; each goes to and from a plain dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a trial ended: the three words of results.tsv."""

    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"


class Reason(StrEnum):
    """Why a trial ended as it did."""

    BASELINE = "baseline"
    IMPROVED = "improved"
    SIMPLIFIED = "simplified"
    REPLACED = "replaced"

    WORSE = "worse"
    EQUAL = "equal"
    UNCONFIRMED = "unconfirmed"
    SUPERSEDED = "superseded"
    CONFLICT = "conflict"
    CHECKS_FAILED = "checks_failed"
    CONSTRAINT = "constraint"
    SCREENED_OUT = "screened_out"
    DUPLICATE = "duplicate"
    CANCELLED = "cancelled"

    EXIT = "exit"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    NO_METRIC = "no_metric"
    MEMORY = "memory"
    BUILD_FAILED = "build_failed"
    OUT_OF_SCOPE = "out_of_scope"
    DOES_NOT_APPLY = "does_not_apply"
    PROPOSER_FAILED = "proposer_failed"


class Operator(StrEnum):
    """How a proposer is asked to change the parent."""

    IMPROVE = "improve"
    EXPLORE = "explore"
    COMBINE = "combine"
    SIMPLIFY = "simplify"
    ESCAPE = "escape"


class Purpose(StrEnum):
    """What a measurement is for."""

    BASELINE = "baseline"
    SCREEN = "screen"
    CONFIRM = "confirm"
    ANCHOR = "anchor"
    """A fresh run of the incumbent."""
    FINAL = "final"
    """A fresh run of baseline or best at the end of the run."""
    FEEDBACK = "feedback"
    """The feedback command on a new incumbent; its output is shown to proposers."""
    CANARY = "canary"
    """The scope's files replaced by rubbish: a measurement that does not notice measures something else."""
    SOLO = "solo"
    """The baseline, while nothing else is measured: whether load changes the value."""
    STANDIN = "standin"
    """The cheaper stand-in of --screen."""
    HOLDOUT = "holdout"
    """The holdout command on a keep; no proposer sees what it says."""


class Substitute(StrEnum):
    """What stands in place of the scope's files in a canary."""

    RUBBISH = "rubbish"
    """Text that is valid in no language."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Edit:
    """One change to one file: a replacement (`old`, `new`), the whole file (`content`) or its deletion.

    Texts are UTF-8 with surrogateescape, so that any bytes survive the way through JSON.
    """

    path: str
    """Relative to the repository's root, with `/`."""
    old: str | None = None
    """Occurs exactly once in the parent's file."""
    new: str | None = None
    content: str | None = None
    delete: bool = False

    def to_row(self) -> dict[str, Any]:
        if self.delete:
            return {"path": self.path, "delete": True}
        if self.content is not None:
            return {"path": self.path, "content": self.content}
        return {"path": self.path, "old": self.old, "new": self.new}

    @classmethod
    def from_row(cls, row: Any) -> Edit:
        """Read one edit from JSON.

        Raises:
            ValueError: the row has none of the three forms; the message says what is wrong.
        """
        if not isinstance(row, dict):
            raise ValueError("an edit is an object")
        keys = set(row)
        if not isinstance(row.get("path"), str) or not row["path"]:
            raise ValueError('an edit needs a "path"')
        if keys == {"path", "delete"} and row["delete"] is True:
            return cls(row["path"], delete=True)
        if keys == {"path", "content"} and isinstance(row["content"], str):
            return cls(row["path"], content=row["content"])
        if keys == {"path", "old", "new"} and isinstance(row["old"], str) and isinstance(row["new"], str):
            return cls(row["path"], old=row["old"], new=row["new"])
        raise ValueError('an edit is {"path", "old", "new"}, {"path", "content"} or {"path", "delete": true}')


@dataclass(frozen=True, slots=True)
class Change:
    """What a proposer returns: a hypothesis (one line) and edits."""

    hypothesis: str
    edits: tuple[Edit, ...]

    def to_row(self) -> dict[str, Any]:
        return {"hypothesis": self.hypothesis, "edits": [edit.to_row() for edit in self.edits]}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Change:
        return cls(row["hypothesis"], tuple(Edit.from_row(edit) for edit in row["edits"]))


@dataclass(frozen=True, slots=True)
class Usage:
    """What proposals cost. Token counts are totals; `cached` is the part of `input` read from the cache."""

    input: int = 0
    cached: int = 0
    written: int = 0
    """Input tokens written to the cache."""
    output: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.cached + other.cached,
            self.written + other.written,
            self.output + other.output,
            self.cost_usd + other.cost_usd,
            self.seconds + other.seconds,
        )

    @property
    def tokens(self) -> int:
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class Reply:
    """What a proposer was shown and said, kept for `show`; saved before it is used, because it cost money."""

    text: str
    prompt: tuple[str, ...] = ()
    """The prompt in its parts, shared parts first: equal parts are stored once."""
    model: str = ""
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Proposal:
    """A change and how it came to be."""

    change: Change
    reply: Reply
    parent: int | None = None
    """The trial it must start from, where the proposer says so (replay); else the one it was asked for."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A change applied to a parent: a commit that can be measured."""

    commit: str
    tree: str
    added: int = 0
    """Lines added against the commit that it was applied to."""
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One execution of the measure command."""

    value: float | None
    """The metric, in its own unit; None where the run crashed or the metric is not chosen yet."""
    failure: Reason | None = None
    """Why there is no value: exit, signal, timeout, no_metric, memory, build_failed, checks_failed."""
    exit_code: int | None = None
    """The command's exit status; negative: the signal that killed it; None: it was stopped at the timeout."""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """User and system time of the whole process tree."""
    peak_bytes: int = 0
    """Largest resident memory of the tree."""
    gpu_peak_bytes: int = 0
    extra: Mapping[str, float] = field(default_factory=dict)
    """Other numbers that the output named."""
    stdout: str = ""
    """The end of stdout, bounded; only while the metric is not chosen yet, or where no number was found."""
    tail: str = ""
    """The end of everything it printed or redirected into its worktree, bounded."""
    seconds_total: float = 0.0
    """Wall time in the slot: reset, build, checks and measurement."""
    check_seconds: float = 0.0
    """Wall time of the checks; 0: none were run."""
    at_bound: bool = False
    """Nothing left to gain: a rate of 100%, all tests passed, 0 warnings of a known tool."""
    foreign_cpus: float = 0.0
    """How many CPUs' worth of time others used meanwhile, on the CPUs that it may use; `load.disturbed` judges it."""

    @property
    def ok(self) -> bool:
        return self.value is not None

    def to_row(self) -> dict[str, Any]:
        """Plain JSON values; what has its default is left out."""
        row = {field.name: getattr(self, field.name) for field in fields(self)}
        defaults = {field.name: field.default for field in fields(self)}
        said = {name: value for name, value in row.items() if value != defaults[name]}
        return said | {"value": self.value, "extra": dict(self.extra)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Measurement:
        fields = dict(row)
        if fields.get("failure"):
            fields["failure"] = Reason(fields["failure"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate's whole life, as it ended: a row of results.tsv and of the database."""

    number: int
    outcome: Outcome
    reason: Reason
    hypothesis: str
    parent: int | None = None
    operator: Operator | None = None
    edits: tuple[Edit, ...] = ()
    commit: str | None = None
    """The commit that landed, else the last one measured."""
    tree: str | None = None
    value: float | None = None
    """The mean of the fresh runs where there were some, else the single measurement."""
    delta: float | None = None
    """The gain over the incumbent it was compared with; positive is better."""
    n: int = 0
    """All measurements of the candidate."""
    stdev: float | None = None
    added: int = 0
    removed: int = 0
    seconds: float = 0.0
    """Wall time of all its measurements."""
    usage: Usage = Usage()
    model: str = ""
    worker: int | None = None
    """The slot of its last measurement, from 0."""
    memory_gb: float | None = None
    extra: Mapping[str, float] = field(default_factory=dict)
    tail: str = ""
    """The end of what its last measurement printed."""
    note: str = ""
    """One line that says more than the reason: the exit code, the path that was refused, the trial it repeats."""
    implausible: bool = False
    ended_at: float = 0.0
    """Seconds since the epoch."""

    @property
    def baseline(self) -> bool:
        return self.number == 0


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean; exact where all values are equal."""
    first = values[0]
    return first + sum(value - first for value in values) / len(values)
