from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch import values


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (values.duration, "300", 300.0),
        (values.duration, 300, 300.0),
        (values.duration, "90s", 90.0),
        (values.duration, "5m", 300.0),
        (values.duration, "1h30m", 5400.0),
        (values.duration, " 1.5H ", 5400.0),
        (values.size, "512M", 512 * 2**20),
        (values.size, "2GiB", 2 * 2**30),
        (values.size, "2 GB", 2 * 10**9),
        (values.size, "100B", 100),
        (values.size, 4096, 4096),
        (values.money, "$2.50", 2.5),
        (values.money, 0, 0.0),
        (values.ceiling, "none", math.inf),
        (values.gain, "0.5%", "0.5%"),
        (values.gain, 0.01, "0.01"),
        (values.number, "-1e-3", -0.001),
        (values.whole(1), "8", 8),
        (values.texts, "src/", ("src/",)),
        (values.texts, ["a", "b"], ("a", "b")),
        (values.models, ["opus", "haiku=0.5"], ("opus", "haiku=0.5")),
        (values.proposer, "replay:changes.jsonl", "replay:changes.jsonl"),
        (values.tag, "nov22-2", "nov22-2"),
    ],
)
def test_reads(read: values.Read, value: Any, expected: Any) -> None:
    assert read(value) == expected


@pytest.mark.parametrize(
    ("read", "value", "why"),
    [
        (values.duration, "5x", "not a duration"),
        (values.duration, "1h 30", "not a duration"),
        (values.duration, "0", "not above zero"),
        (values.duration, -3, "not above zero"),
        (values.duration, True, "not a number"),
        (values.duration, "", "not a duration"),
        (values.size, "0", "not above zero"),
        (values.size, "5 elephants", "not a size"),
        (values.size, True, "not a size"),
        (values.money, "none", "not an amount"),
        (values.money, "-1", "not an amount"),
        (values.ceiling, "lots", "not an amount"),
        (values.gain, "-1", "neither a number from 0 on nor a share"),
        (values.gain, "5 %%", "neither a number from 0 on nor a share"),
        (values.number, "nan", "not a number"),
        (values.number, "inf", "not a number"),
        (values.whole(1), "0", "at least 1"),
        (values.whole(1), "1.5", "not a whole number"),
        (values.whole(1), True, "not a whole number"),
        (values.probability, 1, "0.5 <= P < 1"),
        (values.probability, "0.4", "0.5 <= P < 1"),
        (values.text, "  ", "empty"),
        (values.text, 3, "put it in quotes"),
        (values.texts, {"a": 1}, "a table is neither"),
        (values.texts, ["a", ""], "empty"),
        (values.switch, "true", "neither true nor false"),
        (values.models, ["opus=0"], "weight above zero"),
        (values.proposer, "replay:", "replay:FILE"),
        (values.tag, "a/b", "branch name"),
        (values.tag, "-x", "branch name"),
        (values.tag, "a..b", "branch name"),
        (values.tag, "a.lock", "branch name"),
        (values.tag, "a\n", "branch name"),
    ],
)
def test_refuses(read: values.Read, value: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read(value)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(1, 59))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, seconds: int) -> None:
    assert values.duration(f"{hours}h{minutes}m{seconds}s") == 3600 * hours + 60 * minutes + seconds


READERS = [
    *(values.text, values.texts, values.switch, values.number, values.positive, values.probability, values.duration),
    *(values.size, values.money, values.ceiling, values.gain, values.tag, values.proposer, values.models),
    *(values.whole(0), values.choice("on", "off")),
]


@given(
    st.sampled_from(READERS), st.text() | st.booleans() | st.floats() | st.integers() | st.none() | st.lists(st.text())
)
def test_a_reader_answers_or_says_what_is_wrong_and_reads_its_own_answer(read: values.Read, value: Any) -> None:
    try:
        answer = read(value)
    except ValueError as error:
        assert str(error)
    else:
        assert read(answer) == answer
        assert read(values.row_value(answer)) == answer
