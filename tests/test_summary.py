from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.record import RunRecord, RunState
from autoresearch.trial import Outcome, Reason, Trial, Usage
from autoresearch.views.summary import render

KEEP = Trial(5, Outcome.KEEP, Reason.IMPROVED, "increase LR to 0.04", commit="a1b2c3d4e5", value=0.993, delta=0.005)
BEST = Trial(40, Outcome.KEEP, Reason.IMPROVED, "deeper", commit="b2c3d4e5f6", value=0.871, delta=0.001)
WORSE = Trial(6, Outcome.DISCARD, Reason.WORSE, "switch to GeLU", value=1.005, delta=-0.012)
CRASH = Trial(7, Outcome.CRASH, Reason.MEMORY, "double the width", value=None)
RECORD = RunRecord(
    tag="mar26",
    run_dir=Path(".autoresearch/mar26"),
    state=RunState.ENDED,
    pid=None,
    stop_reason="--max-trials reached",
    config={"confidence": 0.99},
    metric=Metric("val_bpb", Direction.MINIMIZE, Reader(ReaderKind.NAME, "val_bpb")),
    baseline=Trial(0, Outcome.KEEP, Reason.BASELINE, "baseline", value=0.998),
    best=BEST,
    outcomes={"keep": 12, "discard": 31, "crash": 4},
    deterministic=False,
    confirmed=20,
    top=(KEEP,),
    failed=(WORSE, CRASH),
    usage=Usage(input=1_200_000, cached=1_000_000, output=34_567, cost_usd=1.234),
    began_at=1000.0,
    ended_at=5320.0,
    seconds=4320.0,
    slot_use=0.937,
    slots=8,
)

EXPECTED = """\
=== Autoresearch Summary ===
Branch: autoresearch/mar26
Experiments run: 47
Kept: 12
Discarded: 31
Crashed: 4
Baseline metric: 0.998
Best metric: 0.871 (improvement: -12.7%)

Top improvements:
1. a1b2c3d — increase LR to 0.04 — 0.993

Failed ideas:
- switch to GeLU — 1.005, worse
- double the width — ERR, memory

Re-measured: skipped (not available yet)
Expected false keeps: at most 0.2 (20 candidates measured again, at 99%)
Stopped: --max-trials reached
Time: 1h 12m
Cost: $1.23
Tokens: 1,234,567 (1,000,000 from cache)
Slot use: 94% of 8 slots
Results: column -ts $'\\t' .autoresearch/mar26/results.tsv | less -S
Go on: autoresearch resume mar26 --max-trials 94
Take it: git merge autoresearch/mar26
"""


def test_the_whole_summary() -> None:
    assert render(RECORD) == EXPECTED


def test_nothing_happened() -> None:
    record = replace(RECORD, baseline=None, best=None, outcomes={}, top=(), failed=(), slot_use=None)
    text = render(record)
    assert "Experiments run: 0\nKept: 0\nDiscarded: 0\nCrashed: 0\n" in text
    assert "Top improvements:\n(none)\n\nFailed ideas:\n(none)\n\nRe-measured: " in text
    assert "Expected false keeps: 0 (nothing was kept)" in text
    assert "Slot use: not known" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"deterministic": True}, "0 (the metric is deterministic)"),
        ({"deterministic": None}, "not known"),
        ({"config": {}}, "not known"),
        ({"config": {"confidence": 0.99, "repeats": 1}}, "not known"),
        ({"confirmed": 1}, "at most 0.01 (1 candidate measured again, at 99%)"),
        ({"confirmed": 5000}, "at most 12 (5000 candidates measured again, at 99%)"),
    ],
)
def test_expected_false_keeps_never_promise_more_than_is_known(changes: dict[str, object], words: str) -> None:
    assert f"Expected false keeps: {words}" in render(replace(RECORD, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "words", "goes_on"),
    [
        (RunState.RUNNING, "not yet, it is running (pid 42)", False),
        (RunState.DRAINING, "not yet, running measurements end (pid 42)", False),
        (RunState.INTERRUPTED, "interrupted; `autoresearch resume mar26` finishes what was running", True),
    ],
)
def test_a_run_that_has_not_ended_says_so(state: RunState, words: str, goes_on: bool) -> None:
    text = render(replace(RECORD, state=state, pid=42, stop_reason=None))
    assert f"Stopped: {words}\n" in text
    assert ("Go on: autoresearch resume mar26" in text) is goes_on


@pytest.mark.parametrize(
    ("reason", "limit"),
    [
        ("--max-trials reached", " --max-trials 94"),
        ("--max-time reached", " --max-time ..."),
        ("--patience: 20 trials without a keep", " --patience ..."),
        ("Ctrl-C", ""),
    ],
)
def test_a_limit_that_was_reached_must_be_given_anew(reason: str, limit: str) -> None:
    assert f"Go on: autoresearch resume mar26{limit}\n" in render(replace(RECORD, stop_reason=reason))


def test_without_a_keep_there_is_nothing_to_take() -> None:
    assert render(replace(RECORD, outcomes={"crash": 3})).endswith("Take it: (nothing was kept)\n")


def test_texts_of_models_stay_on_their_line() -> None:
    text = render(replace(RECORD, top=(replace(KEEP, hypothesis="a\x1b[2J\nBest metric: 0"),)))
    assert "1. a1b2c3d — a [2J Best metric: 0 — 0.993\n" in text


def test_an_idea_that_was_never_measured_shows_no_number() -> None:
    conflict = Trial(8, Outcome.DISCARD, Reason.CONFLICT, "")
    assert "- (no hypothesis) — not measured, conflict\n" in render(replace(RECORD, failed=(conflict,)))


def test_a_path_is_quoted_for_the_shell() -> None:
    text = render(replace(RECORD, run_dir=Path("my project/.autoresearch/mar26")))
    assert "column -ts $'\\t' 'my project/.autoresearch/mar26/results.tsv' | less -S" in text
