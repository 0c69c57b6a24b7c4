"""Pairs: both sides in one slot, one after the other, with equal seeds, by turns; and what makes one void."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle

import pytest

from autoresearch.actions import Land, Measure, Merge
from autoresearch.state.pairs import DISTURBED, REPEATED
from autoresearch.trial import Outcome, Purpose, Reason
from tests.world import CONFIG, Tree, World, begun, measuring, proposed, put, reasons

TIMED = replace(CONFIG, objective="minimize the run time", max_trials=1)
FOREIGN_CPUS = 2.0
"""What others use where they disturb."""


def timed(slots: int = 1, max_trials: int = 1, worth: float = 4.0) -> World:
    """The metric is a duration with a little noise: what is promising is confirmed in pairs."""
    noise = cycle([0.0, 0.2, -0.1, 0.1, -0.2])
    values = {(1, 3): worth, (0, 3): 3.0, (3, 1): 4.0, (1, 1): 2.0}

    def value(tree: Tree, action: Measure) -> float:
        return values.get(tree, 6.0) + next(noise)

    world = begun(World(replace(TIMED, max_trials=max_trials), value, slots=slots, shares_cpus=False))
    assert world.run.regime.paired
    return world


def sides(world: World, *, foreign_cpus: float = 0.0) -> list[tuple[str, int, int]]:
    """Answer trial 1's pairs until it ends or lands: (which side, slot, seed), as they began."""
    begun_sides = []
    while 1 in world.run.live and not any(isinstance(each, Land) for each in world.in_flight):
        action = next(each for each in world.in_flight if isinstance(each, Measure))
        if of_pair(world, action):
            side = "candidate" if action.purpose is Purpose.CONFIRM else "incumbent"
            begun_sides.append((side, action.slot, action.request.seed))
        world.measure(action, foreign_cpus=foreign_cpus)
    return begun_sides


def test_both_sides_are_measured_in_one_slot_with_equal_seeds_and_take_turns_to_begin() -> None:
    world = timed()
    proposed(world, 1, put("a", 1))
    seen = sides(world)
    assert [side for side, _, _ in seen] == ["incumbent", "candidate", "candidate", "incumbent"]
    seeds = [seed for _, _, seed in seen]
    assert seeds[0] == seeds[1] != seeds[2] == seeds[3]
    world.settle()
    assert (world.rows[1].outcome, world.rows[1].n) == (Outcome.KEEP, 3)


def test_pairs_are_dealt_over_free_slots() -> None:
    world = timed(slots=2)
    proposed(world, 1, put("a", 1))
    assert {slot for _, slot, _ in sides(world)} == {0, 1}


def begin_pairs(world: World, trial: int = 1) -> None:
    """The screen is answered, and whatever goes before the pairs."""
    world.measure(measuring(world, trial))
    while anchors := [each for each in world.in_flight if isinstance(each, Measure) and not of_pair(world, each)]:
        world.measure(anchors[0])


def of_pair(world: World, action: Measure) -> bool:
    work = world.run.slots.states[action.slot].work
    return work is not None and bool(work.against)


def test_a_kill_in_the_middle_of_a_pair_loses_only_that_pair() -> None:
    world = timed()
    proposed(world, 1, put("a", 1))
    begin_pairs(world)
    for _ in range(3):
        world.measure(world.asked(Measure))
    assert len(world.run.live[1].beside) == 1
    world.kill_and_resume()
    assert len(world.run.live[1].beside) == 1
    world.ready()
    world.settle()
    assert world.rows[1].reason is Reason.IMPROVED


def test_a_run_that_drains_in_the_middle_of_a_pair_has_nothing_against_the_candidate() -> None:
    """The first side is the incumbent: that the candidate has no value then is not its fault."""
    world = timed()
    proposed(world, 1, put("a", 1))
    begin_pairs(world)
    assert world.asked(Measure).commit == "base"
    world.stop()
    world.measure(world.asked(Measure))
    assert (world.stopped, sorted(world.rows)) == ("Ctrl-C", [0])
    world.kill_and_resume()
    world.ready()
    world.settle()
    assert reasons(world.rows) == {1: Reason.IMPROVED}


def test_a_candidate_that_fails_beside_the_incumbent_is_a_crash() -> None:
    world = timed()
    proposed(world, 1, put("a", 1))
    begin_pairs(world)
    world.measure(world.asked(Measure))
    world.measure(world.asked(Measure), Reason.EXIT)
    assert world.rows[1].reason is Reason.EXIT


def test_an_incumbent_that_fails_beside_it_three_times_leaves_it_unconfirmed() -> None:
    world = timed()
    proposed(world, 1, put("a", 1))
    begin_pairs(world)
    for _ in range(3):
        assert world.asked(Measure).commit == "base"
        world.measure(world.asked(Measure), Reason.EXIT)
    assert (world.rows[1].reason, world.rows[1].note) == (
        Reason.UNCONFIRMED,
        "the incumbent could not be measured beside it",
    )


