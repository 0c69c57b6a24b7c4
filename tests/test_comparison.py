"""Two trees measured afresh: the interval holds what it says, and the words say it."""

from __future__ import annotations

import json
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.comparison import Comparison, compare
from autoresearch.noise import Noise

NOISY = Noise(1.0, 10)
VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)


def test_the_words_of_a_noisy_metric() -> None:
    found = compare([0.998, 0.999, 0.997, 0.998, 0.998], [0.872, 0.873, 0.871, 0.872, 0.872], NOISY)
    assert found.words == "0.998 -> 0.872 (improvement: -12.6%, 95% interval -12.7% to -12.5%, n = 5 + 5)"


def test_welch_by_hand() -> None:
    """Variances 10 and 2.5 of 5 values each: error sqrt(2.5), 5.88 degrees of freedom, which count as 5."""
    found = compare([10, 12, 14, 16, 18], [1, 2, 3, 4, 5], NOISY)
    reach = 2.570582 * math.sqrt(2.5)
    assert found.interval == pytest.approx((-11 - reach, -11 + reach), rel=1e-4)


@pytest.mark.parametrize(
    ("baseline", "best", "noise", "words"),
    [
        ([100.0] * 5, [97.0] * 5, Noise(), "100 -> 97 (improvement: -3.0%, exact, n = 5 + 5)"),
        ([0.0] * 2, [3.0] * 2, Noise(), "0 -> 3 (improvement: +3, exact, n = 2 + 2)"),
        ([4.0], [2.0], NOISY, "4 -> 2 (improvement: -50.0%, too few values for an interval, n = 1 + 1)"),
        ([4.0, 4.0], [2.0, 2.0], NOISY, "4 -> 2 (improvement: -50.0%, 95% interval -105.7% to +5.7%, n = 2 + 2)"),
        (
            [4.0, 6.0],
            [2.0, 2.0],
            Noise(),
            "5 -> 2 (improvement: -60.0%, 95% interval -314.1% to +194.1%, n = 2 + 2)",
        ),
    ],
)
def test_what_is_said(baseline: list[float], best: list[float], noise: Noise, words: str) -> None:
    assert compare(baseline, best, noise).words == words


@given(VALUES, VALUES, st.sampled_from([Noise(), NOISY, Noise(1.0, 0)]))
def test_the_interval_holds_the_difference_and_survives_json(a: list[float], b: list[float], noise: Noise) -> None:
    found = compare(a, b, noise)
    assert found.interval is None or found.interval[0] <= found.difference <= found.interval[1]
    assert Comparison.from_row(json.loads(json.dumps(found.to_row()))) == found
    assert "nan" not in found.words


def test_the_interval_holds_the_true_gain_as_often_as_it_says() -> None:
    """Equal and unequal spreads; of 1000 intervals of 95%, 30 to 70 miss."""
    random, missed = Random(1), 0
    for number in range(1000):
        spread = 1.0 if number % 2 else 4.0
        baseline = [random.gauss(10, 1) for _ in range(5)]
        low, high = compare(baseline, [random.gauss(8, spread) for _ in range(5)], NOISY).interval or (0.0, 0.0)
        missed += not low <= -2 <= high
    assert 30 <= missed <= 70
