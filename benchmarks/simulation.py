"""A night in seconds: the very state that runs at night, told of measurements that a random generator made up.

Only what a rule may know goes to it, as events; what is true stays here, and is what every figure is made of.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Protocol

from autoresearch.actions import (
    Action,
    Apply,
    Approve,
    CancelProposal,
    Land,
    Measure,
    Merge,
    Propose,
    Stop,
    Wake,
)
from autoresearch.config import RunConfig
from autoresearch.events import (
    Applied,
    Approved,
    Began,
    Event,
    Landed,
    Measured,
    Merged,
    Proposed,
    SlotReady,
    SlotsComplete,
    TimePassed,
)
from autoresearch.state import Run
from autoresearch.trial import (
    Candidate,
    Change,
    Edit,
    Measurement,
    Proposal,
    Reason,
    Reply,
)
from benchmarks.account import Account, Night
from benchmarks.landscape import BASE, Mix, Terrain, Tree
from benchmarks.noise import HOUR_SECONDS, Conditions

LEVEL = 1000.0
"""What a tree of quality 0 measures on average."""
BASE_COMMIT = "base"
CRASH_SHARE = 0.2
"""How much of a measurement's time passes before a crash."""
JITTER = 0.03
"""Relative spread of a measurement's duration."""


class State(Protocol):
    """What decides: a run, or a rival of it."""

    def tell(self, at: float, event: Event) -> list[Action]:
        """Take in what happened; say what to do next."""


Rule = Callable[[Began, float], State]
"""Makes a state from the run's first event and its time in seconds."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long things take, in seconds."""

    measure: float = 300.0
    propose: float = 60.0


CAMPAIGN, QUIET, TIMES, DEFAULTS = Mix(), Conditions(), Times(), RunConfig()


