from __future__ import annotations

import json
from dataclasses import replace

from autoresearch.events import Measured
from autoresearch.trial import (
    Change,
    Edit,
    Measurement,
    Operator,
    Outcome,
    Purpose,
    Reason,
    Reply,
    Trial,
    Usage,
)
from autoresearch.views import inspect
from tests.test_summary import RECORD

EDITS = (Edit("a.py", old="1", new="2\udcff"), Edit("b.py", content="whole"), Edit("c.py", delete=True))
TRIAL = Trial(
    number=12,
    outcome=Outcome.DISCARD,
    reason=Reason.UNCONFIRMED,
    hypothesis="try \x1b[31mthis\x1b[0m",
    parent=5,
    operator=Operator.EXPLORE,
    edits=EDITS,
    commit="a1b2c3d4e5f6",
    value=1234567.0,
    delta=-0.25,
    n=3,
    stdev=0.5,
    added=3,
    removed=1,
    seconds=75.0,
    usage=Usage(100, 60, 0, 20, 0.5, 3.0),
    model="m",
    worker=1,
    memory_gb=44.04,
    extra={"mfu": 0.4},
    tail="last line \x1b[31mred\x1b[0m\n",
    note="fresh runs: 1.0, 1.1",
    implausible=True,
)
CRASH = Trial(3, Outcome.CRASH, Reason.EXIT, "broken", parent=0, value=9.0)


SHOWN = """\
Trial:        12
Hypothesis:   try  [31mthis [0m
Outcome:      discard, unconfirmed: looked better once, fresh runs did not confirm it
Note:         fresh runs: 1.0, 1.1
Implausible:  a gain this large is rarely real: look at the diff
Metric:       1234567 (standard deviation 0.5)
Delta:        -0.25 (positive is better)
Parent:       5
Operator:     explore
Commit:       a1b2c3d4e5f6
Lines:        +3 -1
Files:        a.py, b.py, c.py
Measured:     3 times, 1m 15s
Slot:         1
Memory:       44.0 GB
Also printed: mfu 0.4
Model:        m
Cost:         $0.50, 120 tokens (60 from cache)

--- Diff ---
--- a/a.py
+++ b/a.py

--- Measurements ---
screen    slot 1     0.123456789  1m 00s wall, 0.0s CPU, 2.0 GB  a1b2c3d
confirm   slot 0    ERR, timeout  0.0s wall, 0.0s CPU, 0.0 GB  a1b2c3d

--- Output ---
last line \ufffd[31mred\ufffd[0m

--- Prompt ---
system

the files

--- Reply (m, 3.0s, 120 tokens, $0.50) ---
hypothesis: this
"""


def test_a_log_line_has_the_keys_of_the_contract() -> None:
    assert " ".join(inspect.log_line(TRIAL)) == (
        "trial parent status reason hypothesis edits metric delta n stdev seconds usd model commit"
    )
    assert inspect.log_line(CRASH)["metric"] is None


def test_a_log_line_can_be_replayed() -> None:
    line = json.loads(inspect.to_json(inspect.log_line(TRIAL)))
    assert Change.from_row(line) == Change(TRIAL.hypothesis, EDITS)
    assert line["parent"] == 5


def test_json_is_strict_and_ascii() -> None:
    text = inspect.to_json({"value": float("nan"), "other": float("inf"), "text": "\x1b\udcff"})
    assert text.isascii()
    assert json.loads(text, parse_constant=lambda name: name) == {"value": None, "other": None, "text": "\x1b\udcff"}


def test_status_has_the_keys_of_the_contract() -> None:
    status = json.loads(inspect.to_json(inspect.status_object(RECORD)))
    expected = {
        "tag": "mar26",
        "branch": "autoresearch/mar26",
        "state": "ended",
        "stop_reason": "--max-trials reached",
        "experiments": 47,
        "kept": 12,
        "discarded": 31,
        "crashed": 4,
        "baseline": 0.998,
        "best": 0.871,
        "cost_usd": 1.234,
        "metric": "val_bpb",
        "direction": "minimize",
    }
    assert {key: status[key] for key in expected} == expected


def test_status_of_a_run_that_has_measured_nothing() -> None:
    status = inspect.status_object(replace(RECORD, metric=None, baseline=None, best=None, outcomes={}))
    assert (status["metric"], status["baseline"], status["best"], status["experiments"]) == (None, None, None, 0)


def test_status_carries_the_facts() -> None:
    facts = {"noise": {"stdev": 0.5}}
    assert json.loads(inspect.to_json(inspect.status_object(replace(RECORD, facts=facts))))["facts"] == facts


def test_log_rows_have_as_many_words_as_the_header_before_the_hypothesis() -> None:
    rows = [inspect.log_row(trial) for trial in (TRIAL, CRASH, replace(TRIAL, value=None, delta=None, commit=None))]
    assert [row.split(None, 7)[:7] for row in rows] == [
        ["12", "discard", "unconfirmed", "1234567", "-0.25", "3", "a1b2c3d"],
        ["3", "crash", "exit", "ERR", "-", "0", "-"],
        ["12", "discard", "unconfirmed", "-", "-", "3", "-"],
    ]
    assert {row.index("try") for row in (rows[0], rows[2])} == {inspect.LOG_HEADER.index("hypothesis")}


def test_every_reason_has_words() -> None:
    for reason in Reason:
        assert f"{reason}: " in inspect.show(replace(TRIAL, reason=reason))


def test_show_tells_the_whole_story() -> None:
    measured = [
        Measured(12, 1, Purpose.SCREEN, "a1b2c3d4", Measurement(0.123456789, wall_seconds=60, peak_bytes=2**31)),
        Measured(12, 0, Purpose.CONFIRM, "a1b2c3d4", Measurement(None, Reason.TIMEOUT)),
    ]
    replies = [Reply("hypothesis: this", ("system", "the files"), "m", Usage(100, 60, 0, 20, 0.5, 3.0))]
    assert inspect.show(TRIAL, measured, replies, diff="--- a/a.py\n+++ b/a.py\n") == SHOWN


def test_show_of_a_trial_that_was_sent_back_numbers_its_replies() -> None:
    text = inspect.show(CRASH, replies=[Reply("first"), Reply("second")])
    assert "--- Reply 1 (no model" in text
    assert "--- Reply 2 (no model" in text
    assert "Metric:       ERR" in text
    assert "Measured:     never" in text


def test_no_terminal_escape_of_a_stored_text_gets_through() -> None:
    nasty = "\x1b[2J\x9b31m\x08\r\u202e\ud800"
    trial = replace(TRIAL, hypothesis=nasty, tail=nasty, note=nasty, model=nasty, edits=(Edit(nasty, delete=True),))
    reply = Reply(nasty, (nasty,), nasty)
    for text in (inspect.log_row(trial), inspect.show(trial, replies=[reply], diff=nasty)):
        assert not set(text) & set("\x1b\x9b\x08\r\u202e\ud800")
