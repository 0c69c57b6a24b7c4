"""How candidates are compared follows from the noise: with a pool, in pairs, one at a time; and the run says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import cycle
from random import Random
from types import MappingProxyType
from typing import Any

from autoresearch.actions import Measure, Propose
from autoresearch.config import RunConfig
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.noise import FACT
from autoresearch.state import regime
from autoresearch.trial import Outcome, Purpose, Reason
from tests.world import BASE, CONFIG, Tree, Value, World, begun, proposed, put


def gaussian(seed: int = 1, spread: float = 0.1) -> Value:
    """Every tree is worth the same."""
    random = Random(seed)
    return lambda tree, action: 6.0 + random.gauss(0.0, spread)


def measurements(world: World) -> Iterator[Measure]:
    """Whatever is measured, until nothing is; changes are asked for without end."""
    change = iter([put(path, number) for number in range(100, 1000) for path in "ab"])
    while (action := next(iter(world.in_flight), None)) and world.stopped is None:
        if isinstance(action, Propose):
            world.propose(action, next(change))
        elif isinstance(action, Measure):
            yield action
            if action in world.in_flight:
                world.answer(action)
        else:
            world.answer(action)


def said(world: World) -> dict[str, Any]:
    """What views know of the noise."""
    fact: dict[str, Any] = world.noted[FACT]
    return fact


def purposes(world: World) -> list[Purpose]:
    return [action.purpose for action in measurements(world)]


def test_about_one_run_in_eight_is_a_fresh_run_of_the_incumbent() -> None:
    seen = purposes(ready(gaussian(), 120))
    counted = [each for each in seen if each in (Purpose.SCREEN, Purpose.CONFIRM, Purpose.ANCHOR)]
    assert 1 / 9 <= counted.count(Purpose.ANCHOR) / len(counted) <= 1 / 6


def ready(value: Value, max_trials: int, slots: int = 4, config: RunConfig = CONFIG, **changes: Any) -> World:
    world = World(replace(config, max_trials=max_trials), value, slots=slots, **changes)
    world.ready()
    return world


def test_where_the_metric_is_deterministic_the_incumbent_is_not_measured_again() -> None:
    assert Purpose.ANCHOR not in purposes(ready(lambda tree, _: float(sum(tree)), 40))


def test_a_deterministic_baseline_is_not_measured_alone() -> None:
    seen = purposes(ready(lambda tree, _: float(sum(tree)), 1))
    assert seen[:4] == [Purpose.BASELINE] * 4 and Purpose.SOLO not in seen


def test_a_metric_is_noisy_from_its_first_disagreement_on_and_the_run_says_so() -> None:
    values = {(1, 3): cycle([5.0, 5.5])}
    world = begun(World(replace(CONFIG, max_trials=1), lambda tree, _: next(values.get(tree, cycle([6.0])))))
    assert said(world)["kind"] == "deterministic"
    proposed(world, 1, put("a", 1))
    world.measure(world.asked(Measure))
    world.measure(world.asked(Measure))
    assert (said(world)["kind"], world.run.archive.noise.dof) == ("noisy", 3)
    world.settle()
    assert world.rows[1].n >= 3


def test_an_incumbent_that_disagrees_with_itself_makes_it_noisy_too() -> None:
    world = begun(World(replace(CONFIG, max_trials=1)))
    world.run.archive.measured(str(BASE), 7.0, 0)
    proposed(world, 1, put("a", 1))
    assert said(world)["kind"] == "noisy"


def test_a_duration_that_was_the_same_each_time_is_time_like_once_it_is_not() -> None:
    noise = cycle([5.0, 5.5])
    config = replace(CONFIG, objective="minimize the run time", max_trials=1)
    world = begun(World(config, lambda tree, _: next(noise) if tree == (1, 3) else 6.0))
    assert said(world)["kind"] == "deterministic"
    proposed(world, 1, put("a", 1))
    world.settle()
    assert (said(world)["kind"], said(world)["paired"]) == ("time-like", True)


def test_the_spread_is_told_again_when_twice_as_much_is_known_of_it() -> None:
    world = ready(gaussian(), 60)
    told = {said(world)["dof"] for _ in measurements(world) if FACT in world.noted}
    assert min(told) <= 4 and 4 <= len(told) <= 8
    assert max(told) > world.run.archive.noise.dof / 2


def test_slots_that_differ_ask_for_pairs() -> None:
    random = Random(2)
    world = ready(lambda tree, action: 6.0 + 2.0 * action.slot + random.gauss(0, 0.05), 120)
    against = 0
    for action in measurements(world):
        work = world.run.slots.states[action.slot].work
        against += work is not None and bool(work.against)
    assert said(world)["slots_differ"] and said(world)["paired"]
    assert against > 0
    assert world.run.population.kept == [0]


def test_values_that_drift_ask_for_pairs() -> None:
    random = Random(2)
    start = 1000.0
    world = World(replace(CONFIG, max_trials=150), slots=4)
    world.value = lambda tree, action: 6.0 + 0.01 * (world.at - start) + random.gauss(0, 0.05)
    world.ready()
    purposes(world)
    assert said(world)["drifts"] and said(world)["paired"]


def loaded(
    spread: float, worth: Mapping[Tree, float] = MappingProxyType({(1, 3): 4.0}), cost: float = 3.0, max_trials: int = 1
) -> World:
    """Other measurements cost each one something; under them a value is spread as widely as said."""
    noise = Random(3)
    world = World(replace(CONFIG, max_trials=max_trials), slots=4)

    def value(tree: Tree, action: Measure) -> float:
        work = world.run.slots.states[action.slot].work
        alone = world.run.regime.exclusive or (work is not None and work.alone)
        quiet = worth.get(tree, 6.0) + noise.gauss(0, 0.05)
        return quiet if alone else quiet + cost + noise.gauss(0, spread)

    world.value = value
    return world


def test_a_baseline_that_load_changes_is_time_like_and_confirmed_while_nothing_else_is_measured() -> None:
    world = begun(loaded(0.05))
    assert (said(world)["kind"], said(world)["alone"], said(world)["exclusive"]) == ("time-like", True, False)
    assert world.rows[0].value is not None and abs(world.rows[0].value - 6.0) < 0.2
    proposed(world, 1, put("a", 1))
    world.settle()
    row = world.rows[1]
    assert (row.outcome, row.reason) == (Outcome.KEEP, Reason.IMPROVED)
    assert row.value is not None and abs(row.value - 4.0) < 0.2
    assert row.delta is not None and abs(row.delta - 2.0) < 0.3
    assert world.run.best == row.value


def test_a_screen_beside_others_is_not_compared_with_what_was_measured_alone() -> None:
    """Trial 2 conflicts with what landed: its screen of 7.5 is a promise, though that was confirmed at 4."""
    world = loaded(0.05, {(1, 3): 4.0, (0, 3): 2.0}, max_trials=2)
    quiet = world.value
    world.value = lambda tree, action: (
        7.5 if (tree, action.purpose) == ((0, 3), Purpose.SCREEN) else quiet(tree, action)
    )
    begun(world)
    proposed(world, 1, put("a", 1))
    proposed(world, 2, put("a", 0))
    world.settle()
    assert [world.rows[trial].reason for trial in (1, 2)] == [Reason.IMPROVED, Reason.REPLACED]


def test_where_load_distorts_beyond_use_everything_is_measured_one_at_a_time() -> None:
    world = begun(loaded(2.0, cost=30.0))
    assert (said(world)["exclusive"], said(world)["alone"]) == (True, False)
    assert world.run.archive.noise.stdev < 0.2
    proposed(world, 1, put("a", 1))
    world.settle()
    assert world.rows[1].outcome is Outcome.KEEP
    assert world.rows[1].value is not None and world.rows[1].value < 5.0


def test_what_was_screened_beside_others_is_screened_again_one_at_a_time() -> None:
    """Trial 1 is screened while the last baseline is still measured: that value is 30 too high."""
    world = loaded(2.0, cost=30.0)
    world.ready()
    world.measure(world.asked_in(0))
    world.approve()
    proposed(world, 1, put("a", 1))
    screen = next(each for each in world.in_flight if isinstance(each, Measure) and each.purpose is Purpose.SCREEN)
    world.measure(screen)
    assert world.run.live[1].screen is not None and world.run.live[1].screen > 20.0
    world.settle()
    assert world.run.regime.exclusive
    assert world.rows[1].outcome is Outcome.KEEP


def test_exclusive_on_measures_one_at_a_time_from_the_first_baseline_on_and_off_never() -> None:
    world = World(replace(CONFIG, exclusive="on", max_trials=1), slots=4)
    world.ready()
    assert len([each for each in world.in_flight if isinstance(each, Measure)]) == 1
    off = loaded(2.0, cost=30.0)
    off.run.given = replace(off.run.given, config=replace(off.config, exclusive="off"))
    begun(off)
    assert not off.run.regime.exclusive


def test_one_at_a_time_holds_for_the_holdout_of_keeps_too() -> None:
    """Both keeps lose on it, so that several are measured again at the end; the world holds the law."""

    def value(tree: Tree, action: Measure) -> float:
        return 10.0 - sum(tree) if action.purpose is Purpose.HOLDOUT else float(sum(tree))

    world = begun(World(replace(CONFIG, exclusive="on", holdout="hidden", max_trials=2), value, slots=3))
    proposed(world, 1, put("a", 1))
    proposed(world, 2, put("b", 1))
    world.settle()
    assert [row.outcome for row in world.rows.values()] == [Outcome.KEEP] * 3
    assert world.stopped == "--max-trials reached"


def test_what_speaks_of_time() -> None:
    def speaks(objective: str, reader: Reader, name: str = "") -> bool:
        world = World(replace(CONFIG, objective=objective))
        world.run.baseline.metric = Metric(name, Direction.MINIMIZE, reader)
        return regime.speaks_of_time(world.run)

    number = Reader(ReaderKind.NUMBER)
    assert speaks("minimize the run time", number)
    assert not speaks("minimize val_bpb", number)
    assert speaks("make it better", Reader(ReaderKind.RESOURCE, "wall_s"))
    assert not speaks("make it smaller", Reader(ReaderKind.RESOURCE, "peak_rss_mb"))


def test_a_gain_ten_times_the_largest_or_an_exact_nothing_is_implausible() -> None:
    world = begun(World(replace(CONFIG, max_trials=3)))
    proposed(world, 1, put("a", 2))
    live = replace(world.run.live[1], screen=0.0)
    assert regime.implausible(world.run, live)
    world.settle()
    assert world.run.archive.confirmations.largest_gain == 1.0
    proposed(world, 2, put("b", 0))
    live = world.run.live[2]
    assert not regime.implausible(world.run, replace(live, screen=-4.0))
    assert regime.implausible(world.run, replace(live, screen=-6.0))
    beside = replace(live, screen=-6.0, fresh=(-6.0,), beside=(-5.0,))
    assert not regime.implausible(world.run, beside), "it is what was measured beside it that counts"


def test_a_baseline_that_cannot_be_measured_alone_is_not_tried_again() -> None:
    world = loaded(0.05)
    world.ready()
    for action in measurements(world):
        if action.purpose is Purpose.SOLO:
            world.measure(action, Reason.EXIT)
            break
    assert world.run.regime.solo_done and not world.run.regime.time_like
