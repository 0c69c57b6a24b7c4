"""`replay`: any trial measured again beside the baseline, and the run left as it is."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.ground import Ground, until

ARGUMENTS = ("--tag", "t", "--yes", "--plain", "--workers", "1", "--proposers", "1")


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def stored(ground: Ground) -> dict[str, bytes]:
    """Every file of the run."""
    folder = ground.root / ".autoresearch" / "t"
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_any_trial_is_measured_again_and_nothing_stays(ground: Ground) -> None:
    crash = {"hypothesis": "no number", "edits": [{"path": "loss.txt", "content": "oops\n"}]}
    bad = {"hypothesis": "not ours", "edits": [{"path": "measure.sh", "content": ""}]}
    done = ground.do(*ground.words, *ARGUMENTS, "--proposer", ground.replay(95, 90, crash, bad))
    assert "Re-measured: 100 -> 90 (improvement: -10.0%, exact, n = 5 + 5)\n" in done.stdout
    assert "Re-measured: 100 -> 90 (improvement: -10.0%, exact, n = 5 + 5)\n" in ground.do("status").stdout
    before, refs, measured = stored(ground), ground.refs(), ground.started()

    done = ground.do("replay", "1", "--repeats", "2")
    assert done.returncode == 0, done.stderr
    assert "baseline: 100 100\ntrial 1: 95 95\n" in done.stdout
    assert "stored: keep (improved), 95, measured " in done.stdout
    assert "Re-measured: 100 -> 95 (improvement: -5.0%, exact, n = 2 + 2)\n" in done.stdout
    assert ground.started() == measured + 4

    assert "baseline  slot 0             100" in ground.do("show", "0").stdout
    assert "no value" not in ground.do("show", "0").stdout
    done = ground.do("replay", "0", "--repeats", "2")
    assert "measuring the baseline 2 times\n" in done.stdout
    assert "baseline: 100 100\nRe-measured: 100 (mean, n = 2)\n" in done.stdout
    assert ground.started() == measured + 6

    assert "trial 3: no_metric\nRe-measured: skipped" in ground.do("replay", "3", "--repeats", "1").stdout
    for words, said in [
        (("replay", "9"), "there is no trial 9 in the run t"),
        (("replay", "4"), "trial 4 has no commit to measure: out_of_scope"),
        (("replay", "1", "--repeats", "0"), "--repeats: `0` is not a whole number from 1 on"),
        (("replay", "best"), "TRIAL is a number"),
    ]:
        refused = ground.do(*words)
        assert refused.returncode == 2 and said in refused.stderr
    assert (stored(ground), ground.refs()) == (before, refs)
    assert [path.name for path in (ground.folder / "cache" / "autoresearch-worktrees").glob("*/*")] == ["t"]


def test_ctrl_c_leaves_nothing_and_a_kill_is_swept_up(ground: Ground) -> None:
    ground.do(*ground.words, *ARGUMENTS, "--proposer", ground.replay(95), "--max-trials", "1")
    homes = ground.folder / "cache" / "autoresearch-worktrees"
    for end, left in ((signal.SIGKILL, 2), (signal.SIGINT, 1)):
        measured = ground.started()
        with ground.held(after=measured):
            process = ground.start("replay", "1")
            until(lambda before=measured: ground.started() > before)
            process.send_signal(end)
            _, complaint = process.communicate()
        assert process.returncode == (130 if end is signal.SIGINT else -end), complaint
        assert len(list(homes.glob("*/*"))) == left
    until(lambda: not ground.processes())


def test_the_first_ctrl_c_at_the_end_of_a_run_leaves_the_rest_out(ground: Ground) -> None:
    """What was measured counts, and the run has ended as it would have."""
    words = (*ground.words, "--yes", "--plain", "--workers", "1", "--proposers", "1", "--no-canary")
    proposer = ("--proposer", ground.replay(95))
    ground.do(*words, *proposer, "--tag", "whole")
    before, count = ground.started(), ground.started() - 10
    with ground.held(after=before + count + 4):
        process = ground.start(*words, *proposer, "--tag", "t")
        until(lambda: ground.started() == before + count + 5)
        process.send_signal(signal.SIGINT)
        until(lambda: ground.events("StopAsked") == 2)
    said, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert "Re-measured: 100 -> 95 (improvement: -5.0%, exact, n = 3 + 2)\n" in said
    assert "Stopped: proposals exhausted\n" in said
