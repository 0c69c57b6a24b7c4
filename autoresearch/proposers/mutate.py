"""Proposes small changes without a model: other constants, operators, elements and lines; learns which places pay.

What it is: a local search over the tokens of a text, blind to what they mean. It tunes numbers well and finds a switch,
a dead line or a better operator where there is one. It has no ideas. It is a baseline for any model, and a way to try a
measure command for nothing.
"""

from __future__ import annotations

import hashlib
import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from anyio import Lock, to_thread

from autoresearch.brief import Brief
from autoresearch.edits import apply_edits
from autoresearch.errors import ChangeRejected, ProposalsExhausted, UsageError
from autoresearch.metric import Direction
from autoresearch.proposers.mutations import Mutation, edits_of, stepped
from autoresearch.proposers.payoffs import Move, Payoffs, place_of
from autoresearch.proposers.sites import LARGEST_FILE_BYTES, SIMPLIFYING, Kind, Site, sites_of
from autoresearch.protocols import Tree
from autoresearch.scope import Scope
from autoresearch.trial import Change, Edit, Operator, Outcome, Proposal, Reason, Reply, Trial

_MOST_BYTES = 4 * 1024 * 1024
"""Of a scope, as much as is looked at."""
_MOST_NAMED = 4
"""Moves that a hypothesis names; of more it gives the number."""
_TREES_REMEMBERED = 8
_RANDOM_TRIES = 60
_LAST_RESORT_TRIES = 200


@dataclass(frozen=True, slots=True)
class _Source:
    """One file, read."""

    data: bytes
    digest: bytes
    sites: Sequence[Site]

    @property
    def text(self) -> str:
        return self.data.decode()


@dataclass(frozen=True, slots=True)
class _Sources:
    """The scope of one commit."""

    files: Mapping[str, _Source]
    sites: Sequence[Site]

    def identity(self, changed: Mapping[str, bytes | None]) -> bytes:
        """The same for the same contents of all files."""
        digests = {path: source.digest for path, source in self.files.items()}
        digests |= {path: _digest(data) if data is not None else b"" for path, data in changed.items()}
        return _digest(b"".join(path.encode() + b"\0" + digest for path, digest in sorted(digests.items())))


@dataclass(frozen=True, slots=True)
class _Idea:
    """A change that was not proposed before."""

    change: Change
    identity: bytes
    moves: tuple[Move, ...] = ()


@dataclass(slots=True)
class _Memory:
    """What was proposed and how it ended."""

    proposed: set[bytes] = field(default_factory=set)
    moves: dict[int, tuple[Move, ...]] = field(default_factory=dict)
    """By trial, while it runs."""
    values: dict[int, float] = field(default_factory=dict)
    """By trial."""
    told: list[Trial] = field(default_factory=list)
    """Not learned from yet."""