def test_a_pair_that_others_disturb_is_repeated_in_its_place() -> None:
    world = timed(worth=5.7)
    proposed(world, 1, put("a", 1))
    begin_pairs(world)
    for _ in range(2):
        world.measure(world.asked(Measure), foreign_cpus=FOREIGN_CPUS)
    assert (world.run.live[1].disturbed, world.run.live[1].beside) == (1, ())
    begun_sides = [side for side, _, _ in sides(world)]
    assert begun_sides[:6] == ["incumbent", "candidate", "candidate", "incumbent", "incumbent", "candidate"]
    world.settle()
    assert world.rows[1].note == ""


def test_after_four_disturbed_pairs_further_ones_count_and_the_trial_says_so() -> None:
    world = timed()
    proposed(world, 1, put("a", 1))
    seen = sides(world, foreign_cpus=FOREIGN_CPUS)
    assert len(seen) == 2 * (REPEATED + 2)
    world.settle()
    assert (world.rows[1].outcome, world.rows[1].note) == (Outcome.KEEP, DISTURBED)


@pytest.mark.parametrize("second", [False, True])
def test_a_pair_that_is_under_way_when_another_lands_says_nothing_of_the_new_incumbent(second: bool) -> None:
    world = timed(slots=4, max_trials=2)
    proposed(world, 1, put("a", 1))
    proposed(world, 2, put("b", 1))
    for trial in (1, 2):
        world.measure(measuring(world, trial))
    for each in [each for each in world.in_flight if isinstance(each, Measure) and not not_of(world, each, trial=2)]:
        if second:
            world.measure(each)
    while not any(isinstance(each, Land) for each in world.in_flight):
        mine = [each for each in world.in_flight if isinstance(each, Measure) and not_of(world, each, trial=2)]
        world.measure(mine[0])
    running = [each for each in world.in_flight if isinstance(each, Measure) and of_pair(world, each)]
    assert running
    world.land(world.asked(Land))
    landed = world.run.incumbent_tree
    before = list(world.run.archive.pools.get(landed, []))
    for each in running:
        world.measure(each)
    assert world.run.archive.pools.get(landed, []) == before
    world.settle()
    assert reasons(world.rows) == {1: Reason.IMPROVED, 2: Reason.IMPROVED}
    assert world.trees[world.tip] == (1, 1)


def test_a_pair_with_an_older_incumbent_is_not_begun_again_when_its_machine_fails() -> None:
    world = timed(slots=4, max_trials=2)
    proposed(world, 1, put("a", 1))
    proposed(world, 2, put("b", 1))
    for trial in (1, 2):
        world.measure(measuring(world, trial))
    while not any(isinstance(each, Land) for each in world.in_flight):
        mine = [each for each in world.in_flight if isinstance(each, Measure) and not_of(world, each, trial=2)]
        world.measure(mine[0])
    world.land(world.asked(Land))
    for each in [each for each in world.in_flight if isinstance(each, Measure) and of_pair(world, each)]:
        world.lose(each)
    world.settle()
    assert reasons(world.rows) == {1: Reason.IMPROVED, 2: Reason.IMPROVED}


def test_pairs_with_an_older_incumbent_do_not_count_for_a_candidate_that_competes_alone() -> None:
    """Trial 2 conflicts with trial 1; it has a pair with that one when trial 3 lands."""
    world = timed(slots=6, max_trials=3)
    world.run.archive.confirmations = replace(world.run.archive.confirmations, ended=20)  # several at a time
    for trial, change in ((1, put("a", 1)), (2, put("a", 0)), (3, put("b", 1))):
        proposed(world, trial, change)
    for trial in (1, 2, 3):
        world.measure(measuring(world, trial))
    land(world, 1)
    for each in measures(world):
        world.measure(each)
    world.merge(world.asked(Merge, 2))
    world.merge(world.asked(Merge, 3))
    while not world.run.live[2].beside:
        world.measure(next(each for each in measures(world) if not not_of(world, each, trial=2)))
    assert world.run.live[2].alone
    land(world, 3)
    assert (world.run.live[2].fresh, world.run.live[2].beside) == ((), ())
    world.settle()
    assert world.trees[world.tip] == (1, 1)


def land(world: World, trial: int) -> None:
    """Its pairs end, no other's; it lands."""
    while not any(isinstance(each, Land) for each in world.in_flight):
        world.measure(next(each for each in measures(world) if not not_of(world, each, trial=trial)))
    world.land(world.asked(Land, trial))


def measures(world: World) -> list[Measure]:
    return [each for each in world.in_flight if isinstance(each, Measure)]


def not_of(world: World, action: Measure, *, trial: int) -> bool:
    work = world.run.slots.states[action.slot].work
    return work is None or work.trial != trial


def test_values_without_the_incumbent_beside_them_do_not_count_once_pairs_are_asked_for() -> None:
    """The metric is a duration that was the same each time, until a candidate's second value is another."""
    noise = cycle([4.0, 4.1])
    world = World(TIMED, lambda tree, _: next(noise) if tree == (1, 3) else 6.0, shares_cpus=False)
    proposed(begun(world), 1, put("a", 1))
    world.measure(world.asked(Measure))
    world.measure(world.asked(Measure))
    assert world.run.regime.paired
    assert (world.run.live[1].fresh, world.run.live[1].pending) == ((), 2)
    world.settle()
    assert (world.rows[1].reason, world.rows[1].n) == (Reason.IMPROVED, 4)
