"""The merge queue: what is confirmed, in which order, and against which incumbent."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle

from autoresearch.actions import Land, Measure, Merge
from autoresearch.state import confirming
from autoresearch.trial import Outcome, Purpose, Reason
from tests.world import CONFIG, Tree, Value, World, begun, measuring, proposed, put, reasons


def jittery(worth: Value) -> Value:
    """What trees are worth, and a little noise."""
    noise = cycle([0.0, 0.2, -0.1, 0.1])

    def value(tree: Tree, action: Measure) -> float | Reason:
        found = worth(tree, action)
        return found if isinstance(found, Reason) else found + next(noise)

    return value


def two(a: object, b: object, worth: dict[Tree, float]) -> World:
    """Two candidates are screened side by side, and all that follows is answered."""
    world = begun(World(replace(CONFIG, max_trials=2), jittery(lambda tree, _: worth.get(tree, 6.0)), slots=4))
    proposed(world, 1, put(str(a), 1))
    proposed(world, 2, put(str(b), 1 if a != b else 0))
    world.settle()
    return world


def test_a_lucky_spike_is_not_kept() -> None:
    def spike(tree: Tree, action: Measure) -> float:
        return 1.0 if action.purpose is Purpose.SCREEN else 6.0

    world = begun(World(replace(CONFIG, max_trials=1), jittery(spike)))
    proposed(world, 1, put("a", 1))
    world.settle()
    assert reasons(world.rows) == {1: Reason.UNCONFIRMED}
    assert (world.tip, world.rows[1].value != 1.0) == ("base", True)


def test_of_two_changes_that_cancel_one_lands() -> None:
    world = two("a", "b", {(1, 3): 4.0, (3, 1): 4.0, (1, 1): 6.0})
    assert sorted(reasons(world.rows).values()) == [Reason.IMPROVED, Reason.SUPERSEDED]
    assert world.trees[world.tip] in [(1, 3), (3, 1)]


def test_of_two_changes_that_add_up_both_land_the_second_measured_on_top_of_the_first() -> None:
    world = two("a", "b", {(1, 3): 4.0, (3, 1): 4.0, (1, 1): 2.0})
    assert reasons(world.rows) == {1: Reason.IMPROVED, 2: Reason.IMPROVED}
    first, second = world.landings
    assert world.trees[second.candidate] == (1, 1)
    assert world.sits_on[second.candidate] == world.run.commit_of(first.trial)
    fresh = [value for purpose, value in world.values[second.trial, (1, 1)] if purpose is Purpose.CONFIRM]
    assert len(fresh) >= 2 and max(fresh) < 3.0


def test_a_candidate_that_conflicts_and_is_better_alone_replaces() -> None:
    world = two("a", "a", {(1, 3): 4.0, (0, 3): 1.0})
    assert world.trees[world.tip] == (0, 3)
    assert reasons(world.rows)[2] in (Reason.IMPROVED, Reason.REPLACED)
    worse = two("a", "a", {(1, 3): 1.0, (0, 3): 4.0})
    assert (worse.trees[worse.tip], reasons(worse.rows)[2]) == ((1, 3), Reason.CONFLICT)


def test_after_a_landing_nothing_is_decided_against_the_old_incumbent() -> None:
    """Trial 2 has one fresh run to come when trial 1 lands; its row compares it with what landed."""
    worth = {(1, 3): 2.0, (3, 1): 4.0, (1, 1): 2.0}
    world = begun(World(replace(CONFIG, max_trials=2), jittery(lambda tree, _: worth.get(tree, 6.0)), slots=6))
    proposed(world, 1, put("a", 1))
    proposed(world, 2, put("b", 1))
    for trial in (1, 2):
        world.measure(measuring(world, trial))
    settle_until_landing(world)
    late = [each for each in world.in_flight if isinstance(each, Measure) and each.request.trial == 2]
    world.land(world.asked(Land))
    assert world.rows[1].outcome is Outcome.KEEP
    for each in late:
        world.measure(each)
        assert 2 in world.run.live, "decided on values that were compared with the baseline"
    world.settle()
    assert world.rows[2].outcome is Outcome.DISCARD
    assert [each.trial for each in world.landings] == [1]


def settle_until_landing(world: World) -> None:
    """Trial 2 is measured no further than it must be."""
    while not any(isinstance(each, Land) for each in world.in_flight):
        others = [each for each in world.in_flight if isinstance(each, Measure | Merge)]
        ready = [each for each in others if not (isinstance(each, Measure) and each.request.trial == 2)]
        world.answer((ready or others)[0])


def test_a_shorter_candidate_that_is_equal_goes_on_when_another_lands_beside_it() -> None:
    """It gains nothing, and that is no reason to drop it: fewer lines are."""
    worth = {(1, 3): 2.0, (3, 1): 6.0, (1, 1): 2.0}
    world = begun(World(replace(CONFIG, max_trials=2), lambda tree, _: worth.get(tree, 6.0), slots=6))
    proposed(world, 1, put("a", 1))
    proposed(world, 2, put("b", 1))
    world.measure(measuring(world, 1))
    world.measure(measuring(world, 2))
    world.measure(measuring(world, 1))
    world.measure(measuring(world, 2))
    world.settle()
    assert reasons(world.rows) == {1: Reason.IMPROVED, 2: Reason.SIMPLIFIED}
    assert world.trees[world.tip] == (1, 1)


def test_a_screen_of_exactly_nothing_promises_as_much_as_any() -> None:
    world = begun(World(replace(CONFIG, max_trials=1)))
    proposed(world, 1, put("a", 1))
    confirming.join(world.run, replace(world.run.live[1], screen=0.0, compared=6.0))
    assert world.run.live[1].promise == confirming.SHRUNK * 6.0
