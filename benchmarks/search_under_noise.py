"""A file of constants, a noisy function of them, and a fixed budget of measurements: which rule ends deeper?

The functions are those of bbob-noisy (Hansen et al. 2009, Real-parameter black-box optimization benchmarking 2009:
noisy functions definitions, INRIA RR-6869), from the package `coco-experiment`: moderate and severe Gaussian, uniform
and Cauchy noise. A change sets one to three constants of its parent a Gaussian step away.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from random import Random
from typing import Any

from autoresearch.config import RunConfig
from benchmarks.landscape import Idea, Kind, Tree
from benchmarks.nights import spread
from benchmarks.report import Report, Table, average, share
from benchmarks.rules import RULES
from benchmarks.simulation import TIMES, search

DIMENSION, BOUND = 5, 5.0
SLOTS = 8
FIRST, LAST = 101, 130
NOISES = ("Gaussian", "uniform", "Cauchy")
"""Every three functions are one function under these three noises."""
EXACT_OF = 15
"""Cauchy noise strikes in at most one of five evaluations: what most of so many agree on is exact."""
RIVALS = ("ours", "naive", "two_sigma", "four_pairs")
EXACT = "naive, no noise"


def report(
    quick: bool = False,
    seeds: int | None = None,
    functions: Sequence[int] = range(FIRST, LAST + 1),
    budget: int = 600,
    processes: int | None = None,
) -> Report:
    """Measure it, with so many seeds on each function and about `budget` measurements for each run.

    Raises:
        SystemExit: the package `coco-experiment` is not installed.
    """
    began = time.monotonic()
    if find_spec("cocoex") is None:
        raise SystemExit("search_under_noise needs the package coco-experiment: pip install coco-experiment")
    seeds = seeds or (1 if quick else 8)
    todo = [(function, seed, budget) for function in functions for seed in range(seeds)]
    found = dict(zip(todo, spread(_descend, todo, processes, fresh=True), strict=True))
    made = Report("search_under_noise", "which rule ends deeper on the noisy functions of COCO?", [_table(found)])
    made.notes.append(
        f"{DIMENSION} constants, {len(functions)} functions, {seeds} seeds, about {budget} measurements in {SLOTS} "
        "slots each. True values are those of the function without noise; 100% is what the naive rule reaches there "
        "with the same budget. Deeper: the tip is truly better than the naive rule's on the same function and seed."
    )
    made.seconds = time.monotonic() - began
    return made


@dataclass(frozen=True, slots=True)
class Descent:
    """What one run reached."""

    true_gain: float
    tried: int
    keeps: int
    false_keeps: int


def _descend(todo: tuple[int, int, int]) -> dict[str, Descent]:
    """Every rule on one function, from one start."""
    function, seed, budget = todo
    config = RunConfig(max_time=budget / SLOTS * TIMES.measure)
    descents = {}
    for name in (*RIVALS, EXACT):
        random = Random(f"{function} {seed}")
        start = tuple(random.uniform(-BOUND, BOUND) for _ in range(DIMENSION))
        terrain = Constants(function, start, noisy=name != EXACT)
        rule = RULES["naive" if name == EXACT else name]
        night = search(rule, terrain, slots=SLOTS, seed=seed, config=config)
        descents[name] = Descent(night.true_gain, len(night.tried), night.keeps, night.false_keeps)
    return descents


def _table(found: Mapping[tuple[int, int, int], Mapping[str, Descent]]) -> Table:
    columns = (
        "noise",
        "rule",
        "ideas tried",
        "keeps",
        "% false",
        "% of gain, median",
        "% deeper",
        "% below start",
    )
    table = Table("Constants of noisy functions, averages of a run", columns)
    for noise in NOISES:
        runs = [each for (function, _, _), each in found.items() if noise_of(function) == noise]
        for rule in (*RIVALS, EXACT) if runs else ():
            of_rule = [each[rule] for each in runs]
            keeps = sum(each.keeps for each in of_rule)
            false = 100 * share(sum(each.false_keeps for each in of_rule), keeps)
            gains = [100 * share(each[rule].true_gain, each[EXACT].true_gain) for each in runs]
            deeper = 100 * average([each[rule].true_gain > each["naive"].true_gain for each in runs])
            worse = 100 * average([each.true_gain < 0 for each in of_rule])
            tried = average([each.tried for each in of_rule])
            table.rows.append((noise, rule, tried, keeps / len(runs), false, statistics.median(gains), deeper, worse))
    return table


def noise_of(function: int) -> str:
    """The noise of a function by its number."""
    return NOISES[(function - FIRST) % 3]


@dataclass(slots=True)
class Constants:
    """A file of constants. A tree is the set of the assignments in it that are not the base's."""

    function: int
    start: tuple[float, ...]
    noisy: bool = True
    assignments: list[tuple[int, float]] = field(default_factory=list)
    """By number: which constant, and what it is set to."""
    ideas: list[tuple[int, ...]] = field(default_factory=list)
    """By number: the assignments of a change."""

    def draw(self, random: Random, tree: Tree) -> Idea:
        """One to three constants of the parent, a Gaussian step away; its size is anything from 0.001 to 1."""
        point = self.point(tree)
        size = 10 ** -random.uniform(0.0, 3.0)
        made = []
        for place in random.sample(range(DIMENSION), random.randint(1, 3)):
            made.append(len(self.assignments))
            moved = min(BOUND, max(-BOUND, point[place] + random.gauss(0.0, size)))
            self.assignments.append((place, moved))
        self.ideas.append(tuple(made))
        return Idea(len(self.ideas) - 1, Kind.GAIN)

    def applied(self, tree: Tree, number: int) -> Tree:
        """Its lines take the place of those of the same constants."""
        places = {self.assignments[each][0] for each in self.ideas[number]}
        return frozenset(each for each in tree if self.assignments[each][0] not in places) | set(self.ideas[number])

    def merged(self, ours: Tree, base: Tree, theirs: Tree) -> Tree | None:
        """None where both set the same constant."""
        touched, moved = ({self.assignments[each][0] for each in side ^ base} for side in (ours, theirs))
        return None if touched & moved else (theirs - (base - ours)) | (ours - base)

    def truth(self, tree: Tree) -> float:
        """Without noise; higher is better."""
        return -exact(self.function, self.point(tree))

    def value(self, random: Random, tree: Tree, slot: int, seconds: float) -> float | None:
        """One evaluation."""
        return -_evaluate(self.function, self.point(tree)) if self.noisy else self.truth(tree)

    def point(self, tree: Tree) -> list[float]:
        """The constants of a tree."""
        point = list(self.start)
        for each in tree:
            place, value = self.assignments[each]
            point[place] = value
        return point


def exact(function: int, point: list[float]) -> float:
    """The function without its noise, but for a constant: from the sibling whose noise strikes seldom."""
    sibling = function + NOISES.index("Cauchy") - NOISES.index(noise_of(function))
    return Counter(_evaluate(sibling, point) for _ in range(EXACT_OF)).most_common(1)[0][0]


def _evaluate(function: int, point: list[float]) -> float:
    return float(_suite()[function - FIRST](point))


@cache
def _suite() -> Any:
    cocoex = import_module("cocoex")
    return cocoex.Suite("bbob-noisy", "", f"dimensions:{DIMENSION} instance_indices:1")
