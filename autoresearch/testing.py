"""A fake for each seam: deterministic, in memory, no process. Tests order by events with them, never by sleeps."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha1
from pathlib import Path
from typing import Any

import anyio

from autoresearch.brief import Brief
from autoresearch.edits import apply_edits
from autoresearch.errors import BranchLost, ProposalsExhausted, SlotLost
from autoresearch.events import Event, Stamped
from autoresearch.metric import settle
from autoresearch.plan import Plan
from autoresearch.protocols import Device, FileEntry, Request, Slot, Tree
from autoresearch.snapshot import Snapshot
from autoresearch.trial import Candidate, Change, Edit, Measurement, Proposal, Reply, Substitute, Trial, Usage

Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class MemoryTree:
    """The files of a commit in memory."""

    commit: str
    contents: Files

    async def files(self) -> Sequence[FileEntry]:
        return [FileEntry(path, len(data)) for path, data in sorted(self.contents.items())]

    async def read(self, path: str) -> bytes | None:
        return self.contents.get(path)

    async def search(self, pattern: str, limit: int = 100) -> list[str]:
        try:
            wanted = re.compile(pattern)
        except re.error as error:
            raise ValueError(str(error)) from None
        found = []
        for path, data in sorted(self.contents.items()):
            for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
                if wanted.search(line):
                    found.append(f"{path}:{number}:{line}")
        return found[:limit]


class MemoryRepository:
    """Commits as dictionaries of files. A merge conflicts where both sides changed the same file differently."""

    def __init__(self, files: Files) -> None:
        self.trees: dict[str, Files] = {}
        self.commits: dict[str, str] = {}
        """Commit to tree."""
        self.base = self._commit(files, "base")
        self.tip = self._left = self.base
        """Where the branch is, and where it was left."""
        self.landed: list[tuple[int, str]] = []
        self.canaries: set[str] = set()
        """Commits that fail when a FakeSlot measures them, whatever it evaluates."""

    def tree(self, commit: str) -> Tree:
        return MemoryTree(commit, self.files(commit))

    def files(self, commit: str) -> Files:
        return self.trees[self.commits[commit]]

    async def apply(self, trial: int, parent: str, change: Change) -> Candidate:
        before = self.files(parent)
        changed = apply_edits(change.edits, {edit.path: before.get(edit.path) for edit in change.edits})
        after = {path: data for path, data in {**before, **changed}.items() if data is not None}
        return self._candidate(f"trial {trial} on {parent}", before, after)

    async def merge(self, trial: int, candidate: str, parent: str, onto: str) -> Candidate | None:
        ours, theirs, base = self.files(candidate), self.files(onto), self.files(parent)
        merged: dict[str, bytes] = {}
        for path in {*ours, *theirs, *base}:
            mine, other, before = ours.get(path), theirs.get(path), base.get(path)
            if mine != before and other not in (before, mine):
                return None
            chosen = mine if mine != before else other
            if chosen is not None:
                merged[path] = chosen
        return self._candidate(f"trial {trial} merged on {onto}", theirs, merged)

    async def land(self, trial: int, candidate: str, expected: str, message: str) -> str:
        commit = self._commit(self.files(candidate), f"{expected} {message}")
        if self.tip == commit:
            return commit
        if self.tip != expected:
            raise BranchLost("autoresearch/test", expected, self.tip)
        self.tip = self._left = commit
        self.landed.append((trial, commit))
        return commit

    async def canary(self, base: str, substitute: Substitute, path: str = "") -> str:
        content = b"rubbish" if substitute is Substitute.RUBBISH else b""
        replaced = {name: content for name in self.files(base) if path in ("", name)}
        commit = self._commit({**self.files(base), **replaced}, f"{substitute} {path}")
        self.canaries.add(commit)
        return commit

    async def start_branch(self, base: str) -> None:
        if self.tip != self._left:
            raise BranchLost("autoresearch/test", self._left, self.tip)

    def _candidate(self, name: str, before: Files, after: Files) -> Candidate:
        commit = self._commit(after, name)
        added = sum(_lines(data) for data in after.values())
        removed = sum(_lines(data) for data in before.values())
        return Candidate(commit, self.commits[commit], max(0, added - removed), max(0, removed - added))

    def _commit(self, files: Files, name: str) -> str:
        tree = sha1(repr(sorted(files.items())).encode()).hexdigest()
        commit = sha1(f"{tree} {name}".encode()).hexdigest()
        self.trees[tree] = dict(files)
        self.commits[commit] = tree
        return commit


def _lines(data: bytes) -> int:
    return len(data.splitlines())


class MemoryStore:
    """Events and rows in lists."""

    def __init__(self) -> None:
        self.stamped: list[Stamped] = []
        self.rows: dict[int, Trial] = {}
        self.noted: dict[str, Mapping[str, Any]] = {}
        self._recorded = anyio.Condition()

    async def append(self, stamped: Stamped) -> None:
        self.stamped.append(stamped)

    async def record(self, trial: Trial) -> None:
        self.rows.setdefault(trial.number, trial)
        async with self._recorded:
            self._recorded.notify_all()

    async def note(self, name: str, value: Mapping[str, Any]) -> None:
        self.noted[name] = value

    async def reached(self, count: int) -> None:
        """Wait until that many rows are recorded."""
        async with self._recorded:
            while len(self.rows) < count:
                await self._recorded.wait()

    async def events(self) -> list[Stamped]:
        return list(self.stamped)

    async def earlier_trials(self) -> list[Trial]:
        return list(self.rows.values())

    async def facts(self) -> dict[str, Any]:
        return dict(self.noted)


@dataclass
class FakeSlot:
    """Measures a commit by a function of its files, after `seconds` on the test's clock."""

    number: int
    repository: MemoryRepository
    evaluate: Callable[[Files, Request], str | int]
    """What the command prints, or the status that it fails with; an OSError stands for a machine that failed."""
    seconds: float = 1.0
    device: Device = Device()
    running: int = 0
    started: list[tuple[int, str]] = field(default_factory=list)
    """(trial, commit) of every measurement, in order."""

    async def measure(self, commit: str, request: Request) -> Measurement:
        if self.running:
            raise RuntimeError(f"slot {self.number} already measures")
        self.started.append((request.trial, commit))
        self.running += 1
        try:
            await self._wait(request)
            return self._seen(commit, request)
        except OSError as error:
            raise SlotLost(str(error)) from None
        finally:
            self.running -= 1

    async def _wait(self, request: Request) -> None:
        await anyio.sleep(min(self.seconds, request.timeout_seconds))

    def _seen(self, commit: str, request: Request) -> Measurement:
        seen = Measurement(None, wall_seconds=self.seconds, seconds_total=self.seconds)
        if self.seconds <= request.timeout_seconds:
            canary = commit in self.repository.canaries
            done = 1 if canary else self.evaluate(self.repository.files(commit), request)
            printed = "" if isinstance(done, int) else done
            seen = replace(seen, exit_code=done if isinstance(done, int) else 0, stdout=printed)
        return settle(seen, request.metric) if request.metric else seen


