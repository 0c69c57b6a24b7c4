"""The order of checks, stand-in and measurement, and what "clearly worse" and "agrees" mean."""

from __future__ import annotations

import statistics
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.metric import Direction
from autoresearch.state.gauge import Gauge, Spread, clearly_worse
from autoresearch.state.staging import ENOUGH, Cost, Order, Step, expected_seconds, order
from autoresearch.state.standin import rank_agreement

CHECKS, STANDIN, MEASURE = Step
ALL = (CHECKS, STANDIN, MEASURE)


def cost(seconds: float, share: float, runs: int = 1000) -> Cost:
    """A step that takes so long and rejects that share."""
    return Cost(runs, round(share * runs), seconds * runs)


@pytest.mark.parametrize(
    ("checks", "standin", "measure", "cheapest"),
    [
        (cost(5, 0.3), cost(20, 0.3), cost(300, 0.8), ALL),
        (cost(100, 0.3), cost(20, 0.4), cost(300, 0.8), (STANDIN, CHECKS, MEASURE)),
        (cost(600, 0.05), cost(20, 0.4), cost(300, 0.8), (STANDIN, MEASURE, CHECKS)),
        (cost(600, 0.05), cost(290, 0.1), cost(300, 0.8), (MEASURE, CHECKS)),
        (cost(5, 0.3), cost(290, 0.1), cost(300, 0.8), (CHECKS, MEASURE)),
        (cost(0.2, 0.05), cost(0.1, 0.4), cost(0.3, 0.8), ALL),
        (cost(600, 0.05, ENOUGH - 1), cost(20, 0.4), cost(300, 0.8), ALL),
    ],
)
def test_the_order_decides_cheapest(checks: Cost, standin: Cost, measure: Cost, cheapest: Order) -> None:
    assert order({CHECKS: checks, STANDIN: standin, MEASURE: measure}, ALL) == cheapest


COSTS = st.builds(Cost, st.integers(ENOUGH, 500), st.integers(0, ENOUGH), st.floats(0.01, 1e5))


@given(COSTS, COSTS, COSTS)
def test_no_order_is_clearly_cheaper(checks: Cost, standin: Cost, measure: Cost) -> None:
    """And it is that of time by rejection share, ascending, where all steps must be passed."""
    costs = {CHECKS: checks, STANDIN: standin, MEASURE: measure}
    chosen = order(costs, ALL)
    assert MEASURE in chosen and CHECKS in chosen
    assert STANDIN not in chosen or chosen.index(STANDIN) < chosen.index(MEASURE)
    two = order(costs, (CHECKS, MEASURE))
    if two != (CHECKS, MEASURE):
        by_ratio = sorted(two, key=lambda step: costs[step].seconds / costs[step].runs / costs[step].share)
        assert list(two) == by_ratio
    possible = [each for each in permutations(ALL) if each.index(STANDIN) < each.index(MEASURE)]
    least = min(expected_seconds(costs, each) for each in [*possible, (CHECKS, MEASURE), (MEASURE, CHECKS)])
    assert expected_seconds(costs, chosen) <= max(least + 1.0, least / 0.9) + 1e-6


def test_without_checks_and_stand_in_there_is_one_order() -> None:
    assert order({MEASURE: cost(300, 0.8)}, (MEASURE,)) == (MEASURE,)


def test_a_share_is_never_certain() -> None:
    assert [Cost().share, Cost(8, 0).share, Cost(8, 8).share] == [0.5, 0.1, 0.9]


@pytest.mark.parametrize(
    ("value", "than", "spread", "worse"),
    [
        ([1.1], [1.0], Spread(), True),
        ([1.0], [1.0], Spread(), False),
        ([0.9], [1.0], Spread(), False),
        ([1.1], [1.0, 1.0], Spread(0.1, 30), False),
        ([1.3], [1.0, 1.0], Spread(0.1, 30), True),
        ([1.3], [1.0, 1.0], Spread(0.1, 1), False),
        ([1.3, 1.3], [1.0, 1.0], Spread(0.1, 30), True),
    ],
)
def test_clearly_worse(value: list[float], than: list[float], spread: Spread, worse: bool) -> None:
    assert clearly_worse(value, than, spread, Direction.MINIMIZE) is worse
    mirrored = [-each for each in value], [-each for each in than]
    assert clearly_worse(*mirrored, spread, Direction.MAXIMIZE) is worse


def test_hardly_a_candidate_that_is_equal_is_clearly_worse() -> None:
    random, wrong = Random(1), 0
    for _ in range(2000):
        base = [random.gauss(0, 1) for _ in range(6)]
        spread = Spread(statistics.stdev(base), 5)
        wrong += clearly_worse([random.gauss(0, 1)], base, spread, Direction.MINIMIZE)
    assert wrong / 2000 < 0.04


def test_the_spread_is_pooled_over_trees() -> None:
    gauge = Gauge("--screen", pools={"a": [1.0, 3.0], "b": [10.0, 12.0], "c": [100.0]})
    assert gauge.spread.stdev == pytest.approx(2**0.5) and gauge.spread.dof == 2
    assert Gauge("--screen", pools={"c": [100.0]}).spread == Spread()


@pytest.mark.parametrize(
    ("pairs", "agreement"),
    [
        ([(1, 10), (2, 20), (3, 30)], 1.0),
        ([(1, 30), (2, 20), (3, 10)], -1.0),
        ([(1, 1), (2, 3), (3, 2), (4, 4)], 0.8),
        ([(1, 1), (1, 2), (2, 3)], 0.8660254037844386),
        ([(1, 1), (1, 2), (1, 3)], None),
        ([(1, 1), (2, 2)], None),
    ],
)
def test_rank_agreement(pairs: list[tuple[float, float]], agreement: float | None) -> None:
    assert rank_agreement(pairs) == (None if agreement is None else pytest.approx(agreement))


@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), min_size=3, max_size=30))
def test_rank_agreement_knows_only_ranks(pairs: list[tuple[float, float]]) -> None:
    agreement = rank_agreement(pairs)
    if agreement is None:
        return
    assert -1 - 1e-9 <= agreement <= 1 + 1e-9
    assert rank_agreement([(right, left) for left, right in pairs]) == pytest.approx(agreement)
    places = {value: place for place, value in enumerate(sorted({left for left, _ in pairs}))}
    assert rank_agreement([(places[left] ** 3, right) for left, right in pairs]) == pytest.approx(agreement)
