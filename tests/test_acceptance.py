"""The decision rules as tables of numbers, and their laws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.acceptance import (
    Decision,
    Evidence,
    Rule,
    Verdict,
    judge,
    measure,
    min_gain,
    screen,
    smallest_gains,
)
from autoresearch.distributions import student_t_quantile
from autoresearch.metric import Direction
from autoresearch.noise import Noise
from autoresearch.trial import Reason, mean

DOWN = Rule(Direction.MINIMIZE)
EXACT = Noise()
NOISY = Noise(stdev=1.0, dof=8)


@pytest.mark.parametrize(
    ("probability", "dof", "expected"),
    [(0.975, 3, 3.182), (0.99, 5, 3.365), (0.995, 4, 4.604), (0.95, 1, 6.314), (0.975, 2, 4.303), (0.9, 100, 1.290)],
)
def test_quantiles_of_students_t_agree_with_the_tables(probability: float, dof: int, expected: float) -> None:
    assert student_t_quantile(probability, dof) == pytest.approx(expected, abs=2e-3)


def test_no_repetition_gives_no_confidence() -> None:
    assert student_t_quantile(0.99, 0) == math.inf


def test_pooling_groups_is_the_textbook_estimate() -> None:
    noise = Noise().with_group([1.0, 3.0]).with_group([10.0, 10.0, 13.0])
    assert noise.dof == 3
    assert noise.stdev == pytest.approx(math.sqrt((2 + 6) / 3))


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5), max_size=5))
def test_noise_is_zero_exactly_where_all_repetitions_agree(groups: list[list[float]]) -> None:
    noise = Noise()
    for group in groups:
        noise = noise.with_group(group)
    agree = all(len(set(group)) == 1 for group in groups)
    assert noise.deterministic == agree or noise.stdev < 1e-150


@pytest.mark.parametrize(
    ("value", "lines", "noise", "expected"),
    [
        (9.0, 3, EXACT, Decision.MEASURE),
        (10.0, 3, EXACT, Reason.EQUAL),
        (10.0, -1, EXACT, Decision.MEASURE),
        (11.0, -5, EXACT, Reason.WORSE),
        (9.5, 0, NOISY, Reason.EQUAL),
        (8.9, 0, NOISY, Decision.MEASURE),
        (10.5, -2, NOISY, Decision.MEASURE),
        (11.5, -2, NOISY, Reason.WORSE),
    ],
)
def test_a_screen_passes_what_is_better_by_one_deviation(
    value: float, lines: int, noise: Noise, expected: object
) -> None:
    verdict = screen(value, [10.0, 10.0], lines, noise, DOWN)
    assert expected in (verdict.decision, verdict.reason)


def test_a_deterministic_keep_needs_two_equal_values() -> None:
    first = judge(Evidence(9.0, (), [10.0] * 3), EXACT, DOWN)
    assert (first.decision, first.candidate_runs) == (Decision.MEASURE, 1)
    assert judge(Evidence(9.0, (9.0,), [10.0] * 3), EXACT, DOWN).reason is Reason.IMPROVED
    assert judge(Evidence(10.0, (10.0,), [10.0] * 3, lines=-1), EXACT, DOWN).reason is Reason.SIMPLIFIED
    assert judge(Evidence(None, (9.0,), [10.0] * 3), EXACT, DOWN).candidate_runs == 1


def test_a_noisy_keep_needs_fresh_runs_and_a_full_pool() -> None:
    verdict = judge(Evidence(1.0, (), [10.0] * 3), NOISY, DOWN)
    assert (verdict.candidate_runs, verdict.incumbent_runs) == (2, 1)


def test_the_lucky_screen_is_no_evidence() -> None:
    verdict = judge(Evidence(-100.0, (10.2, 10.1), [10.0] * 4), NOISY, DOWN)
    assert verdict.reason is Reason.UNCONFIRMED


def test_a_large_gain_is_kept_early_and_a_small_one_measured_on() -> None:
    assert judge(Evidence(5.0, (4.0, 4.2), [10.0] * 4), NOISY, DOWN).reason is Reason.IMPROVED
    assert judge(Evidence(8.0, (7.8, 8.0), [10.0] * 4), NOISY, DOWN).candidate_runs == 1
    assert judge(Evidence(8.0, (8.8, 9.4), [10.0] * 4), NOISY, DOWN).reason is Reason.UNCONFIRMED


def test_repeats_asks_for_exactly_that_many() -> None:
    rule = Rule(Direction.MINIMIZE, repeats=5)
    assert judge(Evidence(5.0, (), [10.0] * 5), NOISY, rule).candidate_runs == 5
    assert judge(Evidence(5.0, (4.0,) * 5, [10.0] * 5), NOISY, rule).reason is Reason.IMPROVED
    assert judge(Evidence(9.9, (), [10.0]), EXACT, Rule(Direction.MINIMIZE, repeats=1)).reason is Reason.IMPROVED


def test_less_than_the_minimum_with_more_lines_is_not_kept() -> None:
    rule = Rule(Direction.MINIMIZE, min_gain=0.5)
    assert screen(9.8, [10.0], 2, EXACT, rule).decision is Decision.DISCARD
    assert screen(9.8, [10.0], 0, EXACT, rule).decision is Decision.MEASURE


def test_the_minimum_gain_may_be_a_share_of_the_incumbent() -> None:
    assert min_gain("0.5%", -200.0) == pytest.approx(1.0)
    assert min_gain("0.25", 7.0) == 0.25


@given(st.floats(0.0, 100.0), st.floats(0.01, 10.0), st.integers(2, 30))
def test_maximizing_is_minimizing_mirrored(gain: float, stdev: float, dof: int) -> None:
    noise = Noise(stdev, dof)
    up = judge(Evidence(gain, (gain,) * 4, [0.0] * 4), noise, Rule(Direction.MAXIMIZE))
    down = judge(Evidence(-gain, (-gain,) * 4, [0.0] * 4), noise, DOWN)
    assert up == down


Draw = Callable[[Random], float]


def gauss(random: Random) -> float:
    return random.gauss(0.0, 1.0)


def heavy(random: Random) -> float:
    """Student's t with three degrees of freedom."""
    return random.gauss(0, 1) / math.sqrt(random.gammavariate(1.5, 2.0) / 3)