class HeldSlot(FakeSlot):
    """A slot whose measurements end only when the test says so."""

    def __init__(
        self, number: int, repository: MemoryRepository, evaluate: Callable[[Files, Request], str | int]
    ) -> None:
        super().__init__(number, repository, evaluate)
        self._begun = anyio.Condition()
        self._release = anyio.Semaphore(0)
        self._told = 0

    async def _wait(self, request: Request) -> None:
        async with self._begun:
            self._begun.notify_all()
        await self._release.acquire()

    def finish(self) -> None:
        """Let one measurement end."""
        self._release.release()

    async def begun(self) -> int:
        """Wait for a measurement to begin that this has not returned yet; return its trial."""
        async with self._begun:
            while len(self.started) == self._told:
                await self._begun.wait()
        self._told += 1
        return self.started[self._told - 1][0]


class FakeMeasurer:
    """Slots that are there from the start."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots

    async def __aenter__(self) -> FakeMeasurer:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def slots(self) -> AsyncIterator[Slot]:
        for slot in self._slots:
            yield slot


class FakeProposer:
    """Proposes what a function says, after `seconds` on the test's clock.

    The function takes the brief and the parent's files and returns a change, None where there is nothing left, or
    raises what a real proposer may raise.
    """

    def __init__(
        self,
        choose: Callable[[Brief, Files], Change | None],
        *,
        seconds: float = 0.0,
        repairs: bool = False,
        ordered: bool = False,
        cost_usd: float = 0.0,
        cost_bound_usd: float = 0.0,
    ) -> None:
        self._choose = choose
        self.seconds = seconds
        self.repairs = repairs
        self.ordered = ordered
        self.cost_bound_usd = cost_bound_usd
        self.cost_least_usd = 0.0
        self._cost_usd = cost_usd
        self.briefs: list[Brief] = []
        self.told: list[Trial] = []

    async def propose(self, brief: Brief, tree: Tree) -> Proposal:
        self.briefs.append(brief)
        await anyio.sleep(self.seconds)
        contents = {entry.path: await tree.read(entry.path) or b"" for entry in await tree.files()}
        change = self._choose(brief, contents)
        if change is None:
            raise ProposalsExhausted("nothing left to propose")
        return Proposal(change, Reply("", usage=Usage(cost_usd=self._cost_usd)))

    def tell(self, trial: Trial) -> None:
        self.told.append(trial)


class RecordingListener:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ended: list[Trial] = []

    def notify(self, at: float, event: Event, ended: Sequence[Trial], snapshot: Callable[[], Snapshot]) -> None:
        self.events.append(event)
        self.ended += ended


class MemoryConsole:
    """Keeps what was shown; answers questions in order, and is no terminal where no answer is left."""

    def __init__(self, answers: Sequence[str] = ()) -> None:
        self._answers = list(answers)
        self.plans: list[Plan] = []
        self.asked: list[str] = []
        self.said: list[str] = []
        self.heard = RecordingListener()
        self.summaries: list[str] = []
        self.closed = False

    def show(self, plan: Plan) -> None:
        self.plans.append(plan)

    def can_ask(self) -> bool:
        return bool(self._answers)

    async def ask(self, question: str) -> str | None:
        self.asked.append(question)
        return self._answers.pop(0) if self._answers else None

    def say(self, line: str) -> None:
        self.said.append(line)

    def listener(self) -> RecordingListener:
        return self.heard

    def summary(self, text: str) -> None:
        self.summaries.append(text)

    def close(self) -> None:
        self.closed = True


class MemoryWorktrees:
    """Edit worktrees as plain folders below `root`."""

    def __init__(self, repository: MemoryRepository, root: Path) -> None:
        self._repository = repository
        self._root = root
        self._made = 0

    @asynccontextmanager
    async def checkout(self, commit: str) -> AsyncIterator[Path]:
        self._made += 1
        folder = self._root / f"edit-{self._made}"
        for path, data in self._repository.files(commit).items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        yield folder

    async def difference(self, worktree: Path, parent: str) -> tuple[Edit, ...]:
        before, after = self._repository.files(parent), _read_folder(worktree)
        edits = [
            Edit(path, content=data.decode("utf-8", "surrogateescape"))
            for path, data in after.items()
            if before.get(path) != data
        ]
        return (*edits, *(Edit(path, delete=True) for path in before if path not in after))


def _read_folder(folder: Path) -> Files:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
