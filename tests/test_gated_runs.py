"""Constraints, stand-in and holdout through real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ground import Act, Ground, in_process
from tests.messages_server import MessagesServer
from tests.valley import Model, Valley, prompt_of

MEMORY = """\
cat loss.txt
awk '{ print "peak_mb: " (($2 < 95) ? 700 : 300) }' loss.txt
"""
QUICK = """\
awk '{ print "quick: " (($2 == 97) ? 500 : $2) }' loss.txt
"""
HIDDEN = """\
echo "SECRET-OF-THE-HOLDOUT"
awk '{ print "unseen: " (($2 == 98) ? 200 : $2) }' loss.txt
"""


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    ground = Ground(tmp_path)
    for name, text in {"memory.sh": MEMORY, "quick.sh": QUICK, "hidden.sh": HIDDEN}.items():
        ground.write(name, text)
    ground.git("add", "-A")
    ground.git("commit", "-q", "-m", "more commands")
    return ground


@pytest.fixture
def act(ground: Ground, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Act]:
    with in_process(ground, monkeypatch, capfd) as act:
        yield act


ONE_AT_A_TIME = ("--workers", "1", "--proposers", "1", "--repeats", "2", "--yes", "--tag", "t")


def reasons(ground: Ground) -> list[str]:
    return [row["reason"] for row in ground.rows()[1:]]


def test_a_candidate_that_breaks_a_constraint_is_not_kept(ground: Ground, act: Act) -> None:
    lines = ground.replay(99, 90, 98)
    bound = ("--constraint", "peak-mb <= baseline * 1.5", "--constraint", "peak_rss_mb < 4000")
    done = act("minimize loss", "sh memory.sh", "loss.txt", "--proposer", lines, *bound, *ONE_AT_A_TIME)
    assert done.code == 0, done.err
    assert reasons(ground) == ["improved", "constraint", "improved"]
    shown = act("show", "2").out
    assert "peak-mb is 700, and peak-mb <= baseline * 1.5 asks for <= 450" in shown
    refused = act(
        "minimize loss", "sh memory.sh", "loss.txt", "--proposer", lines, "--constraint", "peek <= 1", "--yes"
    )
    assert refused.code == 2
    assert "the baseline does not print peek; it has loss, peak_mb, wall_seconds" in refused.err


def test_a_stand_in_screens_out_and_a_holdout_marks_a_keep(ground: Ground, act: Act) -> None:
    lines = ground.replay(99, 97, 98, 96)
    others = ("--screen", "sh quick.sh", "--holdout", "sh hidden.sh")
    done = act(*ground.words, "--proposer", lines, *others, *ONE_AT_A_TIME)
    assert done.code == 0, done.err
    assert reasons(ground) == ["improved", "screened_out", "improved", "improved"]
    assert "Stand-in: rank agreement with the metric 1.00 (3 with both), 1 screened out\n" in done.out
    assert "Holdout: 1 of 3 keeps loses on it: trial 3\n" in done.out
    assert "Holdout:      200, measured 2 times; loses on it against the keep before it\n" in act("show", "3").out
    facts = json.loads(act("status", "--json").out)["facts"]
    assert facts["holdout"]["loses"] == [3]
    assert not {"200", "200.0"} & {cell for row in ground.rows() for cell in row.values()}


def test_no_prompt_says_what_the_holdout_printed(tmp_path: Path) -> None:
    valley = Valley(tmp_path)
    hidden = "echo SECRET-OF-THE-HOLDOUT; sh measure.sh"
    model = Model()
    with MessagesServer(model) as server:
        options = ("--workers", "1", "--proposers", "1", "--repeats", "1", "--max-trials", "4", "--yes")
        asked = ("--proposer", "claude", "--max-cost", "none")
        done = valley.run(*options, *asked, "--holdout", hidden, server=server)
        prompts = [prompt_of(request) for request in server.requests]
    assert done.returncode == 0, done.stderr
    assert valley.events("Measured")
    measured = [event for event in valley.events("Measured") if event["purpose"] == "holdout"]
    assert len(measured) >= 3 and all("SECRET" in event["measurement"]["tail"] for event in measured)
    assert len(prompts) >= 4 and not [prompt for prompt in prompts if "SECRET" in prompt]
