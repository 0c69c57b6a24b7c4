"""What slots do before the first candidate."""

from __future__ import annotations

from dataclasses import replace

from autoresearch.actions import Action, Approve, Measure, Propose, Stop, Wake
from autoresearch.config import RunConfig
from autoresearch.events import Approved, Began, Measured, SlotReady
from autoresearch.state import Run
from autoresearch.trial import Measurement, Purpose, Reason
from tests.world import CONFIG, World

PASS_RATE = RunConfig(objective="maximize pass rate", measure="pytest | tail -1", scope=("x.py",))
PASS, FLAKY = "3 passed in 0.10s\n", "1 failed, 2 passed in 0.10s\n"


def test_every_run_of_the_baseline_may_take_an_hour() -> None:
    """Not only the first: a slot may be slower than the one that came first."""
    world = World()
    world.ready()
    limits = []
    while not world.run.baseline_done:
        action = next(each for each in world.in_flight if isinstance(each, Measure | Approve))
        if isinstance(action, Measure):
            limits.append(action.request.timeout_seconds)
        world.answer(action)
    assert limits == [3600.0] * 3
    assert world.run.snapshot().timeout_seconds == 300.0


def test_the_time_may_be_up_before_the_baseline_is_done() -> None:
    world = World(replace(CONFIG, max_time=60.0))
    world.ready()
    world.measure(world.asked(Measure))
    world.approve()
    world.wake(world.asked(Wake))
    world.measure(world.asked(Measure))
    assert world.stopped == "--max-time reached"
    assert world.rows[0].n == 2


def test_a_baseline_that_fails_now_and_then_says_so() -> None:
    world = World()
    world.ready()
    world.measure(world.asked(Measure))
    world.approve()
    world.measure(world.asked(Measure), Reason.EXIT)
    while not world.run.baseline.recorded:
        world.measure(world.asked(Measure))
    assert world.rows[0].note == "1 of 4 runs failed: exit"


def after_baseline(*outputs: str) -> list[Action]:
    """What a run with one slot does, from the first measurement of the unchanged code to the last of these."""
    run = Run(Began(PASS_RATE.to_row(), "base", "tree"), 0.0)
    actions = run.tell(0.0, SlotReady(0, ""))
    told = list[Action]()
    for output in outputs:
        assert any(isinstance(action, Measure) for action in actions)
        measured = Measurement(None, exit_code=0, stdout=output, wall_seconds=0.1)
        actions = run.tell(1.0, Measured(0, 0, Purpose.BASELINE, "base", measured))
        for action in actions:
            if isinstance(action, Approve):
                actions += run.tell(1.0, Approved(action.metric))
        told += actions
    return told


def test_nothing_is_proposed_where_nothing_is_left_to_gain() -> None:
    told = after_baseline(PASS, PASS, PASS)
    assert not any(isinstance(action, Propose) for action in told)
    assert [action.why for action in told if isinstance(action, Stop)] == [
        "nothing left to gain: the metric is at its bound"
    ]


def test_a_bound_that_is_not_always_reached_leaves_something_to_gain() -> None:
    told = after_baseline(PASS, FLAKY, PASS)
    assert any(isinstance(action, Propose) for action in told)
    assert not any(isinstance(action, Stop) for action in told)


def test_views_see_the_values_that_the_tables_have() -> None:
    """Fresh runs of the best so far move its mean; a number on the screen that is in no table would confuse."""
    world = World()
    world.ready()
    world.settle()
    archive, seen = world.run.archive, world.run.snapshot()
    best = archive.trial(seen.incumbent)
    assert best is not None and seen.best == best.value
    archive.measured(world.run.given.base_tree, 1e6, 0)
    assert world.run.snapshot().baseline == seen.baseline == archive.ended[0].value
