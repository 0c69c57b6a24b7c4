from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch import results
from autoresearch.trial import Outcome, Reason, Trial, Usage

KEEP = Trial(
    3,
    Outcome.KEEP,
    Reason.IMPROVED,
    "increase LR\tto\n0.04",
    parent=0,
    commit="a1b2c3d4e5f6",
    value=0.1 + 0.2,
    delta=0.005,
    n=3,
    stdev=0.001,
    added=2,
    removed=1,
    seconds=915.25,
    usage=Usage(input=1000, cached=600, output=50, cost_usd=0.012),
    model="claude-opus-5-5",
    worker=4,
    memory_gb=44.04,
)


def test_columns_are_those_of_the_contract() -> None:
    assert " ".join(results.header("val_bpb")) == (
        "commit val_bpb status description memory_gb reason trial parent worker delta n stdev lines seconds tokens usd "
        "model"
    )
    assert results.header("")[1] == "metric"
    assert results.header("p99\tms")[1] == "p99 ms"


def test_a_keep() -> None:
    assert results.lines([results.row(KEEP)]) == (
        "a1b2c3d\t0.30000000000000004\tkeep\tincrease LR to 0.04\t44.0\timproved\t3\t0\t4\t0.005\t3\t0.001\t+2-1"
        "\t915.25\t1050\t0.012\tclaude-opus-5-5\r\n"
    )


def cells(trial: Trial) -> dict[str, str]:
    return dict(zip(results.header("metric"), results.row(trial), strict=True))


def test_a_crash_has_err_even_where_a_value_is_known() -> None:
    crash = Trial(1, Outcome.CRASH, Reason.DUPLICATE, "again", parent=0, value=0.0, n=0)
    assert cells(crash)["metric"] == "ERR"
    assert cells(crash)["commit"] == "-"
    assert cells(crash)["memory_gb"] == ""


def test_nothing_measured_and_no_crash_is_empty() -> None:
    assert cells(Trial(1, Outcome.DISCARD, Reason.CONFLICT, "late", parent=0))["metric"] == ""


def test_a_proposal_without_a_hypothesis_is_described_by_what_was_wrong_with_it() -> None:
    crash = Trial(1, Outcome.CRASH, Reason.PROPOSER_FAILED, "", parent=0, note="the agent changed nothing")
    assert cells(crash)["description"] == "the agent changed nothing"


def test_the_baseline_is_called_so() -> None:
    baseline = Trial(0, Outcome.KEEP, Reason.BASELINE, "", value=93, n=3, stdev=0.0)
    row = cells(baseline)
    assert (row["description"], row["metric"], row["parent"], row["worker"]) == ("baseline", "93.0", "", "")


@given(hypothesis=st.text(st.characters(), max_size=80), model=st.text(st.characters(), max_size=20))
def test_any_text_stays_one_row_and_one_cell(hypothesis: str, model: str) -> None:
    trial = Trial(1, Outcome.DISCARD, Reason.WORSE, hypothesis, parent=0, value=1.5, model=model)
    text = results.lines([results.row(trial)]).encode().decode()
    assert text.count("\n") == 1
    (row,) = csv.reader(io.StringIO(text, newline=""), dialect="excel-tab")
    assert row == results.row(trial)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_digit_of_a_number_is_lost(value: float) -> None:
    assert float(cells(Trial(1, Outcome.DISCARD, Reason.WORSE, "x", value=value))["metric"]) == value


@pytest.mark.parametrize("value", [-0.0, 0.0])
def test_zero_has_no_sign(value: float) -> None:
    assert cells(Trial(1, Outcome.DISCARD, Reason.EQUAL, "x", value=1.0, delta=value))["delta"] == "0.0"
