"""Bounds on secondary metrics: read, worked out, and held against what a measurement names."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.constraints import numbers, parse, read
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.trial import Measurement


@pytest.mark.parametrize(
    ("text", "name", "bound"),
    [
        ("peak_vram_mb <= 46000", "peak_vram_mb", 46000.0),
        ("p99_ms <= baseline * 1.05", "p99_ms", 10.5),
        ("p99-ms<=1.05*Baseline", "p99-ms", 10.5),
        ("Peak VRAM < 1.5 MB", "Peak VRAM", 1.5e6),
        ("latency <= 12ms", "latency", 0.012),
        ("x >= -(baseline - 4) / 3 + 1", "x", -1.0),
        ("x > 2 - 3 - 4", "x", -5.0),
        ("x > 12 / 3 / 2", "x", 2.0),
        ("x > 2 + 3 * 4", "x", 14.0),
        ("x != 1e-3", "x", 1e-3),
        ("loss/val == .5", "loss/val", 0.5),
        ("x < 1_000", "x", 1000.0),
        ("x < 3 * -2", "x", -6.0),
    ],
)
def test_what_a_bound_comes_to(text: str, name: str, bound: float) -> None:
    constraint = parse(text)
    assert constraint.name == name
    assert constraint.bound(10.0) == pytest.approx(bound)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("peak", "is not a bound on a number"),
        ("peak = 3", "is not a bound on a number"),
        ("a < b < c", "is not a bound on a number"),
        ("3 <= peak", "does not begin with the name of a number"),
        ("baseline <= 3", "does not begin with the name of a number"),
        ("x <= y", "`y` is neither a number nor `baseline`"),
        ("x <= 2 baseline", "`2 baseline` is neither a number nor `baseline`"),
        ("x <= baseline + 5%", "`%` is not expected there"),
        ("x <= ", "it ends too early"),
        ("x <= (3", "a `(` is not closed"),
        ("x <= 3)", "`)` is not expected there"),
        ("x <= __import__('os')", "`__import__` is neither a number nor"),
        ("x <= " + "(" * 300, "is not a bound on a number"),
    ],
)
def test_what_is_no_constraint(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 250 and "\n" not in str(caught.value)


@given(st.text(alphabet="xy<>=!()+-*/. 1e9_%b", max_size=30))
def test_any_text_is_a_constraint_or_says_why_not(text: str) -> None:
    try:
        constraint = parse(text)
    except ValueError:
        return
    assert isinstance(constraint.bound(3.0), float)
    assert parse(constraint.text) == constraint


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.sampled_from(["<=", ">=", "<", ">", "==", "!="]))
def test_a_bound_holds_or_is_exceeded(value: float, baseline: float, comparison: str) -> None:
    constraint = parse(f"x {comparison} baseline")
    assert constraint.holds(value, baseline) == eval(f"{value!r} {comparison} {baseline!r}")
    if constraint.holds(value, baseline):
        assert constraint.excess(value, baseline) == 0.0


def test_what_is_not_finite_keeps_no_bound() -> None:
    assert not parse("x <= 1").holds(-math.inf, 0.0)
    assert not parse("x != 1").holds(math.nan, 0.0)
    assert math.isnan(parse("x <= 1 / (baseline - 2)").bound(2.0))
    assert not parse("x <= 1 / (baseline - 2)").holds(0.0, 2.0)


def test_names_are_found_as_the_metric_is() -> None:
    loss = Metric("val loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "val loss"))
    measured = Measurement(0.5, wall_seconds=2.0, peak_bytes=3 << 20, extra={"Peak-VRAM MB": 7.0})
    found = numbers(measured, loss)
    wanted = {"peak_vram_mb": 7.0, "val_loss": 0.5, "wall_seconds": 2.0, "Peak RSS MB": 3.0, "cpu-seconds": 0.0}
    assert {name: found[parse(f"{name} <= 1").key] for name in wanted} == wanted


def test_the_setting_is_read() -> None:
    assert read([" a <= 1 ", "b > 2"]) == ("a <= 1", "b > 2")
    assert read("a <= 1") == ("a <= 1",)
    with pytest.raises(ValueError, match="is neither a text nor a list"):
        read(3)
