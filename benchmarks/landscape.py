"""What there is to find: ideas with true effects, and how they meet. Qualities are in standard deviations of the noise.

A tree is the set of the ideas that it holds. Higher is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Protocol

from benchmarks.noise import Conditions

Tree = frozenset[int]

BASE: Tree = frozenset()


class Kind(StrEnum):
    """What an idea is in truth."""

    GAIN = "gain"
    NOOP = "noop"
    LOSS = "loss"
    CRASH = "crash"


@dataclass(frozen=True, slots=True)
class Idea:
    """One change that a proposer may find."""

    number: int
    kind: Kind
    effect: float = 0.0
    """On a tree that holds none of its rivals."""


class Terrain(Protocol):
    """Where a run searches."""

    def draw(self, random: Random, tree: Tree) -> Idea:
        """What a proposer finds next, given the tree that it starts from."""

    def applied(self, tree: Tree, number: int) -> Tree:
        """A tree with one more idea, written by somebody who saw the tree."""

    def merged(self, ours: Tree, base: Tree, theirs: Tree) -> Tree | None:
        """What leads from base to ours, on top of theirs; None where both changed the same lines."""

    def truth(self, tree: Tree) -> float:
        """What many measurements of a tree would come to, without drift."""

    def value(self, random: Random, tree: Tree, slot: int, seconds: float) -> float | None:
        """One measurement of a tree; None where it crashes."""


@dataclass(frozen=True, slots=True)
class Mix:
    """What a proposer finds, on average. The shares are of those ideas that do not crash."""

    gains: float = 0.15
    losses: float = 0.60
    """The rest are no-ops: exactly nothing changes."""
    crashes: float = 0.0
    gain: float = 2.0
    """Mean size of a gain."""
    loss: float = 2.0
    """Mean size of a loss."""
    exponential: bool = True
    """Sizes are spread exponentially; else all are equal."""
    stock: int | None = None
    """So many gains exist: the more of them a tree holds, the seldomer another is found. None: without end."""
    cancelling: float = 0.0
    """Share of the stock that is in pairs which together are worth nothing."""
    conflicting: float = 0.0
    """Share of the stock that is in pairs which edit the same lines."""

    def landscape(self, random: Random, conditions: Conditions) -> Landscape:
        """One landscape of this kind."""
        made = Landscape(self, conditions)
        wins = [made.add(Kind.GAIN, self._size(random, self.gain)).number for _ in range(self.stock or 0)]
        random.shuffle(wins)
        conflicting, cancelling = (round(share * len(wins) / 2) for share in (self.conflicting, self.cancelling))
        pairs = list(zip(wins[0::2], wins[1::2], strict=False))
        made.conflicts = _both_ways(pairs[:conflicting])
        made.cancels = _both_ways(pairs[conflicting : conflicting + cancelling])
        return made

    def draw(self, random: Random, landscape: Landscape, tree: Tree) -> Idea:
        """What a proposer finds next in a landscape."""
        if random.random() < self.crashes:
            return landscape.add(Kind.CRASH)
        share = random.random()
        if share < self.gains:
            if self.stock is None:
                return landscape.add(Kind.GAIN, self._size(random, self.gain))
            number = random.randrange(self.stock)
            if number in tree or (tree, number) in landscape.drawn:
                return landscape.add(Kind.NOOP)
            landscape.drawn.add((tree, number))
            return landscape.ideas[number]
        if share < self.gains + self.losses:
            return landscape.add(Kind.LOSS, -self._size(random, self.loss))
        return landscape.add(Kind.NOOP)

    def _size(self, random: Random, mean: float) -> float:
        return random.expovariate(1 / mean) if self.exponential else mean


@dataclass(slots=True)
class Landscape:
    """The ideas of one night, and how well they can be seen."""

    mix: Mix
    conditions: Conditions
    ideas: list[Idea] = field(default_factory=list)
    """By number."""
    conflicts: dict[int, int] = field(default_factory=dict)
    """Two ideas that edit the same lines: one replaces the other, and they cannot be merged."""
    cancels: dict[int, int] = field(default_factory=dict)
    """Two ideas that together are worth nothing."""
    drawn: set[tuple[Tree, int]] = field(default_factory=set)
    """Gains of the stock that were proposed for a tree: nobody proposes the same again."""

    def add(self, kind: Kind, effect: float = 0.0) -> Idea:
        """One more idea."""
        idea = Idea(len(self.ideas), kind, effect)
        self.ideas.append(idea)
        return idea

    def draw(self, random: Random, tree: Tree) -> Idea:
        """By the mix."""
        return self.mix.draw(random, self, tree)

    def applied(self, tree: Tree, number: int) -> Tree:
        """It takes the place of the one that edits the same lines."""
        return (tree - {self.conflicts.get(number, number)}) | {number}

    def merged(self, ours: Tree, base: Tree, theirs: Tree) -> Tree | None:
        """Ideas that do not conflict are merged, whether they cancel or not."""
        touched, moved = ours ^ base, theirs ^ base
        if any(self.conflicts.get(number) in moved for number in touched):
            return None
        return (theirs - (base - ours)) | (ours - base)

    def truth(self, tree: Tree) -> float:
        """What the noise leaves of its quality on average."""
        return self.conditions.noise.mean(self._quality(tree))

    def value(self, random: Random, tree: Tree, slot: int, seconds: float) -> float | None:
        """Under the conditions."""
        if any(self.ideas[number].kind is Kind.CRASH for number in tree):
            return None
        return self.conditions.value(random, self._quality(tree), slot, seconds)

    def _quality(self, tree: Tree) -> float:
        dead = {number for number in tree if self.cancels.get(number) in tree}
        return math.fsum(self.ideas[number].effect for number in tree - dead)


def _both_ways(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    return {one: other for pair in pairs for one, other in (pair, pair[::-1])}
