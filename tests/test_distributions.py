"""Quantiles and tails beside tables that SciPy gave, and what holds of them everywhere."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.distributions import beta_quantile, f_tail, incomplete_beta, share_interval, student_t_quantile

DOFS = st.integers(1, 500)


@pytest.mark.parametrize(
    ("probability", "dof", "expected"),
    [
        (0.9999, 2, 70.700071),
        (0.9975, 6, 4.316827),
        (0.99976, 8, 5.652555),
        (0.9976, 15, 3.305949),
        (0.997, 3, 6.994391),
        (0.999, 1, 318.308839),
        (0.995, 30, 2.749996),
        (0.95, 200, 1.652508),
        (0.999999, 5, 24.77103),
    ],
)
def test_quantiles_of_students_t(probability: float, dof: int, expected: float) -> None:
    assert student_t_quantile(probability, dof) == pytest.approx(expected, rel=1e-3)


@given(st.floats(0.5, 0.9999), DOFS)
def test_students_t_is_f_with_one_degree_of_freedom(probability: float, dof: int) -> None:
    quantile = student_t_quantile(probability, dof)
    assert f_tail(quantile**2, 1, dof) / 2 == pytest.approx(1 - probability, rel=2e-2, abs=1e-9)


@pytest.mark.parametrize("probability", [0.0, 0.49, 1.0, math.nan])
def test_a_quantile_below_the_middle_or_without_an_end_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        student_t_quantile(probability, 3)


@pytest.mark.parametrize(
    ("ratio", "dof", "dof_below", "expected"),
    [
        (1.0, 1, 1, 0.5),
        (4.0, 3, 10, 0.04134768103608254),
        (2.5, 7, 40, 0.03142461579108731),
        (10.0, 7, 40, 3.748443869040371e-07),
        (0.3, 2, 5, 0.7532774095368846),
        (6.0, 1, 392, 0.014742653510817258),
        (3.9, 15, 380, 1.572951023358276e-06),
        (0.0, 3, 3, 1.0),
        (math.inf, 3, 3, 0.0),
    ],
)
def test_tails_of_f(ratio: float, dof: int, dof_below: int, expected: float) -> None:
    assert f_tail(ratio, dof, dof_below) == pytest.approx(expected, rel=1e-8)


@given(st.floats(0, 1e9), st.floats(0, 1e9), DOFS, DOFS)
def test_the_tail_of_f_is_a_probability_and_falls_with_the_ratio(one: float, other: float, a: int, b: int) -> None:
    low, high = sorted((one, other))
    assert 0.0 <= f_tail(high, a, b) <= f_tail(low, a, b) + 1e-12 <= 1.0 + 1e-12


@pytest.mark.parametrize(
    ("a", "b", "x", "expected"),
    [
        (0.5, 0.5, 0.25, 1 / 3),
        (2, 3, 0.4, 0.5248),
        (100, 150, 0.41, 0.6293656652930651),
        (1, 9, 0.05, 0.36975059027539064),
        (200, 0.5, 0.995, 0.15703865369788875),
    ],
)
def test_the_incomplete_beta_function(a: float, b: float, x: float, expected: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(expected, rel=1e-10)
    assert incomplete_beta(b, a, 1 - x) == pytest.approx(1 - expected, rel=1e-10)
    assert beta_quantile(expected, a, b) == pytest.approx(x, rel=1e-8)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 10, 0.0, 0.3084971078187607),
        (10, 10, 0.6915028921812392, 1.0),
        (3, 20, 0.032070937185463715, 0.37892682654531396),
        (5, 2000, 0.0008122259751939098, 0.005824445334518517),
    ],
)
def test_the_interval_of_a_share(hits: int, of: int, low: float, high: float) -> None:
    assert share_interval(hits, of) == pytest.approx((low, high), rel=1e-6)


@given(st.integers(0, 60), st.integers(1, 60))
def test_the_interval_holds_the_share_and_shrinks_with_more_of_it(hits: int, of: int) -> None:
    hits = min(hits, of)
    low, high = share_interval(hits, of)
    assert low <= hits / of <= high
    low_of_more, high_of_more = share_interval(4 * hits, 4 * of)
    assert high_of_more - low_of_more < high - low
    wider = share_interval(hits, of, 0.99)
    assert wider[0] <= low and high <= wider[1]
