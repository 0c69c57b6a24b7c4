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
    facts={
        "remeasured": {
            "baseline": [0.998, 0.9985, 0.9975, 0.998, 0.998],
            "best": [0.872, 0.8715, 0.8725, 0.872, 0.872],
            "interval": [-0.1275, -0.1245],
            "exact": False,
            "failed": [],
        }
    },
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

Re-measured: 0.998 -> 0.872 (improvement: -12.6%, 95% interval -12.8% to -12.5%, n = 5 + 5)
Expected false keeps: at most 0.2 of 12 (20 confirmations; one of what is no better is passed with a probability of 1%)
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
        ({"config": {"confidence": 0.99, "repeats": 1}, "deterministic": True}, "not known"),
        ({"confirmed": 1}, "at most 0.01 of 12 (1 confirmation;"),
        ({"confirmed": 5000}, "at most 12 of 12 (5000 confirmations;"),
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


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        (None, "skipped (the run has not come to its end)"),
        ({"skipped": "stopped by Ctrl-C"}, "skipped (stopped by Ctrl-C)"),
        (
            {"baseline": [4.0, 4.0], "best": [3.0, 3.0], "interval": [-1.0, -1.0], "exact": True, "failed": ["x"]},
            "4 -> 3 (improvement: -25.0%, exact, n = 2 + 2); x",
        ),
    ],
)
def test_what_was_measured_again(fact: dict[str, object] | None, said: str) -> None:
    facts = {} if fact is None else {"remeasured": fact}
    assert f"\nRe-measured: {said}\n" in render(replace(RECORD, facts=facts))


STANDIN = {"agreement": 0.714, "candidates": 34, "screened_out": 12, "poor": False, "left_out": False}
HOLDOUT = {
    "values": {"0": [1.0], "3": [2.0, 2.5]},
    "failed": {"7": "exit"},
    "loses": [3, 7],
    "measured": 12,
    "keeps": 12,
}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"standin": STANDIN}, "Stand-in: rank agreement with the metric 0.71 (34 with both), 12 screened out"),
        (
            {"standin": STANDIN | {"agreement": 0.1, "poor": True, "left_out": True}},
            "Stand-in: rank agreement with the metric 0.10 (34 with both): poor, so it may discard what is good, "
            "12 screened out; left out for now, as measuring decides cheaper",
        ),
        (
            {"standin": STANDIN | {"agreement": None, "candidates": 2}},
            "Stand-in: 12 screened out, rank agreement with the metric not known yet (2 with both)",
        ),
        ({"holdout": HOLDOUT}, "Holdout: 2 of 12 keeps lose on it: trials 3, 7"),
        ({"holdout": HOLDOUT | {"loses": [3], "measured": 1}}, "Holdout: 1 of 1 keep loses on it: trial 3; 11 not"),
        ({"holdout": HOLDOUT | {"loses": []}}, "Holdout: none of 12 keeps loses on it"),
        ({"holdout": HOLDOUT | {"measured": 0, "keeps": 0}}, "Holdout: nothing was kept"),
    ],
)
def test_stand_in_and_holdout_have_a_line_each(facts: dict[str, dict[str, object]], said: str) -> None:
    assert said in render(replace(RECORD, facts=facts))
    assert not {"Stand-in", "Holdout"} & {line.split(":")[0] for line in render(RECORD).splitlines()}
