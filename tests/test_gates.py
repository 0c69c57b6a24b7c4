"""What a candidate passes beside its own number, as the state of a run sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from autoresearch.actions import Approve, Measure, Propose
from autoresearch.errors import UsageError
from autoresearch.events import SlotReady
from autoresearch.state.staging import ENOUGH
from autoresearch.trial import Outcome, Purpose, Reason
from tests.world import BASE, CONFIG, Tree, World, put, reasons

OTHERS = (Purpose.STANDIN, Purpose.HOLDOUT)


def memory(tree: Tree, action: Measure) -> Mapping[str, float]:
    """What `b` costs."""
    return {"peak_mb": 100.0 * tree[1]}


def settled(world: World) -> World:
    """With the baseline measured and the plan agreed to."""
    world.ready()
    world.settle()
    return world


def trial(world: World, path: str, number: int, purposes: list[tuple[Purpose, bool]] | None = None) -> int:
    """One candidate from proposal to end; what was run for it, and whether with checks, goes to `purposes`."""
    action = next(each for each in world.in_flight if isinstance(each, Propose))
    world.propose(action, put(path, number))
    while others := [each for each in world.in_flight if not isinstance(each, Propose)]:
        first = others[0]
        if isinstance(first, Measure) and first.request.trial == action.brief.trial and purposes is not None:
            purposes.append((first.purpose, bool(first.request.checks)))
        world.answer(first)
    return action.brief.trial


# Constraints.


def bounded(*texts: str, **changes: object) -> World:
    config = replace(CONFIG, constraint=texts, proposers=1, **changes)  # type: ignore[arg-type]
    return World(config, extra=memory)


def test_a_candidate_that_breaks_a_constraint_is_discarded_and_says_how() -> None:
    world = bounded("peak_mb <= baseline * 1.2")
    world.value = lambda tree, action: float(tree[0] - tree[1])
    settled(world)
    worse = trial(world, "a", 9)
    hungry = trial(world, "b", 4)
    good = trial(world, "a", 2)
    assert reasons(world.rows) == {worse: Reason.WORSE, hungry: Reason.CONSTRAINT, good: Reason.IMPROVED}
    row = world.rows[hungry]
    assert (row.outcome, row.value, row.n) == (Outcome.DISCARD, -1.0, 1)
    assert row.note == "peak_mb is 400, and peak_mb <= baseline * 1.2 asks for <= 360"


def test_one_run_over_a_noisy_bound_decides_nothing() -> None:
    """One screen that is over by less than noise goes on; the mean of the fresh runs is what counts."""
    seen: dict[str, list[float]] = {"base": [290.0, 300.0, 310.0], "lucky": [311.0, 290.0, 300.0]}

    def noisy(tree: Tree, action: Measure) -> Mapping[str, float]:
        values = seen["base" if tree == BASE else "lucky"]
        return {"peak_mb": values.pop(0) if len(values) > 1 else values[0]}

    world = replace(bounded("peak_mb <= 305"), extra=noisy)
    settled(world)
    assert reasons([world.rows[trial(world, "a", 2)]]) == {1: Reason.IMPROVED}
    seen["lucky"] = [304.0, 311.0, 312.0]
    again = world.rows[trial(world, "a", 1)]
    assert (again.reason, again.note) == (Reason.CONSTRAINT, "peak_mb is 307.5, and peak_mb <= 305 asks for <= 305")


def test_a_bound_on_the_metric_and_on_what_a_run_takes() -> None:
    world = settled(bounded("loss > 3", "wall-seconds <= 2 * baseline"))
    assert world.rows[trial(world, "a", 1)].reason is Reason.IMPROVED
    assert world.rows[trial(world, "b", 2)].reason is Reason.CONSTRAINT


def test_a_combination_that_breaks_a_constraint_does_not_land() -> None:
    """Each change keeps the bound alone; the second on top of the first does not."""
    world = World(replace(CONFIG, constraint=("sum <= 12",), proposers=2), slots=2)
    world.extra = lambda tree, action: {"sum": 6.0 if BASE in (tree, (3, tree[1])) or tree[1] == 3 else 13.0}
    settled(world)
    for action, path in zip([each for each in world.in_flight if isinstance(each, Propose)], "ab", strict=True):
        world.propose(action, put(path, 1))
    world.settle()
    first, second = world.rows[1], world.rows[2]
    assert {first.reason, second.reason} == {Reason.IMPROVED, Reason.CONSTRAINT}


def test_a_name_that_is_not_printed_is_said_before_the_run() -> None:
    with pytest.raises(UsageError) as caught:
        settled(bounded("peak_vram <= 9"))
    said = "the baseline does not print peak_vram; it has loss, peak_mb, wall_seconds, cpu_seconds, peak_rss_mb"
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["peak_mb <= 299", "peak_mb <= baseline - 1", "peak_mb < baseline / 0"])
def test_a_baseline_that_breaks_a_constraint_is_said_before_the_run(text: str) -> None:
    with pytest.raises(UsageError, match=r"the baseline breaks it: peak_mb is 300"):
        settled(bounded(text))


def test_a_baseline_that_breaks_one_on_average_ends_the_run() -> None:
    values = [300.0, 330.0, 340.0]
    world = replace(bounded("peak_mb <= 310"), extra=lambda tree, action: {"peak_mb": values.pop(0)})
    settled(world)
    assert world.stopped is not None and "the baseline breaks --constraint `peak_mb <= 310`" in world.stopped


# The stand-in.


def standing_in(world: World) -> World:
    """The stand-in prints ten times the metric, and knows nothing of what a `b` of 2 is good for."""
    world.config = replace(CONFIG, screen="quick", proposers=1)

    def value(tree: Tree, action: Measure) -> float | Reason:
        if action.purpose is Purpose.STANDIN:
            assert action.request.command == "quick"
            return 10.0 * sum(tree) + 100 * (tree[1] == 2)
        assert action.request.command == "show"
        return float(sum(tree))

    world.value = value
    return World(world.config, value=value)


def test_what_is_clearly_worse_on_the_stand_in_is_not_measured() -> None:
    world = settled(standing_in(World()))
    ran: list[tuple[Purpose, bool]] = []
    out = trial(world, "b", 2, ran)
    good = trial(world, "a", 2)
    assert ran == [(Purpose.STANDIN, False)]
    assert reasons(world.rows) == {out: Reason.SCREENED_OUT, good: Reason.IMPROVED}
    row = world.rows[out]
    assert (row.value, row.n, row.seconds) == (None, 0, world.seconds)
    assert row.note == "the stand-in gives 150, its parent's 60"
    assert world.noted["standin"] == {
        "agreement": None,
        "candidates": 1,
        "screened_out": 1,
        "poor": False,
        "left_out": False,
    }


def test_the_plan_is_shown_once_stand_in_and_holdout_are_known_to_work() -> None:
    world = World(replace(CONFIG, screen="quick", holdout="hidden"))
    world.ready()
    ran = []
    while not any(isinstance(each, Approve) for each in world.in_flight):
        action = world.asked(Measure)
        ran.append(action.purpose)
        world.measure(action)
    assert ran == [Purpose.BASELINE, *[Purpose.STANDIN] * 3, Purpose.HOLDOUT]


@pytest.mark.parametrize("flag", ["screen", "holdout"])
def test_a_command_that_fails_on_the_unchanged_code_is_said_before_the_run(flag: str) -> None:
    world = World(replace(CONFIG, **{flag: "quick"}))  # type: ignore[arg-type]
    world.value = lambda tree, action: Reason.EXIT if action.purpose in OTHERS else 1.0
    with pytest.raises(UsageError, match=f"--{flag}, on the unchanged code: the baseline failed: exit"):
        settled(world)


def test_a_stand_in_that_crashes_on_a_candidate_is_its_crash() -> None:
    world = settled(standing_in(World()))
    known = world.value
    world.value = lambda tree, action: Reason.EXIT if tree != BASE else known(tree, action)
    row = world.rows[trial(world, "a", 2)]
    assert (row.outcome, row.reason, row.tail) == (Outcome.CRASH, Reason.EXIT, "Traceback")


def test_a_poor_agreement_is_noted() -> None:
    """One that is upside down screens nothing out that is worse."""
    world = settled(replace(standing_in(World()), seconds=0.5))
    world.value = lambda tree, action: (
        -float(sum(tree)) if action.purpose is Purpose.STANDIN and tree != BASE else float(sum(tree))
    )
    for number in range(4, 26):
        trial(world, "a", number)
    fact = world.noted["standin"]
    assert (fact["agreement"], fact["candidates"], fact["poor"]) == (pytest.approx(-1.0), 22, True)


def test_a_stand_in_that_takes_as_long_as_the_measurement_is_left_out() -> None:
    world = settled(standing_in(World()))
    world.value = lambda tree, action: 60.0 if action.purpose is Purpose.STANDIN else float(sum(tree))
    for number in range(ENOUGH):
        trial(world, "a", 9 + number)
    assert world.noted["standin"]["left_out"]
    ran: list[tuple[Purpose, bool]] = []
    trial(world, "b", 2, ran)
    assert {purpose for purpose, _ in ran} == {Purpose.SCREEN, Purpose.CONFIRM}


def test_a_process_that_dies_under_a_stand_in_runs_it_again() -> None:
    world = settled(standing_in(World()))
    world.propose(world.asked(Propose), put("b", 2))
    while not any(isinstance(each, Measure) for each in world.in_flight):
        world.answer(next(each for each in world.in_flight if not isinstance(each, Propose)))
    world.kill_and_resume()
    world.tell(SlotReady(0))
    assert world.asked(Measure).purpose is Purpose.STANDIN
    world.settle()
    assert reasons(world.rows) == {1: Reason.SCREENED_OUT}


# Checks.


def test_a_tree_that_lands_has_passed_the_checks_once() -> None:
    world = settled(World(replace(CONFIG, check=("test",), proposers=1)))
    ran: list[tuple[Purpose, bool]] = []
    trial(world, "a", 2, ran)
    assert ran == [(Purpose.SCREEN, True), (Purpose.CONFIRM, False)]


def test_a_check_that_fails_names_itself() -> None:
    world = World(replace(CONFIG, check=("test",), proposers=1))
    world.value = lambda tree, action: 6.0 if tree == BASE else Reason.CHECKS_FAILED
    settled(world)
    row = world.rows[trial(world, "a", 2)]
    assert (row.outcome, row.reason, row.note) == (Outcome.DISCARD, Reason.CHECKS_FAILED, "Traceback")


@pytest.mark.parametrize("ordered", [False, True])
def test_slow_checks_that_hardly_reject_run_once_a_candidate_is_promising(ordered: bool) -> None:
    """Where a file fixes the trials the order stays: equal runs have equal rows."""
    world = World(replace(CONFIG, check=("test",), proposers=1), ordered=ordered, seconds=50.0, check_seconds=40.0)
    settled(world)
    for number in range(ENOUGH):
        trial(world, "a", 20 + number)
    ran: list[tuple[Purpose, bool]] = []
    trial(world, "a", 2, ran)
    assert ran == [(Purpose.SCREEN, ordered), (Purpose.CONFIRM, not ordered)]
    world.value = lambda tree, action: Reason.CHECKS_FAILED if action.request.checks else float(sum(tree))
    assert world.rows[trial(world, "a", 1)].reason is Reason.CHECKS_FAILED


# The holdout.


def held_out(**losses: float) -> World:
    """The holdout prints the metric, and more where `a` is one of these: `a1=9` adds 9."""

    def value(tree: Tree, action: Measure) -> float | Reason:
        if action.purpose is Purpose.HOLDOUT:
            assert action.request.command == "hidden"
            return sum(tree) + losses.get(f"a{tree[0]}", 0.0)
        return float(sum(tree))

    return World(replace(CONFIG, holdout="hidden", proposers=1), value=value)


def test_a_keep_that_loses_on_the_holdout_is_marked() -> None:
    world = settled(held_out(a1=9.0))
    kept = [trial(world, "a", number) for number in (2, 1, 0)]
    assert all(row.outcome is Outcome.KEEP for row in world.rows.values())
    fact = world.noted["holdout"]
    assert (fact["loses"], fact["measured"], fact["keeps"]) == ([kept[1]], 3, 3)
    assert fact["values"] == {"0": [6.0], "1": [5.0, 5.0], "2": [13.0, 13.0], "3": [3.0]}


def test_a_loss_within_noise_is_none() -> None:
    values = iter([6.0, 7.0, 5.0, 4.5])
    world = held_out()
    known = world.value
    world.value = lambda tree, action: next(values) if action.purpose is Purpose.HOLDOUT else known(tree, action)
    settled(world)
    trial(world, "a", 2)
    assert world.noted["holdout"]["values"] == {"0": [6.0, 4.5], "1": [7.0, 5.0]}
    assert world.noted["holdout"]["loses"] == []


def test_a_keep_on_which_the_holdout_fails_is_marked() -> None:
    world = held_out()
    known = world.value
    failing = {(2, 3)}
    world.value = lambda tree, action: (
        Reason.TIMEOUT if action.purpose is Purpose.HOLDOUT and tree in failing else known(tree, action)
    )
    settled(world)
    for number in (2, 1):
        trial(world, "a", number)
    fact = world.noted["holdout"]
    assert (fact["loses"], fact["failed"], fact["values"]) == ([1], {"1": "timeout"}, {"0": [6.0], "2": [4.0]})


def test_the_holdout_waits_for_all_other_work_and_is_taken_up_again() -> None:
    world = settled(held_out())
    proposal = world.asked(Propose)
    world.propose(proposal, put("a", 2))
    while world.run.population.incumbent == 0:
        world.answer(next(each for each in world.in_flight if not isinstance(each, Propose)))
    world.kill_and_resume()
    world.tell(SlotReady(0))
    assert [each.purpose for each in world.in_flight if isinstance(each, Measure)] == [Purpose.HOLDOUT]
    world.settle()
    assert world.noted["holdout"]["values"] == {"0": [6.0], "1": [5.0]}


def test_keeps_that_wait_for_the_holdout_are_measured_at_the_end_unless_the_user_stops_the_run() -> None:
    for asked in (False, True):
        world = held_out()
        world = settled(World(replace(world.config, max_trials=1), value=world.value))
        world.propose(world.asked(Propose), put("a", 2))
        while world.in_flight:
            action = world.in_flight[0]
            if isinstance(action, Measure) and action.purpose is Purpose.FINAL and asked and not world.asked_to_stop:
                world.stop()
            world.answer(action)
        assert world.stopped
        assert world.noted["holdout"]["measured"] == (0 if asked else 1)


def test_nothing_of_the_holdout_is_told_to_a_proposer() -> None:
    """Briefs are equal with and without it, but for the setting itself."""
    briefs = []
    for holdout in (None, "hidden"):
        world = held_out()
        world = World(replace(world.config, holdout=holdout), value=world.value)
        settled(world)
        trial(world, "a", 2)
        trial(world, "a", 1)
        brief = world.asked(Propose).brief
        history = [replace(row, ended_at=0.0) for row in brief.history]
        briefs.append(replace(brief, config=CONFIG, history=tuple(history)))
    assert briefs[0] == briefs[1]