def high_tail(random: Random) -> float:
    return random.expovariate(1.0)


def low_tail(random: Random) -> float:
    return -random.expovariate(1.0)


def failed(random: Random) -> float:
    """How many of twenty tests fail."""
    return float(sum(random.random() < 0.1 for _ in range(20)))


def flaky(random: Random) -> float:
    """The same number, but for one time in seven."""
    return 10.0 if random.random() < 6 / 7 else 8.0


def confirm(
    random: Random, draw: Draw, rule: Rule, *, paired: bool, gain: float = 0.0, lines: int = 0
) -> tuple[Verdict, float]:
    """A confirmation without a screen, from a baseline of eight values on: the verdict, and the gain that it stores."""
    pool, fresh, beside = [draw(random) for _ in range(8)], list[float](), list[float]()
    noise, of_pairs = Noise().with_group(pool), Noise()
    while True:
        gains = [before - after for before, after in zip(beside, fresh, strict=True)] if paired else None
        known = noise.of_differences(of_pairs) if paired else noise
        verdict = judge(Evidence(None, fresh, pool, lines, pairs=gains), known, rule)
        if verdict.decision is not Decision.MEASURE:
            return verdict, mean(beside if paired else pool) - mean(fresh or pool)
        for _ in range(verdict.candidate_runs):
            after = draw(random) - gain
            if paired:
                before = draw(random)
                gains = [one - other for one, other in zip(beside, fresh, strict=True)]
                of_pairs = of_pairs.with_value(gains, before - after)
                beside.append(before)
            else:
                noise = noise.with_value(fresh, after)
            fresh.append(after)
        for _ in range(verdict.incumbent_runs):
            pool.append(draw(random))
            noise = noise.with_value(pool[:-1], pool[-1])


def kept_of(times: int, draw: Draw, rule: Rule = DOWN, **changes: Any) -> list[float]:
    """The stored gains of those of so many candidates that are kept."""
    random = Random(7)
    ends = [confirm(random, draw, rule, **changes) for _ in range(times)]
    return [gain for verdict, gain in ends if verdict.decision is Decision.KEEP]


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("draw", [gauss, heavy, high_tail, low_tail, failed, flaky])
def test_no_op_candidates_are_kept_no_oftener_than_the_confidence_allows(draw: Draw, paired: bool) -> None:
    assert len(kept_of(1000, draw, paired=paired)) <= 10 + 2 * math.sqrt(10)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(("confidence", "allowed"), [(0.9, 100), (0.999, 1)])
