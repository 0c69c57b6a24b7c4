"""Whether the measurement sees the edits, as the run's state decides it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.actions import Approve, MakeCanary, Measure
from autoresearch.config import RunConfig
from autoresearch.errors import EditUnseen
from autoresearch.state.canary import noticed
from autoresearch.trial import Measurement, Purpose, Reason, Substitute
from tests.world import BASE, CONFIG, RUBBISH, World


def seen(value: float | None, failure: Reason | None = None, exit_code: int | None = 0) -> Measurement:
    return Measurement(value, failure=failure, exit_code=exit_code)


@pytest.mark.parametrize(
    ("measurement", "words"),
    [
        (seen(None, Reason.EXIT, 1), "crash, exit 1"),
        (seen(None, Reason.SIGNAL, -11), "crash, signal 11"),
        (seen(None, Reason.TIMEOUT, None), "timeout"),
        (seen(None, Reason.NO_METRIC), "no metric"),
        (seen(None, Reason.BUILD_FAILED, 2), "build failed"),
        (seen(0.0), "0 in place of 3"),
        (seen(3.0), ""),
    ],
)
def test_anything_but_the_baselines_value_is_noticed(measurement: Measurement, words: str) -> None:
    assert noticed(measurement, [3.0, 3.0, 3.0]) == words


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=6), st.floats(0.0, 1.0), st.floats(5.5, 50.0))
def test_of_a_noisy_metric_only_what_is_far_beyond_its_range_is_noticed(
    values: list[float], inside: float, deviations: float
) -> None:
    low, high = min(values), max(values)
    assert not noticed(seen(low + inside * (high - low)), values) or low == high
    center = sum(values) / len(values)
    spread = (sum((value - center) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    if spread > 1e-6:
        assert noticed(seen(high + deviations * spread), values)
        assert noticed(seen(low - deviations * spread), values)
        assert not noticed(seen(high + 4.5 * spread), values)


def world(*files: str, config: RunConfig = CONFIG, slots: int = 1) -> World:
    made = World(config, canary_files=files or ("a",), slots=slots)
    made.ready()
    return made


def canary_of(world: World) -> Measure:
    """The canary that is measured; its commit is made first where it has to be."""
    for making in [each for each in world.in_flight if isinstance(each, MakeCanary)]:
        world.make_canary(making)
    (found,) = [each for each in world.in_flight if isinstance(each, Measure) and each.purpose is Purpose.CANARY]
    return found


def kinds(world: World) -> set[type]:
    return {type(each) for each in world.in_flight}


def test_the_commit_is_made_while_the_baseline_is_measured_and_the_question_waits_for_its_verdict() -> None:
    night = world()
    assert night.asked(MakeCanary) == MakeCanary("base", Substitute.RUBBISH)
    night.make_canary(night.asked(MakeCanary))
    assert night.asked(Measure).purpose is Purpose.BASELINE
    night.measure(night.asked(Measure))
    assert kinds(night) == {Measure}
    canary = canary_of(night)
    assert night.trees[canary.commit] == RUBBISH
    assert canary.request.metric is not None
    night.measure(canary, Reason.EXIT)
    assert night.asked(Approve)
    assert night.run.canary.noticed == "crash, exit 1"
    assert night.asked(Measure).purpose is Purpose.BASELINE


def test_a_value_proves_nothing_before_the_baselines_spread_is_known() -> None:
    night = world()
    night.make_canary(night.asked(MakeCanary))
    night.measure(night.asked(Measure), 3.0)
    night.measure(canary_of(night), 3.3)
    night.measure(night.asked(Measure), 3.1)
    assert kinds(night) == {Measure}
    night.measure(night.asked(Measure), 3.2)
    assert night.asked(MakeCanary).substitute is Substitute.NOTHING
    night.measure(canary_of(night), 30.0)
    assert night.asked(Approve)
    assert night.run.canary.noticed == "30 in place of 3.1, with the files empty"


def test_a_run_whose_measurement_sees_neither_rubbish_nor_nothing_is_refused() -> None:
    night = world()
    for _ in range(3):
        night.measure(next(each for each in night.in_flight if isinstance(each, Measure)), 3.0)
    night.measure(canary_of(night), 3.0)
    with pytest.raises(EditUnseen, match="it gave 3, as on the unchanged code"):
        night.measure(canary_of(night), 3.0)


def test_with_one_baseline_asked_for_one_is_enough() -> None:
    night = world(config=replace(CONFIG, repeats=1))
    night.measure(night.asked(Measure), 3.0)
    night.measure(canary_of(night), 4.0)
    assert night.asked(Approve)


def test_a_canary_whose_machine_failed_is_measured_again_however_often() -> None:
    night = world(slots=4)
    night.make_canary(night.asked(MakeCanary))
    night.measure(night.asked_in(0), 3.0)
    first = canary_of(night)
    for slot in (1, 2, 3):
        night.lose(canary_of(night))
        night.measure(night.asked_in(slot), 3.0)
    assert canary_of(night).commit == first.commit
    assert Approve not in kinds(night)


def test_files_are_tried_alone_when_slots_have_nothing_else_to_do_and_those_that_do_not_matter_are_named() -> None:
    night = world("a", "b")
    night.make_canary(night.asked(MakeCanary))
    night.measure(night.asked(Measure))
    night.measure(canary_of(night))
    night.approve()
    night.make_canary(night.asked(MakeCanary))
    while not night.run.baseline.recorded:
        night.measure(night.asked(Measure))
    tried = []
    for _ in "ab":
        canary = canary_of(night)
        tried.append(night.trees[canary.commit])
        night.measure(canary, 6.0 if night.trees[canary.commit][0] == BASE[0] else Reason.EXIT)
    assert tried == [(RUBBISH[0], BASE[1]), (BASE[0], RUBBISH[1])]
    assert night.run.snapshot().unseen_files == ("b",)
    assert not {MakeCanary, Measure} & kinds(night)


def test_check_waits_for_the_files_that_are_tried_alone() -> None:
    night = World(canary_files=("a", "b"), baseline_only=True)
    night.ready()
    night.settle()
    assert night.stopped == "the baseline is measured"
    assert night.run.canary.tried == 2


def test_a_long_measurement_is_not_repeated_for_single_files() -> None:
    night = world("a", "b")
    night.make_canary(night.asked(MakeCanary))
    night.measure(night.asked(Measure))
    good = night.run.baseline.good
    good[0] = replace(good[0], wall_seconds=10.0)
    night.measure(canary_of(night))
    assert MakeCanary not in kinds(night)


def test_without_a_canary_the_question_comes_at_once() -> None:
    night = World()
    night.ready()
    night.measure(night.asked(Measure))
    assert night.asked(Approve)


def test_resume_does_not_repeat_it() -> None:
    night = world("a", "b")
    night.settle()
    night.kill_and_resume()
    night.ready()
    assert MakeCanary not in kinds(night)
