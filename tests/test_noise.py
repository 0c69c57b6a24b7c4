"""How noisy a metric is and what disturbs it: seldom an alarm where nothing does, always one where it is clear."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.noise import Fresh, Kind, Load, Noise, Picture, beyond_use, drifts, load_matters, slots_differ

VALUES = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8)
Draw = Callable[[Random], float]


def gauss(random: Random) -> float:
    return random.gauss(0.0, 1.0)


def heavy(random: Random) -> float:
    """Student's t with three degrees of freedom."""
    return random.gauss(0, 1) / math.sqrt(random.gammavariate(1.5, 2.0) / 3)


def skewed(random: Random) -> float:
    return random.expovariate(1.0)


def passed(random: Random) -> float:
    """How many of twenty tests pass."""
    return float(sum(random.random() < 0.9 for _ in range(20)))


DRAWS = pytest.mark.parametrize("draw", [gauss, heavy, skewed, passed])


@given(st.lists(VALUES, max_size=4))
def test_one_value_after_the_other_is_the_whole_group(groups: list[list[float]]) -> None:
    whole, growing = Noise(), Noise()
    for group in groups:
        whole = whole.with_group(group)
        for place, value in enumerate(group):
            growing = growing.with_value(group[:place], value)
    assert growing.dof == whole.dof
    assert growing.stdev == pytest.approx(whole.stdev, rel=1e-6, abs=1e-7)


def test_differences_of_pairs_take_the_spread_of_single_values_in_until_they_are_many() -> None:
    single = Noise(1.0, 4)
    assert single.of_differences(Noise()) == Noise(math.sqrt(2), 4)
    assert single.of_differences(Noise(0.5, 2)).stdev == pytest.approx(math.sqrt((2 * 0.25 + 4 * 2) / 6))
    assert single.of_differences(Noise(0.5, 6)) == Noise(0.5, 6)


def test_equal_differences_of_pairs_are_not_without_noise() -> None:
    """Counts that go up by one in each of six pairs: two single values still differ."""
    assert Noise(1.0, 4).of_differences(Noise(0.0, 6)).stdev > 0.5


def measured(random: Random, draw: Draw, *, shift: float = 0.0, slope: float = 0.0) -> list[Fresh]:
    """Forty values of an incumbent and of four candidates, dealt over eight slots."""
    rows = []
    for place in range(40):
        slot, tree = random.randrange(8), "tip" if random.random() < 0.5 else f"tree {place // 10}"
        rows.append(Fresh(tree, slot, draw(random) + shift * (slot == 0) + slope * place))
    return rows


def alarms(look: Callable[[list[Fresh]], bool], draw: Draw, times: int, **changes: float) -> int:
    random = Random(5)
    return sum(look(measured(random, draw, **changes)) for _ in range(times))


@DRAWS
def test_slots_that_do_not_differ_seldom_alarm(draw: Draw) -> None:
    assert alarms(slots_differ, draw, 600) <= 3


@DRAWS
def test_values_that_do_not_drift_seldom_alarm(draw: Draw) -> None:
    assert alarms(drifts, draw, 1000) <= 4


def test_a_slot_that_is_clearly_apart_and_a_clear_drift_alarm() -> None:
    assert alarms(slots_differ, gauss, 50, shift=6.0) >= 45
    assert alarms(drifts, gauss, 50, slope=0.3) >= 45


def test_slots_without_noise_that_give_other_values_differ() -> None:
    assert slots_differ([Fresh("tip", slot, float(slot)) for slot in (0, 1, 0, 1, 0, 1)])
    assert not slots_differ([Fresh("tip", slot, 0.1) for slot in (0, 1, 0, 1, 0, 1)])


def test_too_few_values_say_nothing() -> None:
    assert not slots_differ([])
    assert not slots_differ([Fresh("tip", slot, 10.0 * slot) for slot in range(8)])
    assert not slots_differ([Fresh("tip", 0, float(place)) for place in range(20)])
    assert not drifts([Fresh("tip", 0, float(place)) for place in range(7)])
    assert not drifts([Fresh("tip", 0, 1.0)] * 20)


def test_a_step_between_trees_is_no_drift() -> None:
    random = Random(3)
    trees = [Fresh(f"tree {place // 8}", 0, 100 * (place // 8) + random.gauss(0, 1)) for place in range(64)]
    assert not drifts(trees)


def test_load_that_changes_nothing_seldom_matters() -> None:
    random, found = Random(9), 0
    for _ in range(1500):
        found += load_matters([random.gauss(5, 1) for _ in range(2)], [random.gauss(5, 1) for _ in range(8)])
    assert found <= 1500 * 0.01 * 1.5


def test_load_matters_where_it_clearly_changes_the_value() -> None:
    assert load_matters([10.0, 10.1], [14.0, 14.2, 13.9, 14.1])
    assert load_matters([10.0, 10.0], [14.0, 14.0, 14.0])
    assert not load_matters([10.0], [14.0, 14.2, 13.9])
    assert not load_matters([10.0, 10.0], [10.0, 10.0])


@pytest.mark.parametrize(
    ("alone", "loaded", "slots", "expected"),
    [
        (Noise(1.0, 3), Noise(10.0, 7), 8, True),
        (Noise(1.0, 3), Noise(5.0, 7), 8, False),
        (Noise(0.0, 3), Noise(1.0, 7), 8, True),
        (Noise(0.0, 3), Noise(0.0, 7), 8, False),
        (Noise(1.0, 0), Noise(100.0, 7), 8, False),
        (Noise(1.0, 3), Noise(100.0, 1), 8, False),
    ],
)
def test_others_are_stopped_where_one_at_a_time_tells_far_more(
    alone: Noise, loaded: Noise, slots: int, expected: bool
) -> None:
    assert beyond_use(Load(alone, 10.0, loaded, 10.0), slots) is expected


def test_measurements_that_load_makes_slow_are_worth_less() -> None:
    assert not beyond_use(Load(Noise(1.0, 3), 10.0, Noise(5.0, 7), 10.0), 8)
    assert beyond_use(Load(Noise(1.0, 3), 10.0, Noise(5.0, 7), 40.0), 8)


def test_what_is_said_of_noise() -> None:
    assert Picture(Kind.DETERMINISTIC, 1.0, Noise(0.0, 2)).words == "none in 3 measurements: deterministic so far"
    assert Picture(Kind.DETERMINISTIC, 1.0, Noise()).words == "not known: nothing was measured twice"
    one = Picture(Kind.NOISY, 1.0, Noise(0.5, 1), smallest=[(4, 3.5)]).words
    assert one == "noisy, standard deviation 0.5 (1 degree of freedom); a gain of 3.5 shows in 4 measurements"
