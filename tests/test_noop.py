"""`check --aa`: candidates that change nothing, through a real run of which nothing stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch.events import Measured, Stamped
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.noop import Campaign, tally
from autoresearch.record import RunRecord, RunState
from autoresearch.trial import Measurement, Purpose
from tests.ground import Ground

METRIC = Metric("loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "loss"))
RECORD = RunRecord("t", Path(), RunState.ENDED, None, "x", {}, METRIC, None, None, {"keep": 1, "discard": 2})


def test_what_is_counted() -> None:
    seen = [
        (0, Purpose.BASELINE, 5.0),
        (0, Purpose.BASELINE, 9.0),
        (1, Purpose.SCREEN, 4.0),
        (2, Purpose.SCREEN, 5.0),
        (3, Purpose.SCREEN, None),
        (0, Purpose.ANCHOR, 1.0),
        (1, Purpose.CONFIRM, 7.0),
        (1, Purpose.FINAL, 2.0),
    ]
    stamped = [Stamped(0.0, Measured(trial, 0, purpose, "c", Measurement(value))) for trial, purpose, value in seen]
    assert tally(RECORD, stamped, METRIC) == Campaign(candidates=3, kept=1, naive=1, measurements=5)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_candidates_that_change_nothing_are_not_kept_and_leave_nothing(ground: Ground) -> None:
    """The values are noise: the n-th measurement prints the n-th number."""
    noise = [100 + (37 * number) % 11 / 10 for number in range(1, 200)]
    (ground.folder / "noise").write_text("".join(f"loss: {value}\n" for value in noise))
    words = [
        "minimize loss",
        f"{ground.measure} > /dev/null; sed -n $(wc -l < {ground.folder}/started)p {ground.folder}/noise",
    ]
    before = ground.refs()
    done = ground.do("check", *words, "loss.txt", "--aa", "6", "--workers", "1", "--plain", "--metric", "loss")
    assert done.returncode == 0, done.stderr
    assert "| candidates that change nothing | 6 |\n" in done.stdout
    assert "| kept (all falsely) | 0 of 6: 0.0% (95% interval 0.0% to 45.9%) |\n" in done.stdout
    assert "| noise | noisy, standard deviation " in done.stdout
    assert "Branch" not in done.stdout
    assert ground.refs() == before
    assert not (ground.root / ".autoresearch").exists()
    assert ground.git("status", "--porcelain", "--ignored") == ""
    assert not list((ground.folder / "cache").glob("*/*/*"))
