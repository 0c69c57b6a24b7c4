"""The plan's texts."""

from __future__ import annotations

import pytest

from autoresearch.config import RunConfig
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.planning import how_read, stop_conditions, unbounded


@pytest.mark.parametrize(
    ("reader", "words"),
    [
        (Reader(ReaderKind.REGEX, r"loss (\S+)"), r"the last match of loss (\S+)"),
        (Reader(ReaderKind.NAME, "val_bpb"), "from the line `val_bpb`"),
        (Reader(ReaderKind.TOOL, "pytest.rate"), "from the summary of pytest"),
        (Reader(ReaderKind.NUMBER), "the only number in the last line that has one"),
        (Reader(ReaderKind.RESOURCE, "wall_seconds"), "of the measurement itself"),
    ],
)
def test_the_reading_rule_is_said_in_words(reader: Reader, words: str) -> None:
    assert how_read(Metric("x", Direction.MINIMIZE, reader)) == words


def test_every_stop_condition_is_named() -> None:
    config = RunConfig(max_trials=5, max_time=3600.0, max_cost=2.5, target=0.5, patience=7)
    assert list(stop_conditions(config)) == [
        "after 5 trials",
        "after 1h 00m",
        "before spending more than $2.5",
        "at 0.5",
        "after 7 trials without a keep",
    ]


def test_no_limit_that_the_user_named_is_a_bound_that_was_named() -> None:
    assert unbounded(RunConfig())
    assert not unbounded(RunConfig(max_cost=float("inf")))
    assert not unbounded(RunConfig(max_trials=1))
