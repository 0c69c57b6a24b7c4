"""Going on in a new process, with what the user says now."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoresearch.actions import Approve, Measure
from autoresearch.events import Approved
from autoresearch.trial import Purpose
from tests.world import CONFIG, World


def bound_to_one(world: World) -> World:
    """Three slots, of which the free memory bears one."""
    world.ready()
    for each in list(world.in_flight):
        if isinstance(each, Measure):
            world.measure(each)
    action = world.asked(Approve)
    world.in_flight.remove(action)
    world.tell(Approved(action.metric, max_workers=1))
    assert world.run.slots.usable == 1
    return world


@pytest.mark.parametrize(("workers", "usable"), [(None, 1), (3, 3)])
def test_the_bound_by_memory_holds_until_the_user_names_a_number(workers: int | None, usable: int) -> None:
    world = bound_to_one(World(slots=3))
    world.kill_and_resume(workers=workers)
    world.ready()
    assert world.run.slots.usable == usable


def feedback_asked(world: World) -> Measure:
    """Answer measurements and questions until the feedback command is run."""
    while True:
        waiting = [each for each in world.in_flight if isinstance(each, Measure | Approve)]
        found = next((each for each in waiting if isinstance(each, Measure) and each.purpose is Purpose.FEEDBACK), None)
        if found is not None:
            return found
        world.answer(waiting[0])


def test_the_feedback_that_a_kill_took_is_asked_for_again() -> None:
    world = World(replace(CONFIG, feedback="pytest"))
    world.ready()
    feedback_asked(world)
    world.kill_and_resume()
    world.ready()
    assert feedback_asked(world).commit == world.tip
