from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from autoresearch.events import (
    Approved,
    Deferred,
    Ended,
    Event,
    Measured,
    Merged,
    Proposed,
    SlotFailed,
    SlotReady,
    StopAsked,
    TimePassed,
)
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.noise import Kind, Noise, Picture
from autoresearch.plan import Plan
from autoresearch.snapshot import SlotView, Snapshot
from autoresearch.trial import Candidate, Change, Edit, Measurement, Outcome, Proposal, Purpose, Reason, Reply, Trial
from autoresearch.views import inspect, lines, planning
from autoresearch.views.lines import Notice, Teller

METRIC = Metric("val_bpb", Direction.MINIMIZE, Reader(ReaderKind.NAME, "val_bpb"))
NOISE = Picture(Kind.NOISY, 1.0, Noise(0.1, 7))
SNAPSHOT = Snapshot(
    at=0.0,
    began_at=0.0,
    metric=METRIC,
    slots=(),
    baseline=1.0,
    best=0.9,
    stdev=0.01,
    incumbent=3,
    kept=(),
    experiments=3,
    outcomes={},
)
KEEP = Trial(3, Outcome.KEEP, Reason.IMPROVED, "increase LR to 0.04", value=0.9, delta=0.05, n=3)
WORSE = Trial(4, Outcome.DISCARD, Reason.WORSE, "switch to GeLU", value=1.005, delta=-0.012)
CRASH = Trial(5, Outcome.CRASH, Reason.OUT_OF_SCOPE, "edit the test", note="tests/test_x.py: outside the scope")
BASELINE = Trial(0, Outcome.KEEP, Reason.BASELINE, "baseline", value=0.998, n=3, stdev=0.0012, commit="a1b2")
CHANGE = Proposal(Change("increase LR", (Edit("x", content="1"),)), Reply(""))
BUSY = Deferred(7, "529 overloaded")


def told(
    *events: Event, ended: Sequence[Trial] = (), snapshot: Snapshot = SNAPSHOT, teller: Teller | None = None
) -> Iterator[Notice]:
    """What a teller says to events that happen ten seconds apart."""
    teller = teller or Teller()
    for place, event in enumerate(events):
        yield from teller.tell(10.0 * place, event, ended, lambda: snapshot)


def texts(notices: Iterator[Notice]) -> list[str]:
    return [notice.text for notice in notices if not notice.verbose]


@pytest.mark.parametrize(
    ("trial", "text"),
    [
        (KEEP, "trial 3 kept (improved) 0.9, gain +0.05, now -10.0% against the baseline: increase LR to 0.04"),
        (WORSE, "trial 4 discarded (worse) 1.005, gain -0.012: switch to GeLU"),
        (CRASH, "trial 5 crashed (out_of_scope: tests/test_x.py: outside the scope): edit the test"),
        (BASELINE, "baseline: 0.998, measured 3 times, standard deviation 0.0012"),
        (replace(BASELINE, stdev=0.0), "baseline: 0.998, measured 3 times, all equal"),
        (replace(BASELINE, n=1, stdev=None), "baseline: 0.998, measured once"),
        (
            replace(BASELINE, stdev=0.0, note="1 of 4 runs failed: exit"),
            "baseline: 0.998, measured 3 times, all equal; 1 of 4 runs failed: exit",
        ),
        (
            replace(WORSE, reason=Reason.SUPERSEDED, note="others used the machine", implausible=True),
            "trial 4 discarded (superseded: adds nothing to the new best; others used the machine) 1.005, gain -0.012: "
            "switch to GeLU",
        ),
        (replace(WORSE, value=None, delta=None, hypothesis=""), "trial 4 discarded (worse): (no hypothesis)"),
        (
            replace(WORSE, reason=Reason.EQUAL, delta=0.002),
            "trial 4 discarded (equal: too small to tell) 1.005, gain +0.002: switch to GeLU",
        ),
        (replace(WORSE, reason=Reason.EQUAL, delta=0.0), "trial 4 discarded (equal) 1.005, gain +0: switch to GeLU"),
        (
            replace(WORSE, reason=Reason.UNCONFIRMED, delta=0.002),
            "trial 4 discarded (unconfirmed: fresh runs leave it within the noise) 1.005, gain +0.002: switch to GeLU",
        ),
        (
            replace(WORSE, reason=Reason.UNCONFIRMED),
            "trial 4 discarded (unconfirmed: fresh runs are no better) 1.005, gain -0.012: switch to GeLU",
        ),
    ],
)
def test_a_trial_ends(trial: Trial, text: str) -> None:
    assert texts(told(TimePassed(), ended=[trial])) == [text]


