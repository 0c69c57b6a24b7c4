"""The plan's texts."""

from __future__ import annotations

import pytest

from autoresearch.config import RunConfig
from autoresearch.dealing import Clocking
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.planning import about_time, clock_note, cpu, deciding, gates, how_read, stop_conditions, unbounded


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


def test_what_a_candidate_passes_is_named() -> None:
    config = RunConfig(check=("a", "b"), constraint=("x <= 1",), screen="quick", holdout="hidden")
    assert [label for label, _ in gates(config)] == ["Checks", "Constraints", "Stand-in", "Holdout"]
    assert dict(gates(config))["Checks"] == "a; b"
    assert not list(gates(RunConfig()))


def test_what_was_asked_of_a_keep_is_named() -> None:
    config = RunConfig(confidence=0.9, repeats=2, min_gain="1%", exclusive="on")
    asked = "confidence 0.9, exactly 2 times measured afresh, at least 1% better, or shorter, one measurement at a time"
    assert list(deciding(config)) == [("A keep", asked)]
    assert not list(deciding(RunConfig()))


def test_no_limit_that_the_user_named_is_a_bound_that_was_named() -> None:
    assert unbounded(RunConfig())
    assert not unbounded(RunConfig(max_cost=float("inf")))
    assert not unbounded(RunConfig(max_trials=1))


@pytest.mark.parametrize(
    ("clocking", "row", "note"),
    [
        (Clocking(), "governor not known, turbo not known, SMT not known", ""),
        (Clocking("performance", False, True), "governor performance, turbo off, SMT on", ""),
        (Clocking("powersave", False, False), "governor powersave, turbo off, SMT off", "the governor is powersave"),
        (Clocking("performance", True), "governor performance, turbo on, SMT not known", "(turbo is on)"),
        (Clocking(None, True), "governor not known, turbo on, SMT not known", "(turbo is on)"),
    ],
)
def test_what_makes_timings_vary_is_named(clocking: Clocking, row: str, note: str) -> None:
    assert cpu(clocking) == row
    assert note in "".join(clock_note(clocking, timed=True))
    assert bool(list(clock_note(clocking, timed=True))) == bool(note)
    assert not list(clock_note(clocking, timed=False))


def test_a_metric_is_about_time_by_its_name_or_the_objective() -> None:
    wall = Metric("wall_seconds", Direction.MINIMIZE, Reader(ReaderKind.RESOURCE, "wall_seconds"))
    loss = Metric("loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "loss"))
    assert about_time(wall, "improve it") and about_time(loss, "make training faster") and about_time(None, "runtime")
    assert not about_time(loss, "lower the loss") and not about_time(None, "")
