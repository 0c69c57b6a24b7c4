"""What slots do before the first candidate."""

from __future__ import annotations

from dataclasses import replace

from autoresearch.actions import Approve, Measure, Wake
from tests.world import CONFIG, World


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
