"""Errors of autoresearch.

AutoresearchError
├── UsageError             what the user asked for cannot be started; says what to do (exit 2)
│   ├── ConfigError        a key or value is wrong: names the source, the key, the nearest valid key
│   ├── BaselineFailed     the measure command fails, or prints no number, on the unchanged code
│   └── EditUnseen         the measurement stays the same when the scope's files are replaced
├── RunStopped             the run cannot go on, and may be resumed (exit 1)
│   ├── RepositoryError    git cannot do what the run needs
│   │   └── BranchLost     someone moved or deleted the run's branch
│   ├── StoreError         the run's database cannot be read or written
│   ├── ProposerLost       the model's server will never answer: no key, no credit, no such model
│   └── NoSlotLeft         every slot was lost to the machine
├── SlotLost               the machine failed, not the candidate: measure it elsewhere
├── ProposalDeferred       the model's server could not answer now: ask again
├── ProposalsExhausted     a proposer has nothing left to propose
│   └── MoneySpent         too little is left for it to ask
└── TrialError             ends one trial, never the run
    ├── ProposalFailed     refused, empty, unreadable, cut off after its retries
    └── ChangeRejected     outside the scope, or does not apply
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoresearch.trial import Reason, Reply


class AutoresearchError(Exception):
    """Base of every error that this package raises on purpose."""


class UsageError(AutoresearchError):
    """Raised before a run where what was asked cannot be started. The message says what is wrong and what to do."""


class ConfigError(UsageError):
    """Raised for an unknown key or a wrong value: names where it stands and the nearest valid key.

    `source` is a file, or empty for the command line.
    """

    def __init__(self, source: str, key: str, why: str, nearest: str | None = None) -> None:
        self.source, self.key, self.why, self.nearest = source, key, why, nearest
        hint = f"; did you mean `{nearest}`?" if nearest else ""
        super().__init__((f"{source}: " if source else "") + f"{key}: {why}{hint}")


class BaselineFailed(UsageError):
    """Raised where the measure command fails, or prints no number, on the unchanged code."""


_NOT_TOLD = (
    "perhaps the command never reads the files of the scope; what it measures instead could not be told: "
    "run it in a copy of the repository and see"
)


class EditUnseen(UsageError):
    """Raised where the measurement stays the same when the scope's files are replaced: it measures something else.

    `where` are lines that say what it measures, and how to mend that.
    """

    def __init__(self, value: str, where: Sequence[str] = ()) -> None:
        self.value = value
        lines = [
            "the measurement does not see the edits: with every file of the scope replaced by rubbish, and then by "
            f"nothing, it gave {value}, as on the unchanged code",
            *(where or [_NOT_TOLD]),
            "where that is as it should be, --no-canary starts all the same",
        ]
        super().__init__("\n".join(lines))


class RunStopped(AutoresearchError):
    """Raised where a run that has begun cannot go on. What ended is stored; `resume` goes on."""


class RepositoryError(RunStopped):
    """Raised where git cannot do what the run needs."""


class BranchLost(RepositoryError):
    """Raised where the run's branch no longer points where the run left it."""

    def __init__(self, branch: str, expected: str, found: str | None) -> None:
        self.branch, self.expected, self.found = branch, expected, found
        now = f"is at {found[:10]}" if found else "is gone"
        super().__init__(
            f"someone moved {branch}: it should be at {expected[:10]} and {now}; "
            f"put it back with `git branch -f {branch} {expected[:10]}`, then `autoresearch resume`"
        )


class StoreError(RunStopped):
    """Raised where the run's database cannot be read or written."""


class ProposerLost(RunStopped):
    """Raised where asking again cannot help: a wrong key, no credit, a model that does not exist."""


class NoSlotLeft(RunStopped):
    """Raised where every slot was retired for reasons of the machine."""


class SlotLost(AutoresearchError):
    """Raised by a slot whose machine failed: disk full, worktree lost, node gone. Never the candidate's fault."""


class ProposalDeferred(AutoresearchError):
    """Raised where the model's server could not answer: limits, overload, a cut stream, a deadline."""

    def __init__(self, why: str, retry_after_seconds: float | None = None, cost_usd: float = 0.0) -> None:
        self.why, self.retry_after_seconds, self.cost_usd = why, retry_after_seconds, cost_usd
        super().__init__(why)


class ProposalsExhausted(AutoresearchError):
    """Raised by a proposer that has nothing left to propose; `stop_reason` is what ends the run then."""

    stop_reason = "proposals exhausted"


class MoneySpent(ProposalsExhausted):
    """Raised by a proposer for which too little money is left."""

    stop_reason = "--max-cost reached"


class TrialError(AutoresearchError):
    """Ends one trial, never the run. Caught in one place."""


class ProposalFailed(TrialError):
    """Raised where the model answered and the answer holds no usable change, after its one correction."""

    def __init__(self, why: str, reply: Reply | None = None) -> None:
        self.why, self.reply = why, reply
        super().__init__(why)


class ChangeRejected(TrialError):
    """Raised when an edit touches a path that the run may not change, or does not apply.

    `reason` is Reason.OUT_OF_SCOPE or Reason.DOES_NOT_APPLY.
    """

    def __init__(self, path: str, why: str, reason: Reason) -> None:
        self.path, self.why, self.reason = path, why, reason
        super().__init__(f"{path}: {why}")


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error itself, or those inside of a task group's."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from causes(inner)
    else:
        yield error


@contextmanager
def ungrouped() -> Iterator[None]:
    """Let errors of ours out of the groups that task groups make: one of them, the user's mistake before others.

    A group that holds any other error is left as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        ours = [cause for cause in causes(group) if isinstance(cause, AutoresearchError)]
        if len(ours) < len(list(causes(group))):
            raise
        raise next((cause for cause in ours if isinstance(cause, UsageError)), ours[0]) from None
