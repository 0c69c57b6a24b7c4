"""What a free slot does next, and how far proposals run ahead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.schedule import (
    MOST_PROPOSALS_PER_SLOT,
    Load,
    Pace,
    Schedule,
    Work,
    steady_proposals,
    wants_baseline,
    wants_proposal,
)
from autoresearch.trial import Purpose

ORDER = [Purpose.FEEDBACK, Purpose.ANCHOR, Purpose.CONFIRM, Purpose.SCREEN, Purpose.FINAL]
WORKS = st.lists(st.builds(Work, st.integers(0, 5), st.sampled_from("xy"), st.sampled_from(ORDER)))


def load_of(slots: int, free: int, proposing: int, queued: int, others: int) -> Load:
    """What is proposed or queued lives."""
    return Load(slots, free, proposing, queued, proposing + queued + others)


LOADS = st.builds(
    load_of, st.integers(1, 8), st.integers(0, 8), st.integers(0, 40), st.integers(0, 40), st.integers(0, 9)
)
PACES = st.builds(Pace, st.floats(0, 100), st.floats(0, 100))


def taken(schedule: Schedule) -> list[Work]:
    return list(iter(schedule.take, None))


@given(WORKS)
def test_work_is_taken_by_purpose_and_then_in_the_order_in_which_it_came(works: list[Work]) -> None:
    schedule = Schedule()
    for work in works:
        schedule.add(work)
    assert schedule.waiting() == len(works)
    assert taken(schedule) == sorted(works, key=lambda work: ORDER.index(work.purpose))


def test_what_a_machine_lost_goes_first_among_its_kind() -> None:
    schedule, lost = Schedule(), Work(3, "c", Purpose.CONFIRM)
    for work in (Work(1, "a", Purpose.SCREEN), Work(2, "b", Purpose.CONFIRM)):
        schedule.add(work)
    schedule.add(lost, first=True)
    assert [work.trial for work in taken(schedule)] == [3, 2, 1]


@given(WORKS, st.integers(0, 5))
def test_a_trial_that_is_dropped_is_measured_no_more_and_nothing_else_is_lost(works: list[Work], trial: int) -> None:
    schedule = Schedule()
    for work in works:
        schedule.add(work)
    dropped = schedule.drop(trial)
    gone = [work for work in works if work.trial == trial and work.purpose in (Purpose.SCREEN, Purpose.CONFIRM)]
    assert dropped == len(gone)
    assert schedule.waiting() == len(works) - dropped
    assert not [work for work in taken(schedule) if work in gone]


def test_counts_are_by_commit_and_purpose() -> None:
    schedule = Schedule()
    for purpose in (Purpose.ANCHOR, Purpose.ANCHOR, Purpose.CONFIRM):
        schedule.add(Work(0, "tip", purpose))
    assert schedule.count("tip", Purpose.ANCHOR) == 2
    assert schedule.count("older", Purpose.ANCHOR) == 0
    assert schedule.waiting(Purpose.CONFIRM, Purpose.SCREEN) == 1


@given(LOADS, PACES, st.integers(1, 20))
def test_the_users_limit_of_proposals_is_kept(load: Load, pace: Pace, limit: int) -> None:
    if load.proposing >= limit:
        assert not wants_proposal(load, pace, limit)


@given(LOADS, PACES)
def test_proposals_do_not_pile_up(load: Load, pace: Pace) -> None:
    most = MOST_PROPOSALS_PER_SLOT * load.slots
    if load.proposing >= most or load.proposing + load.queued >= most + load.slots:
        assert not wants_proposal(load, pace, None)


@given(LOADS, PACES, st.none() | st.integers(1, 20))
def test_an_idle_run_wants_a_proposal(load: Load, pace: Pace, limit: int | None) -> None:
    assert wants_proposal(Load(load.slots, load.free, 0, 0, 0), pace, limit)


@given(LOADS, PACES)
def test_one_worker_and_one_proposer_ask_for_nothing_ahead(load: Load, pace: Pace) -> None:
    alone = Load(1, load.free, load.proposing, load.queued, load.live)
    assert wants_proposal(alone, pace, 1) == (load.live == 0)


@given(st.integers(1, 64), PACES)
def test_the_steady_number_is_between_one_and_four_a_slot(slots: int, pace: Pace) -> None:
    assert 1 <= steady_proposals(slots, pace) <= MOST_PROPOSALS_PER_SLOT * slots


@pytest.mark.parametrize(
    ("propose", "measure", "expected"), [(1, 1, 10), (10, 1, 32), (1, 10, 1), (1, 2, 5), (0, 1, 8), (1, 0, 8)]
)
def test_it_follows_the_ratio_of_proposing_to_measuring(propose: float, measure: float, expected: int) -> None:
    assert steady_proposals(8, Pace(propose, measure)) == expected


def test_the_pace_moves_slowly() -> None:
    pace = Pace().proposed(10.0).measured(1.0)
    assert pace == Pace(10.0, 1.0)
    assert pace.proposed(0.0).propose_seconds == pytest.approx(8.0)
    assert pace.measured(2.0).measure_seconds == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("measured", "running", "slot_measured", "repeats", "expected"),
    [
        (0, 0, False, None, True),
        (7, 0, False, None, True),
        (1, 1, True, None, True),
        (2, 1, True, None, False),
        (0, 1, False, 1, False),
        (4, 0, True, 5, True),
        (5, 0, False, 5, False),
    ],
)
def test_every_slot_measures_the_baseline_and_three_times_in_all_or_as_often_as_was_asked(
    measured: int, running: int, slot_measured: bool, repeats: int | None, expected: bool
) -> None:
    assert wants_baseline(measured, running, slot_measured, repeats) is expected


def test_a_noisy_baseline_is_measured_in_whole_waves() -> None:
    assert wants_baseline(2, 1, True, None, wave=2)
    assert not wants_baseline(2, 2, True, None, wave=2)
    assert not wants_baseline(2, 1, True, 3, wave=2)