class MutateProposer:
    """Changes what stands in the scope's text files.

    With one worker the proposals follow from the seed, the trials' numbers and what was told. Binary files, files over
    256 KiB, data files and lines over 400 characters are left alone, and what a scope holds beyond 4 MiB.
    """

    repairs = False
    ordered = False
    cost_bound_usd = cost_least_usd = 0.0

    def __init__(self, scope: Scope, seed: int = 0) -> None:
        self._scope = scope
        self._seed = seed
        self._payoffs = Payoffs()
        self._memory = _Memory()
        self._trees: OrderedDict[str, _Sources] = OrderedDict()
        self._path: list[dict[str, str]] = []
        """The numbers of the last incumbents, oldest first."""
        self._reading = Lock()

    async def prepare(self, tree: Tree) -> None:
        """Look whether there is anything to change.

        Raises:
            UsageError: there is not.
        """
        if not (await self._sources(tree)).sites:
            raise UsageError(
                "mutate finds nothing to change in the scope: no constants, operators or plain lines in text files; "
                "name files that have some, or take another --proposer"
            )

    async def propose(self, brief: Brief, tree: Tree) -> Proposal:
        sources = await self._sources(tree)
        self._learn(brief)
        self._memory.proposed.add(sources.identity({}))
        if brief.parent == brief.incumbent:
            self._remember_numbers(sources)
        taken = {trial.hypothesis for trial in brief.in_flight}
        rng = random.Random(f"{self._seed}:{brief.trial}")
        for idea in self._ideas(brief, sources, rng):
            if idea.identity not in self._memory.proposed and idea.change.hypothesis not in taken:
                self._memory.proposed.add(idea.identity)
                self._memory.moves[brief.trial] = idea.moves
                self._payoffs.begin(idea.moves)
                return Proposal(idea.change, Reply(text="", model="mutate"))
        raise ProposalsExhausted("mutate has tried everything that it can change in the scope")

    def tell(self, trial: Trial) -> None:
        self._memory.told.append(trial)

    # Learning

    def _learn(self, brief: Brief) -> None:
        """Take in what was told. Done when asked, because only then the direction is known."""
        values, direction = self._memory.values, brief.metric.direction
        values.setdefault(0, brief.baseline)
        for trial in self._memory.told:
            if trial.value is not None:
                values[trial.number] = trial.value
            if trial.baseline:
                continue
            begun = self._memory.moves.pop(trial.number, None)
            self._payoffs.end(begun or ())
            if trial.reason is not Reason.DUPLICATE:
                moves = begun if begun is not None else _moves_of(trial.edits)
                kept = trial.outcome is Outcome.KEEP
                self._payoffs.learn(moves, _gain(trial, values, direction), kept)
        self._memory.told.clear()

    def _remember_numbers(self, sources: _Sources) -> None:
        numbers = {site.key: site.text for site in sources.sites if site.kind is Kind.NUMBER}
        if not self._path or self._path[-1] != numbers:
            self._path = [*self._path[-5:], numbers]

    # Choosing

    def _ideas(self, brief: Brief, sources: _Sources, rng: random.Random) -> Iterator[_Idea]:
        """Changes in the order in which they should be tried; may repeat what was proposed."""
        if brief.operator is Operator.COMBINE and brief.combine_with is not None:
            yield from _combined(brief.combine_with, sources)
        sites = list(sources.sites)
        if brief.operator is Operator.SIMPLIFY:
            yield from _ideas_of(self._alternatives([s for s in sites if s.kind in SIMPLIFYING], rng), sources)
        bold = brief.operator in (Operator.EXPLORE, Operator.ESCAPE)
        for attempt in range(_RANDOM_TRIES if sites else 0):
            reach = (2.5 if bold else 1.0) * 1.05**attempt
            yield from _ideas_of([self._mutations(sites, rng, bold, reach)], sources)
        yield from _ideas_of(self._alternatives(sites, rng), sources)
        numbers = [site for site in sites if site.kind is Kind.NUMBER]
        for _ in range(_LAST_RESORT_TRIES if numbers else 0):
            site = rng.choice(numbers)
            yield from _ideas_of([_step(site, rng.gauss(0.0, 1.0))], sources)

    def _mutations(self, sites: Sequence[Site], rng: random.Random, bold: bool, reach: float) -> list[Mutation]:
        numbers = [site for site in sites if site.kind is Kind.NUMBER]
        together = 0.6 if bold else min(0.5, 0.05 * max(0, self._payoffs.stalled - 3))
        if len(numbers) > 1 and rng.random() < together:
            return self._onward(numbers, rng) if rng.random() < 0.4 else self._several(numbers, rng, reach)
        paying = self._payoffs.paying(sites)
        site = self._choice(paying if paying and not bold and rng.random() < 0.6 else sites, rng)
        if site.kind is Kind.NUMBER and (not site.alternatives or rng.random() > 0.02):
            return _step(site, self._payoffs.step(site, rng, reach))
        return [Mutation(site, rng.choice(site.alternatives))] if site.alternatives else []

    def _several(self, numbers: Sequence[Site], rng: random.Random, reach: float) -> list[Mutation]:
        count = min(len(numbers), rng.randint(2, 4))
        chosen = {site.key: site for site in (self._choice(numbers, rng) for _ in range(count))}
        return [
            mutation
            for site in chosen.values()
            for mutation in _step(site, self._payoffs.step(site, rng, reach * rng.uniform(0.3, 1.0)))
        ]

    def _onward(self, numbers: Sequence[Site], rng: random.Random) -> list[Mutation]:
        """A pattern move (Hooke and Jeeves, 1961): on along the way that the last keeps went."""
        before = rng.choice(self._path) if self._path else {}
        share = rng.uniform(0.3, 1.5)
        mutations = []
        for site in numbers:
            here, there = place_of(site.text), place_of(before.get(site.key, ""))
            if here is not None and there is not None and here != there:
                mutations += _step(site, (here - there) * share)
        return mutations

    def _choice(self, sites: Sequence[Site], rng: random.Random) -> Site:
        return rng.choices(sites, [self._payoffs.weight(site) for site in sites])[0]

    def _alternatives(self, sites: Sequence[Site], rng: random.Random) -> Iterator[list[Mutation]]:
        """Every alternative of every site, the promising first."""
        ranked = sorted(sites, key=lambda site: self._payoffs.weight(site) * rng.random(), reverse=True)
        for site in ranked:
            for new in site.alternatives:
                yield [Mutation(site, new)]

    # Reading

    async def _sources(self, tree: Tree) -> _Sources:
        async with self._reading:
            if tree.commit not in self._trees:
                known = next(reversed(self._trees.values())).files if self._trees else {}
                data = await self._read(tree)
                self._trees[tree.commit] = await to_thread.run_sync(_scanned, data, known)
                if len(self._trees) > _TREES_REMEMBERED:
                    self._trees.popitem(last=False)
            self._trees.move_to_end(tree.commit)
            return self._trees[tree.commit]

    async def _read(self, tree: Tree) -> dict[str, bytes]:
        data: dict[str, bytes] = {}
        total = 0
        for entry in await tree.files():
            if entry.size > LARGEST_FILE_BYTES or self._scope.why_not(entry.path) is not None:
                continue
            total += entry.size
            if total > _MOST_BYTES:
                break
            data[entry.path] = await tree.read(entry.path) or b""
        return data