class Machine:
    """Slots, a proposer and a repository, none of them real. It answers what a state asks for."""

    def __init__(self, state: State, terrain: Terrain, times: Times, seed: int) -> None:
        self.state, self.terrain, self.times = state, terrain, times
        self.account = Account(BASE_COMMIT, terrain.truth)
        self.measuring, self.proposing = Random(f"{seed} measuring"), Random(f"{seed} proposing")
        self.at = self._busy_seconds = 0.0
        self._later: list[tuple[float, int, Event]] = []
        self._now: deque[Event] = deque()
        self._numbers = count()

    def run(self, slots: int, shared: bool = False) -> Night:
        """From the first slot to the stop. `shared`: slots share CPUs, instead of owning a GPU each.

        Raises:
            RuntimeError: the state asks for nothing and has not stopped, or lands on what is not the tip.
        """
        night, trees = self.account.night, self.account.trees
        self._now.extend(SlotReady(slot, "" if shared else f"GPU {slot}", shares_cpus=shared) for slot in range(slots))
        self._now.append(SlotsComplete())
        while not night.why:
            if self._now:
                event = self._now.popleft()
            elif self._later:
                self.at, _, event = heapq.heappop(self._later)
            else:
                raise RuntimeError(f"nothing is under way at {self.at}")
            if isinstance(event, Proposed) and event.trial not in self.account.ideas:
                continue  # called off
            self.account.told(self.at, event)
            for action in self.state.tell(self.at, event):
                self.account.asked(self.at, event, action)
                self._answer(action)
        night.true_gain = self.terrain.truth(trees[self.account.tip]) - self.terrain.truth(BASE)
        night.measure_seconds = self.times.measure
        night.slot_use = self._busy_seconds / (slots * self.at)
        return night

    def _answer(self, action: Action) -> None:
        trees = self.account.trees
        match action:
            case Measure():
                self._measure(action)
            case Propose(brief, parent_commit):
                idea = self.terrain.draw(self.proposing, trees[parent_commit])
                self.account.ideas[brief.trial] = idea
                change = Change(f"idea {idea.number}", (Edit(f"{idea.number}", content=f"{idea.number}\n"),))
                self._after(self.times.propose, Proposed(brief.trial, Proposal(change, Reply(""))))
            case CancelProposal(trial):
                self.account.ideas.pop(trial, None)
            case Apply(trial, parent_commit):
                tree = self.terrain.applied(trees[parent_commit], self.account.ideas[trial].number)
                self._now.append(Applied(trial, self._candidate(tree)))
            case Merge(trial, candidate, parent_commit, onto):
                merged = self.terrain.merged(trees[candidate], trees[parent_commit], trees[onto])
                self._now.append(Merged(trial, onto, None if merged is None else self._candidate(merged)))
            case Land(trial, candidate, expected):
                if expected != self.account.tip:
                    raise RuntimeError(f"trial {trial} lands on {expected}; the tip is {self.account.tip}")
                self._now.append(Landed(trial, self._commit(trees[candidate])))
            case Approve(metric):
                self._now.append(Approved(metric))
            case Wake(at):
                self._after(at - self.at, TimePassed())
            case Stop(why):
                self.account.night.why = why

    def _after(self, seconds: float, event: Event) -> None:
        heapq.heappush(self._later, (self.at + max(0.0, seconds), next(self._numbers), event))

    def _measure(self, action: Measure) -> None:
        tree = self.account.trees.get(action.commit, BASE)  # a canary's is not known here
        seconds = self.times.measure * max(0.1, 1 + JITTER * self.measuring.gauss(0.0, 1.0))
        value = self.terrain.value(self.measuring, tree, action.slot, self.at)
        if value is None:
            seconds *= CRASH_SHARE
            found = Measurement(None, failure=Reason.EXIT, exit_code=1, wall_seconds=seconds, seconds_total=seconds)
        else:
            chosen = action.request.metric is not None
            found = Measurement(
                LEVEL + value if chosen else None,
                exit_code=0,
                wall_seconds=seconds,
                stdout="" if chosen else f"score: {LEVEL + value!r}\n",
                seconds_total=seconds,
            )
        self._busy_seconds += seconds
        self._after(seconds, Measured(action.request.trial, action.slot, action.purpose, action.commit, found))

    def _commit(self, tree: Tree) -> str:
        """A new commit of a tree."""
        name = f"c{len(self.account.trees)}"
        self.account.trees[name] = tree
        return name

    def _candidate(self, tree: Tree) -> Candidate:
        return Candidate(self._commit(tree), tree_name(tree), added=1, removed=1)


def tree_name(tree: Tree) -> str:
    """A tree as git would name it: equal where the trees are."""
    return ",".join(map(str, sorted(tree))) or "base"


def night(
    rule: Rule = Run,
    mix: Mix = CAMPAIGN,
    conditions: Conditions = QUIET,
    *,
    slots: int = 8,
    shared: bool = False,
    seed: int = 0,
    trials: int | None = None,
    hours: float | None = None,
    times: Times = TIMES,
    config: RunConfig = DEFAULTS,
) -> Night:
    """One run by a rule in a landscape of a mix. Ends after so many trials or hours."""
    landscape = mix.landscape(Random(f"{seed} landscape"), copy_of(conditions))
    limits = replace(config, max_trials=trials, max_time=None if hours is None else hours * HOUR_SECONDS)
    return search(rule, landscape, slots=slots, shared=shared, seed=seed, times=times, config=limits)


def search(
    rule: Rule,
    terrain: Terrain,
    *,
    slots: int = 8,
    shared: bool = False,
    seed: int = 0,
    times: Times = TIMES,
    config: RunConfig = DEFAULTS,
) -> Night:
    """One run by a rule on any terrain; `config` says when it ends and what else the run is to know.

    Raises:
        RuntimeError: as `Machine.run`.
    """
    known = replace(config, objective="maximize score", measure="measure", scope=(".",), canary=False, seed=seed)
    state = rule(Began(known.to_row(), BASE_COMMIT, tree_name(BASE)), 0.0)
    return Machine(state, terrain, times, seed).run(slots, shared)


def copy_of(conditions: Conditions) -> Conditions:
    """The same conditions, whose drift begins anew."""
    return Conditions(conditions.noise, copy(conditions.drift), conditions.offsets)
