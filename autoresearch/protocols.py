"""The seams: few methods each, the law in the docstring. Implementations do not inherit from them.

A fake for each ships in `autoresearch.testing`; one contract test class runs over fake and real.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from autoresearch.brief import Brief
from autoresearch.events import Event, Stamped
from autoresearch.metric import Metric
from autoresearch.plan import Plan
from autoresearch.snapshot import Snapshot
from autoresearch.trial import Candidate, Change, Edit, Measurement, Proposal, Substitute, Trial


@dataclass(frozen=True, slots=True)
class Device:
    """What a slot runs on."""

    gpus: tuple[str, ...] = ()
    """Values for CUDA_VISIBLE_DEVICES (or ROCR_VISIBLE_DEVICES), already composed through an outer mask."""
    gpu_model: str = ""
    cpus: tuple[int, ...] = ()
    """Whole cores dealt to the slot; empty: it shares all of them."""
    cpu_count: int = 1
    """How many logical CPUs it may use, shared or not."""
    gpus_shared: bool = False
    """Other slots compute on its GPUs too."""

    @property
    def shares_cpus(self) -> bool:
        """Whether what other slots measure slows timings here.

        So it is without GPUs of its own: even whole cores share caches, memory and clock with the others.
        """
        return not self.gpus or self.gpus_shared

    def __str__(self) -> str:
        if self.gpus:
            return f"GPU {','.join(self.gpus)}" + (f" ({self.gpu_model})" if self.gpu_model else "")
        if self.cpus:
            return f"CPU {','.join(map(str, self.cpus))}"
        return "shared CPUs"


@dataclass(frozen=True, slots=True)
class Request:
    """What a slot does with a commit."""

    trial: int
    command: str
    timeout_seconds: float
    """Limit of the measurement, of the build and of each check."""
    metric: Metric | None = None
    """None: not chosen yet; the measurement then carries `stdout` and no value."""
    build: str | None = None
    checks: tuple[str, ...] = ()
    seed: int = 0
    env: Mapping[str, str] = field(default_factory=dict)


class Slot(Protocol):
    """A place where one measurement runs at a time.

    Law. `measure` is never called twice at once on one slot. When it returns, raises or is cancelled, every process
    that it started is dead and the worktree is clean before the next. Cancelling it takes at most the grace period.
    """

    @property
    def number(self) -> int:
        """From 0, stable for the life of the run's process."""

    @property
    def device(self) -> Device: ...

    async def measure(self, commit: str, request: Request) -> Measurement:
        """Reset the worktree to `commit`, build, check, then run the command under the timeout.

        A candidate that crashes, hangs or prints no number is a `Measurement` that says so.

        Raises:
            SlotLost: the machine failed, not the candidate; measure it elsewhere.
        """


class Measurer(Protocol):
    """Owns its slots and their worktrees.

    Law. Entered and left once, as an async context manager; leaving it runs the teardown, kills what is left and
    removes what it made. `slots` is iterated once and yields each slot as soon as it can measure.
    """

    def slots(self) -> AsyncIterator[Slot]:
        """Yield slots as they appear; ends where no more will come.

        Raises:
            UsageError: no slot can be made at all, as when the setup command fails.
        """


class Tree(Protocol):
    """The files of one commit, read-only. Safe to call concurrently; reads git's objects, never a checkout."""

    @property
    def commit(self) -> str: ...

    async def files(self) -> Sequence[FileEntry]:
        """All files, sorted by path; no submodules, no symlinks."""

    async def read(self, path: str) -> bytes | None:
        """The whole file; None where there is none."""

    async def search(self, pattern: str, limit: int = 100) -> list[str]:
        """Lines `path:number:text` that match an extended regular expression, at most `limit`.

        Raises:
            ValueError: the pattern is not a regular expression.
        """


@dataclass(frozen=True, slots=True)
class FileEntry:
    path: str
    size: int