def _scanned(data: Mapping[str, bytes], known: Mapping[str, _Source]) -> _Sources:
    files = {}
    for path, content in data.items():
        digest = _digest(content)
        same = known.get(path)
        if same is not None and same.digest == digest:
            files[path] = same
        else:
            files[path] = _Source(content, digest, sites_of(path, content))
    return _Sources(files, [site for source in files.values() for site in source.sites])


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _step(site: Site, step: float) -> list[Mutation]:
    new = stepped(site.text, step)
    return [] if new is None else [Mutation(site, new)]


def _ideas_of(choices: Iterable[Sequence[Mutation]], sources: _Sources) -> Iterator[_Idea]:
    for mutations in choices:
        if not mutations:
            continue
        edits: list[Edit] = []
        changed: dict[str, bytes | None] = {}
        for path in {mutation.site.path: None for mutation in mutations}:
            text, of_path = edits_of(
                sources.files[path].text, [mutation for mutation in mutations if mutation.site.path == path]
            )
            changed[path] = text.encode()
            edits += of_path
        named = [mutation.site.describe(mutation.new) for mutation in mutations[:_MOST_NAMED]]
        hypothesis = "; ".join(named) + (f"; and {more} more" if (more := len(mutations) - len(named)) else "")
        moves = tuple(Move(each.site.key, each.site.text, each.new) for each in mutations)
        yield _Idea(Change(hypothesis, tuple(edits)), sources.identity(changed), moves)


def _combined(other: Trial, sources: _Sources) -> Iterator[_Idea]:
    """The other trial's edits on these files, where they apply."""
    try:
        changed = apply_edits(other.edits, {path: source.data for path, source in sources.files.items()})
    except ChangeRejected:
        return
    change = Change(f"with trial {other.number}: {other.hypothesis}", other.edits)
    yield _Idea(change, sources.identity(changed), _moves_of(other.edits))


def _moves_of(edits: Sequence[Edit]) -> tuple[Move, ...]:
    """The moves that edits made, as far as they can be told without the file: known again after a resume."""
    moves: list[Move] = []
    for edit in edits:
        if edit.old is None or edit.new is None:
            continue
        old, new = sites_of(edit.path, edit.old.encode()), sites_of(edit.path, edit.new.encode())
        numbers = [(a, b) for a, b in zip(old, new, strict=False) if a.key == b.key and a.kind is Kind.NUMBER]
        stepped_to = [Move(a.key, a.text, b.text) for a, b in numbers if a.text != b.text]
        moves += stepped_to or [
            Move(site.key, site.text, other)
            for site in old
            for other in site.alternatives
            if edit.old[: site.start] + other + edit.old[site.end :] == edit.new
        ]
    return tuple(moves)


def _gain(trial: Trial, values: Mapping[int, float], direction: Direction) -> float | None:
    """How much better than its parent it was; None: it has no value."""
    if trial.value is None:
        return None
    if trial.outcome is Outcome.KEEP and trial.delta is not None:
        return trial.delta
    before = values.get(trial.parent if trial.parent is not None else 0)
    return direction.gain(before, trial.value) if before is not None else trial.delta