def test_the_whole_test_holds_the_confidence_that_was_asked_for(confidence: float, allowed: int, paired: bool) -> None:
    rule = Rule(Direction.MINIMIZE, confidence)
    assert len(kept_of(1000, gauss, rule, paired=paired)) <= allowed + 2 * math.sqrt(allowed)


@pytest.mark.parametrize(("draw", "stdev"), [(gauss, 1.0), (heavy, math.sqrt(3))])
def test_clear_gains_are_kept_and_stored_as_what_they_are(draw: Draw, stdev: float) -> None:
    """Three deviations are found, and what is stored for two and for three is not the luck of the few."""
    for gain, power in ((2.0, 0.4), (3.0, 0.85)):
        stored = kept_of(400, draw, paired=False, gain=gain * stdev)
        assert len(stored) >= power * 400
        assert abs(mean(stored) / stdev - gain) <= 0.3


def test_fewer_lines_are_kept_where_they_cost_nothing_and_seldom_where_they_cost_a_deviation() -> None:
    for paired in (False, True):
        assert len(kept_of(300, gauss, paired=paired, lines=-2)) >= 0.3 * 300
        assert len(kept_of(300, gauss, paired=paired, lines=-2, gain=-1.0)) <= 15 + 2 * math.sqrt(15)


def test_an_implausible_gain_needs_three_equal_values_where_the_metric_is_deterministic() -> None:
    second = Evidence(0.0, (0.0,), [10.0] * 3, implausible=True)
    assert (judge(second, EXACT, DOWN).decision, judge(second, EXACT, DOWN).candidate_runs) == (Decision.MEASURE, 1)
    assert judge(replace(second, fresh=(0.0, 0.0)), EXACT, DOWN).reason is Reason.IMPROVED
    assert judge(replace(second, screen=None, fresh=(0.0, 0.0)), EXACT, DOWN).decision is Decision.MEASURE


@pytest.mark.parametrize("repeats", [2, 5, 20])
def test_so_many_repeats_decide_at_once_and_hold_the_confidence(repeats: int) -> None:
    rule = Rule(Direction.MINIMIZE, repeats=repeats)
    before = Evidence(1.0, (0.0,) * (repeats - 1), [10.0])
    assert judge(before, NOISY, rule) == measure(1)
    assert judge(replace(before, fresh=(0.0,) * repeats), NOISY, rule).reason is Reason.IMPROVED
    assert len(kept_of(500, gauss, rule, paired=False)) <= 5 + 2 * math.sqrt(5)


def test_pairs_need_no_pool() -> None:
    assert judge(Evidence(5.0, (), [10.0], pairs=()), NOISY, DOWN) == measure(2)
    assert judge(Evidence(5.0, (1.0, 1.0), [10.0], pairs=(9.0, 9.0)), NOISY, DOWN).reason is Reason.IMPROVED


@given(st.integers(2, 60), st.floats(0.5, 0.999), st.booleans())
def test_more_measurements_tell_a_smaller_gain(dof: int, confidence: float, paired: bool) -> None:
    rows = smallest_gains(Noise(1.0, dof), confidence, paired=paired)
    assert rows == sorted(rows) and [gain for _, gain in rows] == sorted((gain for _, gain in rows), reverse=True)


def test_repeats_tell_one_gain_in_that_many_runs_of_each() -> None:
    ((few, large),) = smallest_gains(Noise(1.0, 2), 0.99, paired=False, repeats=2)
    ((many, small),) = smallest_gains(Noise(1.0, 2), 0.99, paired=False, repeats=5)
    assert (few, many) == (4, 10) and small < large


def test_one_repeat_decides_a_combination_by_its_one_fresh_run() -> None:
    """It was never screened, and nothing was repeated: there is no spread to judge by."""
    rule = Rule(Direction.MINIMIZE, repeats=1)
    assert judge(Evidence(None, [], [10.0]), EXACT, rule).decision is Decision.MEASURE
    assert judge(Evidence(None, [9.0], [10.0], lines=1), EXACT, rule).reason is Reason.IMPROVED
    assert judge(Evidence(None, [11.0], [10.0], lines=1), EXACT, rule).decision is Decision.DISCARD


def test_the_lowest_confidence_asks_for_a_gain_and_no_more() -> None:
    rule = Rule(Direction.MINIMIZE, confidence=0.5, repeats=3)
    assert judge(Evidence(9.0, [9.9, 9.9, 9.9], [10.0]), NOISY, rule).reason is Reason.IMPROVED