class Repository(Protocol):
    """Candidates are commits; nothing here touches the user's checkout.

    Law. All methods may be called concurrently. Each is idempotent: done twice, it ends at the same refs.
    """

    def tree(self, commit: str) -> Tree: ...

    async def apply(self, trial: int, parent: str, change: Change) -> Candidate:
        """Apply all edits to the parent's tree, or none; the candidate gets the trial's ref at once.

        Raises:
            ChangeRejected: outside the scope, protected, a symlink, a submodule, `.git`, or it does not apply.
        """

    async def merge(self, trial: int, candidate: str, parent: str, onto: str) -> Candidate | None:
        """The change parent..candidate on top of `onto`, merged in memory; None where they conflict.

        The lines of the result count against `onto`. The scope is checked again.
        """

    async def land(self, trial: int, candidate: str, expected: str, message: str) -> str:
        """Put the candidate's tree on top of `expected` as one commit, compare-and-swap; return the new tip.

        Where the tip already is that commit (same tree, same parent, same message), return it.

        Raises:
            BranchLost: the branch is not at `expected`.
        """

    async def canary(self, base: str, substitute: Substitute, path: str = "") -> str:
        """A commit on top of `base` in which the scope's files, or the one at `path`, hold the substitute."""

    async def start_branch(self, base: str) -> None:
        """Create the run's branch at `base`, or check on resume that it is where the run left it.

        Raises:
            BranchLost: it exists and is elsewhere.
        """


class EditWorktrees(Protocol):
    """A small pool of worktrees in which agents edit files."""

    def checkout(self, commit: str) -> AbstractAsyncContextManager[Path]:
        """A clean worktree at `commit`, the caller's alone until it leaves."""

    async def difference(self, worktree: Path, parent: str) -> tuple[Edit, ...]:
        """What the files there differ in from the parent's tree, whatever HEAD says; ignored files left out."""


class Proposer(Protocol):
    """Turns a brief into a change.

    Law. `propose` may be called concurrently and cancelled at any time; cancelling leaves nothing behind. `tell` is
    called once for each ended trial, in order, and on resume for the earlier ones with their edits.
    """

    @property
    def repairs(self) -> bool:
        """Whether a crash, or a change that was refused, is sent back once."""

    @property
    def ordered(self) -> bool:
        """Replay: line k is trial k; the run makes no trials of its own."""

    @property
    def cost_bound_usd(self) -> float:
        """The most that one proposal can cost; 0 where it is free or has no known price."""

    @property
    def cost_least_usd(self) -> float:
        """The least that `Brief.spend_limit_usd` can hold one proposal to; 0: it cannot."""

    async def propose(self, brief: Brief, tree: Tree) -> Proposal:
        """A change to `tree`, the parent's files.

        Raises:
            ProposalFailed: the model answered, uselessly, after its one correction.
            ProposalDeferred: the server could not answer; ask again.
            ProposalsExhausted: there is nothing left to propose.
            ProposerLost: asking again cannot help.
        """

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended. Returns at once."""


class Store(Protocol):
    """The run's memory, written by the coordinator alone.

    Law. When `append`, `record` or `note` returns, the row is durable. A cancelled call has happened whole or not at
    all.
    """

    async def append(self, stamped: Stamped) -> None:
        """Store an event, in the order of the calls."""

    async def record(self, trial: Trial) -> None:
        """Store an ended trial as a row and append it to results.tsv. Recording it again changes nothing."""

    async def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Store a fact about the run, in place of the earlier one of that name."""

    async def events(self) -> list[Stamped]:
        """All events in order."""


class Listener(Protocol):
    """Sees what happens, after it is stored. Called in order, from the event loop; must be quick and never raise."""

    def notify(self, at: float, event: Event, ended: Sequence[Trial], snapshot: Callable[[], Snapshot]) -> None:
        """`ended` are the trials that ended by this event; `snapshot` makes a picture of the run, on demand."""


class Console(Protocol):
    """Where the person sits: shows the plan, asks the one question, shows the run and its summary."""

    def show(self, plan: Plan) -> None:
        """Show what the run is about to do."""

    def can_ask(self) -> bool:
        """Whether somebody is there to answer."""

    async def ask(self, question: str) -> str | None:
        """The answer, stripped; None without a terminal or at its end. Cancelling leaves the question unanswered."""

    def say(self, line: str) -> None:
        """Show one line before or after the run."""

    def listener(self) -> Listener:
        """What shows the run while it lasts."""

    def summary(self, text: str) -> None:
        """Show the summary, last."""

    def close(self) -> None:
        """Give the terminal back as it was, whatever happened. May be called at any time, and again."""


__all__ = [
    "Console",
    "Device",
    "EditWorktrees",
    "FileEntry",
    "Listener",
    "Measurer",
    "Proposer",
    "Repository",
    "Request",
    "Slot",
    "Store",
    "Tree",
]
