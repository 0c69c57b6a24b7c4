"""From asking for a change to having one: what happens to proposals that were not answered."""

from __future__ import annotations

from dataclasses import replace

from autoresearch.actions import Apply, Measure, Propose, Wake
from autoresearch.events import Deferred
from autoresearch.trial import Reason
from tests.world import CONFIG, World, put


def started(world: World) -> World:
    """With the baseline measured, and proposals asked for."""
    world.ready()
    world.settle()
    return world


def test_what_was_not_answered_is_asked_again_from_the_incumbent_of_then() -> None:
    world = started(World(replace(CONFIG, proposers=2), slots=2))
    first, second = [each for each in world.in_flight if isinstance(each, Propose)]
    world.defer(first)
    world.propose(second, put("a", 0))
    world.settle()
    assert world.rows[2].reason is Reason.IMPROVED
    world.wake(world.asked(Wake))
    again = world.asked(Propose, first.brief.trial)
    assert (again.brief.parent, again.parent_commit) == (2, world.tip)


def test_a_repair_is_asked_again_as_it_was() -> None:
    world = started(World(replace(CONFIG, proposers=1), repairs=True))
    world.propose(world.asked(Propose), put("a", 0))
    world.apply(world.asked(Apply))
    world.measure(world.asked(Measure), Reason.EXIT)
    repair = world.asked(Propose, 1)
    assert repair.brief.repair is not None
    world.defer(repair)
    world.wake(world.asked(Wake))
    assert world.asked(Propose, 1).brief.repair == repair.brief.repair


def test_trials_that_wait_for_the_same_tree_end_once() -> None:
    world = started(World(replace(CONFIG, proposers=8, max_trials=6), slots=8))
    asked = [each for each in world.in_flight if isinstance(each, Propose)]
    assert len(asked) == 6
    for each in asked:
        world.propose(each, put("a", 1))
    world.settle()
    assert world.stopped == "--max-trials reached"
    assert [row.reason for row in world.rows.values()][2:] == [Reason.DUPLICATE] * 5


def test_money_that_is_spent_meanwhile_is_not_promised_again() -> None:
    """Two proposals of at most 0.5 for a ceiling of 1; one is not answered and costs something all the same."""
    world = started(World(replace(CONFIG, proposers=2, max_cost=1.0), cost_bound_usd=0.5, slots=2))
    first, second = [each for each in world.in_flight if isinstance(each, Propose)]
    world.in_flight.remove(first)
    world.spent_usd += 0.25
    world.tell(Deferred(first.brief.trial, "cut off", None, 0.25))
    world.wake(world.asked(Wake))
    assert [each.brief.trial for each in world.in_flight if isinstance(each, Propose)] == [second.brief.trial]
    world.propose(second, put("a", 1), 0.5)
    world.settle()
    assert world.stopped == "--max-cost reached"
    assert sorted(world.rows) == [0, 2]


def test_views_see_what_was_spent_on_trials_that_have_no_row_yet() -> None:
    world = started(World(replace(CONFIG, proposers=1), cost_bound_usd=0.5))
    first = world.asked(Propose)
    world.in_flight.remove(first)
    world.spent_usd += 0.25
    world.tell(Deferred(first.brief.trial, "cut off", None, 0.25))
    world.wake(world.asked(Wake))
    world.propose(world.asked(Propose), put("a", 1), 0.5)
    assert sorted(world.rows) == [0]
    assert world.run.snapshot().usage.cost_usd == 0.75
    assert world.run.snapshot().usage.tokens == 17


def test_a_repair_waits_for_its_turn_where_the_user_bounds_the_proposals() -> None:
    world = started(World(replace(CONFIG, proposers=1), repairs=True, slots=2))
    world.propose(world.asked(Propose), put("a", 0))
    world.apply(world.asked(Apply))
    other = world.asked(Propose)
    world.measure(world.asked(Measure), Reason.EXIT)
    assert world.asked(Propose) is other
    world.propose(other, put("a", 1))
    assert world.asked(Propose).brief.trial == 1, "a repair goes before new proposals"
