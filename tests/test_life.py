"""One trial while it lives, its row, and the message that it lands with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.state.life import Live, Stage, landing_message, memory_gb
from autoresearch.trial import Candidate, Change, Edit, Measurement, Operator, Outcome, Purpose, Reason, Usage

LOSS = Metric("val_bpb", Direction.MINIMIZE, Reader(ReaderKind.NAME, "val_bpb"))
ASKED = Live(4, 2, "parent", Operator.IMPROVE, Stage.PROPOSING, 10.0)
CHANGE = Change("raise the learning rate", (Edit("train.py", old="1", new="2"),))
OWN = Candidate("own", "own-tree", 3, 1)
SCREENING = replace(ASKED, change=CHANGE, model="claude", usage=Usage(5, 0, 0, 2, 0.5)).applied(OWN)


def value(number: float, seconds: float = 2.0) -> Measurement:
    return Measurement(number, exit_code=0, seconds_total=seconds, extra={"mfu": 0.4}, tail="done", peak_bytes=2**30)


FAILED = Measurement(None, Reason.EXIT, exit_code=3, seconds_total=1.0, tail="Traceback")


def kept() -> Live:
    live = replace(SCREENING.measured(Purpose.SCREEN, 0, value(9.0)), stage=Stage.CONFIRMING, pending=2, compared=10.0)
    for fresh in (8.0, 8.5):
        live = live.measured(Purpose.CONFIRM, 1, value(fresh))
    return live


def test_the_screening_value_stands_only_until_there_are_fresh_ones() -> None:
    screened = SCREENING.measured(Purpose.SCREEN, 0, value(9.0))
    assert (SCREENING.value, screened.value, screened.n, screened.pending) == (None, 9.0, 1, 0)
    assert kept().value == 8.25
    assert (kept().n, kept().seconds, kept().worker, kept().pending) == (3, 6.0, 1, 0)


def test_a_combination_starts_unmeasured_and_the_candidate_alone_with_its_screen() -> None:
    both = Candidate("both", "both-tree", 3, 1)
    merged = kept().rebased(both, "tip")
    assert (merged.candidate, merged.base, merged.screen, merged.fresh, merged.merged) == (both, "tip", None, (), True)
    assert merged.value == 9.0  # of the change on its parent, for want of better
    alone = replace(merged, failed=FAILED).competing_alone()
    assert (alone.candidate, alone.screen, alone.fresh) == (OWN, 9.0, (8.0, 8.5))
    assert (alone.failed, alone.merged) == (None, False)
    assert (merged.lines, alone.lines) == (2, 0)


def test_a_combination_that_is_its_own_tree_is_none() -> None:
    """Its parent's tree is the incumbent's, though the commit is another: it has no second chance alone."""
    assert not kept().rebased(Candidate("again", OWN.tree), "tip").merged


def test_the_row_of_a_keep() -> None:
    row = kept().ended(Outcome.KEEP, Reason.IMPROVED, "", 99.0, LOSS)
    assert (row.number, row.parent, row.operator, row.hypothesis) == (4, 2, Operator.IMPROVE, CHANGE.hypothesis)
    assert (row.value, row.delta, row.n, row.worker, row.seconds) == (8.25, 1.75, 3, 1, 6.0)
    assert row.stdev == pytest.approx(0.35355339)
    assert (row.commit, row.tree, row.added, row.removed, row.edits) == ("own", "own-tree", 3, 1, CHANGE.edits)
    assert (row.usage.cost_usd, row.model, row.memory_gb, row.tail, row.ended_at) == (0.5, "claude", 1.0, "done", 99.0)


def test_the_row_of_a_crash_has_no_value_whatever_was_measured_before() -> None:
    live = kept().measured(Purpose.CONFIRM, 0, FAILED)
    row = live.ended(Outcome.CRASH, Reason.EXIT, "exit status 3", 99.0, LOSS)
    assert (row.value, row.delta, row.n, row.tail, row.note) == (None, None, 4, "Traceback", "exit status 3")


def test_the_row_of_what_was_never_applied_has_neither_commit_nor_numbers() -> None:
    row = ASKED.ended(Outcome.CRASH, Reason.PROPOSER_FAILED, "no change", 99.0, LOSS)
    assert (row.commit, row.tree, row.value, row.n, row.hypothesis, row.memory_gb) == (None, None, None, 0, "", None)


@pytest.mark.parametrize(
    ("measurement", "expected"),
    [
        (Measurement(1.0, extra={"peak_vram_mb": 2048.0}, gpu_peak_bytes=2**30, peak_bytes=2**30), 2.0),
        (Measurement(1.0, gpu_peak_bytes=3 * 2**30, peak_bytes=2**30), 3.0),
        (Measurement(1.0, peak_bytes=2**29), 0.5),
        (Measurement(1.0, extra={"peak_vram_mb": 0.0}, peak_bytes=2**30), 0.0),
        (Measurement(1.0), None),
    ],
)
def test_memory_is_what_was_printed_else_the_gpus_else_the_processes(
    measurement: Measurement, expected: float | None
) -> None:
    assert memory_gb(measurement) == expected


def test_the_landing_message_carries_what_was_measured() -> None:
    assert landing_message(kept(), LOSS) == (
        "raise the learning rate\n\nval_bpb: 10 -> 8.25\n\n"
        "Autoresearch-Trial: 4\nAutoresearch-Model: claude\nMetric-Before: 10.0\nMetric-After: 8.25\n"
        "Metric-Stdev: 0.3535533905932738\nMeasurements: 3\n"
    )


def test_a_landing_message_without_a_model_or_a_spread_leaves_their_trailers_out() -> None:
    live = replace(kept(), model="", fresh=(8.0,))
    message = landing_message(live, replace(LOSS, name=""))
    assert "Model" not in message and "Stdev" not in message
    assert "\n\n10 -> 8\n\n" in message


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=300))
def test_a_long_hypothesis_is_cut_in_the_subject_and_whole_below(hypothesis: str) -> None:
    message = landing_message(replace(kept(), change=Change(hypothesis, ())), LOSS)
    subject, *rest = message.split("\n\n")
    assert len(subject) <= 100
    assert subject == (hypothesis or "trial 4") or rest[0] == hypothesis
    assert rest[-1].startswith("Autoresearch-Trial: 4\n")