def test_noise_is_said_before_the_first_trial() -> None:
    said = texts(told(TimePassed(), ended=(BASELINE, WORSE), snapshot=replace(SNAPSHOT, noise=NOISE)))
    assert [text.split(" ")[0] for text in said] == ["baseline:", "noise:", "trial"]


def test_a_slot_comes_fails_and_is_retired_once() -> None:
    slot = SlotView(1, "GPU 1", trial=0, purpose=Purpose.BASELINE)
    ready = replace(SNAPSHOT, slots=(slot,))
    assert texts(told(SlotReady(1, "GPU 1"), snapshot=ready)) == ["slot 1 ready: GPU 1, measuring the baseline"]
    assert texts(told(SlotReady(2, ""))) == ["slot 2 ready"]
    retired = replace(SNAPSHOT, slots=(SlotView(1, "", retired="disk full"),))
    said = texts(told(SlotFailed(1, "disk full"), TimePassed(), snapshot=retired))
    assert said == ["slot 1 failed: disk full", "slot 1 retired: disk full"]


def test_a_busy_server_does_not_fill_the_night() -> None:
    flapping = [BUSY, Proposed(7, CHANGE)] * 20
    assert texts(told(*flapping)) == [
        "waiting for the model's server: 529 overloaded",
        "the model's server answers again",
        "waiting for the model's server: 529 overloaded",
        "the model's server answers again",
    ]


def test_states_that_last_are_said_once() -> None:
    drained = replace(SNAPSHOT, draining="--max-trials reached", plateau=True, slots=(SlotView(0, "GPU 0", trial=3),))
    assert texts(told(TimePassed(), TimePassed(), StopAsked("Ctrl-C"), snapshot=drained)) == [
        "plateau: nothing was kept for a while; proposals turn to bolder changes",
        "draining (--max-trials reached): running measurements end; Ctrl-C twice to stop now",
    ]
    assert texts(told(StopAsked("Ctrl-C"), Ended("Ctrl-C"))) == [
        "draining (Ctrl-C): running measurements end; Ctrl-C again to stop now",
        "stopped: Ctrl-C",
    ]


def test_what_is_measured_again_at_the_end_is_said_once() -> None:
    last = replace(SNAPSHOT, draining="--max-trials reached", slots=(SlotView(0, "", trial=3, purpose=Purpose.FINAL),))
    assert texts(told(TimePassed(), TimePassed(), snapshot=last)) == [
        "measuring the baseline and the best again; Ctrl-C leaves the rest out"
    ]


def test_once_it_is_measured_again_only_a_stop_from_outside_is_said() -> None:
    last = replace(SNAPSHOT, draining="--max-trials reached", slots=(SlotView(0, "", trial=3, purpose=Purpose.FINAL),))
    teller = Teller()
    assert len(texts(told(TimePassed(), StopAsked("--max-trials reached"), snapshot=last, teller=teller))) == 1
    assert texts(told(StopAsked("Ctrl-C"), snapshot=last, teller=teller)) == [
        "draining (Ctrl-C): running measurements end; Ctrl-C again to stop now"
    ]


def test_a_drain_with_nothing_to_end_is_not_said() -> None:
    drained = replace(SNAPSHOT, draining="--max-trials reached", slots=(SlotView(0, "GPU 0"),))
    assert texts(told(TimePassed(), Ended("--max-trials reached"), snapshot=drained)) == [
        "stopped: --max-trials reached"
    ]


def test_what_is_only_said_to_those_who_asked_for_more() -> None:
    measured = Measured(7, 2, Purpose.SCREEN, "c", Measurement(0.99, wall_seconds=185.0))
    crashed = Measured(7, 2, Purpose.SCREEN, "c", Measurement(None, Reason.TIMEOUT, wall_seconds=300.0))
    merged = Merged(7, "onto", Candidate("c", "t"))
    notices = list(told(Proposed(7, CHANGE), measured, crashed, merged, Merged(8, "onto", None)))
    assert [(notice.text, notice.verbose) for notice in notices] == [
        ("trial 7 proposed: increase LR", True),
        ("trial 7 screen in slot 2: 0.99, 3m 05s", True),
        ("trial 7 screen in slot 2: timeout, 5m 00s", True),
        ("trial 7 rebased onto the new best, measured again", False),
        ("trial 8 conflicts with the new best", True),
    ]


