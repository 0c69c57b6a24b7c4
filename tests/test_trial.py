"""What a run is made of goes to plain rows and back, and a wrong row is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.trial import Change, Edit, Measurement, Outcome, Reason, Trial, Usage, mean

TEXTS = st.text(st.characters(), max_size=20)
"""Any text, lone surrogates among it: files hold any bytes."""
PATHS = TEXTS.filter(bool)
EDITS = st.one_of(
    st.builds(Edit, PATHS, old=TEXTS, new=TEXTS),
    st.builds(Edit, PATHS, content=TEXTS),
    st.builds(Edit, PATHS, delete=st.just(True)),
)
NUMBERS = st.floats(allow_nan=False)
MEASUREMENTS = st.builds(
    Measurement,
    st.none() | NUMBERS,
    failure=st.none() | st.sampled_from(Reason),
    exit_code=st.none() | st.integers(-64, 255),
    wall_seconds=NUMBERS,
    cpu_seconds=NUMBERS,
    peak_bytes=st.integers(0),
    gpu_peak_bytes=st.integers(0),
    extra=st.dictionaries(TEXTS, NUMBERS, max_size=3),
    stdout=TEXTS,
    tail=TEXTS,
    seconds_total=NUMBERS,
    at_bound=st.booleans(),
)


def stored(row: dict[str, Any]) -> Any:
    return json.loads(json.dumps(row))


@given(st.builds(Change, TEXTS, st.lists(EDITS, max_size=3).map(tuple)))
def test_a_change_comes_back_from_its_row(change: Change) -> None:
    assert Change.from_row(stored(change.to_row())) == change


@given(MEASUREMENTS)
def test_a_measurement_comes_back_from_its_row(measurement: Measurement) -> None:
    assert Measurement.from_row(stored(measurement.to_row())) == measurement


def test_what_a_row_does_not_say_is_the_default() -> None:
    assert Measurement.from_row({"value": 1.5}) == Measurement(1.5)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS, lambda inner: st.lists(inner, max_size=2), max_leaves=3
)
KEYS = st.sampled_from(["path", "old", "new", "content", "delete", "rename"])


@given(st.dictionaries(KEYS, JSON) | JSON)
def test_an_edit_is_one_of_three_forms_and_nothing_else(row: Any) -> None:
    try:
        edit = Edit.from_row(row)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert edit.to_row() == row


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        "a.py",
        {},
        {"path": "a"},
        {"path": "", "content": "x"},
        {"path": 3, "content": "x"},
        {"path": "a", "content": None},
        {"path": "a", "content": b"x"},
        {"path": "a", "old": "1"},
        {"path": "a", "old": "1", "new": None},
        {"path": "a", "delete": False},
        {"path": "a", "delete": 1},
        {"path": "a", "content": "x", "delete": True},
        {"path": "a", "old": "1", "new": "2", "content": "x"},
        {"path": "a", "old": "1", "new": "2", "mode": "x"},
    ],
)
def test_a_wrong_edit_is_refused(row: Any) -> None:
    with pytest.raises(ValueError, match="an edit"):
        Edit.from_row(row)


def test_usage_adds_up() -> None:
    both = Usage(1, 2, 3, 4, 0.5, 6.0) + Usage(10, 20, 30, 40, 0.25, 60.0)
    assert both == Usage(11, 22, 33, 44, 0.75, 66.0)
    assert both.tokens == 55


def test_trial_0_is_the_baseline() -> None:
    assert [Trial(number, Outcome.KEEP, Reason.BASELINE, "h").baseline for number in (0, 1)] == [True, False]


@given(st.floats(-1e300, 1e300), st.integers(1, 50))
def test_the_mean_of_equal_values_is_that_value(value: float, count: int) -> None:
    assert mean([value] * count) == value


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_the_mean_is_the_mean(values: list[float]) -> None:
    assert mean(values) == pytest.approx(sum(values) / len(values), abs=1e-6)