def test_texts_of_models_stay_on_their_line_and_are_bounded() -> None:
    trial = replace(WORSE, hypothesis="a\x1b[2J\nb" + "x" * 1000)
    (text,) = texts(told(TimePassed(), ended=[trial]))
    assert "\x1b" not in text and "\n" not in text and len(text) < 400 and text.endswith("…")


def test_snapshots_are_made_once_a_second_at_most() -> None:
    made = []

    def snapshot() -> Snapshot:
        made.append(1)
        return SNAPSHOT

    teller = Teller()
    for tenth in range(50):
        list(teller.tell(tenth / 10, TimePassed(), [WORSE], snapshot))
    assert len(made) == 5


def as_json(notice: Notice) -> dict[str, object]:
    row: dict[str, object] = json.loads(lines.json_line(1.5, notice.event, notice.fields))
    return row


def documented() -> dict[str, set[str]]:
    """Event names of the module's docstring, with their keys."""
    table = (lines.__doc__ or "").split("\n\n")[2].replace(":\n                 ", ": ")
    rows = dict(line.strip().split(maxsplit=1) for line in table.splitlines())
    return {event: set(row.replace(":", " ").replace(",", " ").split()) for event, row in rows.items()}


def test_json_lines_are_as_documented() -> None:
    slots = (SlotView(0, "GPU 0", trial=3),)
    draining = replace(
        SNAPSHOT, draining="--max-time reached", plateau=True, slots=slots, unseen_files=("src/old.py",), noise=NOISE
    )
    events: list[Event] = [SlotReady(0, "GPU 0"), Approved(METRIC), BUSY, Ended("--max-time reached", {"slots": 8})]
    notices = [*told(*events, snapshot=draining), *told(TimePassed(), ended=[BASELINE, KEEP])]
    rows = [as_json(notice) for notice in notices if notice.event]
    table = documented()
    assert {row["event"] for row in rows} == set(table) - {"plan", "message", "summary"}
    for row in rows:
        assert (row["v"], row["at"]) == (1, 1.5)
        unknown = set(row) - {"v", "at", "event"} - table[str(row["event"])]
        assert not unknown, f"{row['event']}: {unknown} is not documented"
    stopped = next(row for row in rows if row["event"] == "stopped")
    assert stopped["slots"] == 8 and stopped["slot_use"] is None


def test_a_trial_in_json_is_what_log_prints() -> None:
    (notice,) = told(TimePassed(), ended=[WORSE])
    row = as_json(notice)
    assert row | {"v": 1, "at": 1.5, "event": "trial_ended"} == row
    assert {key: row[key] for key in inspect.log_line(WORSE)} == json.loads(inspect.to_json(inspect.log_line(WORSE)))


def test_json_is_strict() -> None:
    row = lines.json_line(0.0, "baseline", {"value": math.nan, "text": "\ud800\n"})
    assert json.loads(row)["value"] is None and row.isascii() and "\n" not in row


PLAN = Plan(
    (
        ("Objective", "minimize val_bpb"),
        ("Scope", "9 files: " + ", ".join(f"src/module_{number}.py" for number in range(9))),
        ("Stops", "--max-trials 100"),
    ),
    ("2 files in scope have uncommitted changes, which are not part of the run: src/module_1.py, src/module_2.py",),
)


def test_the_plan() -> None:
    assert (
        planning.render(PLAN, 60)
        == """\
  Objective  minimize val_bpb
  Scope      9 files: src/module_0.py, src/module_1.py,
             src/module_2.py, src/module_3.py,
             src/module_4.py, src/module_5.py,
             src/module_6.py, src/module_7.py,
             src/module_8.py
  Stops      --max-trials 100

! 2 files in scope have uncommitted changes, which are not
  part of the run: src/module_1.py, src/module_2.py
"""
    )


@pytest.mark.parametrize("width", [1, 30, 80, 200])
def test_the_plan_fits_and_loses_nothing(width: int) -> None:
    long = Plan(
        (("A label that is longer than others", "x" * 300 + " \x1b[2J two\nlines"), ("Empty", "")), ("y" * 300,)
    )
    text = planning.render(long, width)
    assert all(len(line) <= max(width, 60) for line in text.splitlines())
    assert text.count("x") == 300 and text.count("y") == 301 and "\x1b" not in text
