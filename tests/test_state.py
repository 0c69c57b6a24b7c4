"""The state of a run, told anything in any order: what must hold after every event, and at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.actions import Action, Apply, Approve, Land, MakeCanary, Measure, Merge, Propose, Wake
from autoresearch.events import SlotsComplete
from autoresearch.noise import Noise
from autoresearch.trial import Change, Outcome, Purpose, Reason
from tests.world import BASE, CONFIG, Tree, World, begun, measuring, proposed, put, reasons

COST_USD = 0.25
"""What a proposal costs at most."""


@dataclass(frozen=True)
class Setting:
    """What a night is like."""

    seed: int
    slots: int = 2
    proposers: int | None = None
    repeats: int | None = None
    repairs: bool = False
    ordered: bool = False
    noisy: bool = False
    baseline_only: bool = False
    max_trials: int | None = 8
    max_cost: float | None = None
    max_time: float | None = None
    patience: int | None = None
    target: float | None = None
    feedback: bool = False
    canary_files: int = 0
    """How many files the scope has, where there is a canary."""
    gated: bool = False
    """There are checks, a constraint, a stand-in and a holdout."""
    timed: bool = False
    """The metric is a duration."""
    shares_cpus: bool = True
    exclusive: str = "auto"
    load: float = 0.0
    """By how much other measurements change a value."""
    uneven: float = 0.0
    """By how much a slot differs from the one before it."""
    drift: float = 0.0
    """By how much values change in a second."""
    foreign: float = 0.0
    """How often others use the machine."""
    trouble: float = 0.1
    """How often something goes wrong."""
    deaths: int = 0
    """How often the process dies."""


SETTINGS = st.builds(
    Setting,
    seed=st.integers(0, 2**32),
    slots=st.sampled_from([1, 2, 8]),
    proposers=st.sampled_from([None, 1, 3]),
    repeats=st.sampled_from([None, None, 1, 3]),
    repairs=st.booleans(),
    ordered=st.booleans(),
    noisy=st.booleans(),
    baseline_only=st.sampled_from([False] * 9 + [True]),
    max_trials=st.sampled_from([None, 1, 5, 12]),
    max_cost=st.sampled_from([None, None, 1.0]),
    max_time=st.sampled_from([None, None, 30.0]),
    patience=st.sampled_from([None, None, 2, 4]),
    target=st.sampled_from([None, None, 3.0]),
    feedback=st.booleans(),
    canary_files=st.sampled_from([0, 1, 2]),
    gated=st.booleans(),
    timed=st.sampled_from([False, False, True]),
    shares_cpus=st.booleans(),
    exclusive=st.sampled_from(["auto", "auto", "off", "on"]),
    load=st.sampled_from([0.0, 0.0, 0.25, 2.0]),
    uneven=st.sampled_from([0.0, 0.0, 0.5]),
    drift=st.sampled_from([0.0, 0.0, 0.05]),
    foreign=st.sampled_from([0.0, 0.3, 1.0]),
    trouble=st.sampled_from([0.0, 0.1, 0.3]),
    deaths=st.integers(0, 3),
)


class Night:
    """Plays the world at random until the run stops."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.random = Random(repr(setting))
        self.deaths = setting.deaths
        self.lines = 15
        """How many proposals there are before they are exhausted."""
        self.table: dict[Tree, float | Reason] = {BASE: 6.0}
        config = replace(
            CONFIG,
            proposers=setting.proposers,
            repeats=setting.repeats,
            max_trials=setting.max_trials,
            max_cost=setting.max_cost,
            max_time=setting.max_time,
            patience=setting.patience,
            target=setting.target,
            feedback="profile" if setting.feedback else None,
            exclusive=setting.exclusive,
            objective="minimize the run time" if setting.timed else "minimize loss",
        )
        if setting.gated:
            gates = {"check": ("test",), "constraint": ("mfu >= 0.4",), "screen": "quick", "holdout": "hidden"}
            config = replace(config, **gates)  # type: ignore[arg-type]
        self.world = World(
            config,
            self._value,
            extra=self._extra,
            repairs=setting.repairs and not setting.ordered,
            ordered=setting.ordered,
            cost_bound_usd=0.0 if setting.max_cost is None else COST_USD,
            baseline_only=setting.baseline_only,
            canary_files=("a", "b")[: setting.canary_files],
            slots=setting.slots,
            shares_cpus=setting.shares_cpus,
        )
        self.to_come = list(range(setting.slots))

    def play(self) -> World:
        for _ in range(3000):
            if self.world.stopped is not None:
                if self.world.run.slots.lost or not self._resumes():
                    return self.world
            else:
                self._step()
        raise AssertionError("the run does not end")

    def _step(self) -> None:
        world, run = self.world, self.world.run
        if self.to_come and (not world.in_flight or self._happens(0.5)):
            world.slot_ready(self.to_come.pop(self.random.randrange(len(self.to_come))))
            if not self.to_come and world.stopped is None:
                world.tell(SlotsComplete())
        elif self.deaths and run.baseline.approved and self._happens(0.04):
            self._die()
        elif self._happens(self.setting.trouble / 20) and not run.stopping:
            world.stop()
        elif world.cancelled and self._happens(0.3):
            world.propose_late(self.random.choice(world.cancelled), self._cost())
        else:
            urgent = [each for each in world.in_flight if not isinstance(each, Wake)]
            wakes = sorted((each for each in world.in_flight if isinstance(each, Wake)), key=lambda wake: wake.at)
            self._answer(self.random.choice(urgent) if urgent and not (wakes and self._happens(0.1)) else wakes[0])

    def _resumes(self) -> bool:
        if not self.deaths or not self.world.run.baseline.approved or self.setting.baseline_only:
            return False
        self._die()
        return True

    def _die(self) -> None:
        self.deaths -= 1
        world = self.world
        landing = [each for each in world.in_flight if isinstance(each, Land)]
        if landing and self._happens(0.5):
            world.move_branch(landing[0])
        more = self.random.choice([0, 0, 4])
        most = None if world.config.max_trials is None else world.config.max_trials + more
        world.kill_and_resume(max_trials=most)
        self.lines += more
        self.to_come = list(range(self.setting.slots))

    def _answer(self, action: Action) -> None:
        world = self.world
        match action:
            case Propose():
                self._propose(action)
            case Apply() if self._trouble():
                world.reject(action)
            case Measure(purpose=Purpose.BASELINE) if world.run.baseline.good and self._trouble():
                world.measure(action, Reason.EXIT)
            case Measure() if self._happens(self.setting.trouble / 4):
                world.lose(action)
            case Measure(purpose=Purpose.STANDIN | Purpose.HOLDOUT) if world.run.baseline.approved and self._trouble():
                world.measure(action, Reason.EXIT)
            case Measure(purpose=Purpose.CONFIRM | Purpose.ANCHOR) if self._trouble():
                world.measure(action, self.random.choice([Reason.TIMEOUT, Reason.CHECKS_FAILED, 4.5]))
            case Measure():
                world.measure(action, foreign_cpus=3.0 if self._happens(self.setting.foreign) else 0.0)
            case MakeCanary() | Apply() | Approve() | Merge() | Land() | Wake():
                world.answer(action)
            case _:
                raise AssertionError(action)

    def _propose(self, action: Propose) -> None:
        world, number = self.world, action.brief.trial
        own = Random(f"{self.setting.seed} {number}") if self.setting.ordered else self.random
        if number > self.lines:
            world.exhaust(action)
        elif self._happens(self.setting.trouble / 2):
            world.defer(action, self.random.choice([None, 5.0]))
        elif self._trouble():
            world.fail_to_propose(action, self._cost())
        else:
            change = put(own.choice("ab"), own.randrange(5))
            if own.random() < 0.3:
                change = Change(change.hypothesis, change.edits + put(own.choice("ab"), own.randrange(5)).edits)
            parent = (
                own.randrange(number + (own.random() < 0.1)) if self.setting.ordered and own.random() < 0.5 else None
            )
            world.propose(action, change, self._cost(), parent)

    def _value(self, tree: Tree, action: Measure) -> float | Reason:
        if tree not in self.table:
            own = Random(f"{self.setting.seed} {tree}")
            self.table[tree] = own.choice([2.0, 3.0, 4.0, 5.0, 5.0, 6.0, 6.0, 7.0, Reason.EXIT, Reason.CHECKS_FAILED])
        value = self.table[tree]
        if value is Reason.CHECKS_FAILED and self.setting.gated and not action.request.checks:
            value = 4.0
        noise = self.random.choice([-0.5, 0.0, 0.25]) if self.setting.noisy else 0.0
        return value if isinstance(value, Reason) else value + noise + self._disturbance(action)

    def _disturbance(self, action: Measure) -> float:
        setting, world = self.setting, self.world
        work = world.run.slots.states[action.slot].work
        alone = setting.slots == 1 or world.run.regime.exclusive or (work is not None and work.alone)
        seconds = world.at - world.stored[0].at
        return (0.0 if alone else setting.load) + setting.uneven * action.slot + setting.drift * seconds

    def _extra(self, tree: Tree, action: Measure) -> Mapping[str, float]:
        own = Random(f"{self.setting.seed} mfu {tree}")
        base = 0.5 if tree == BASE else own.choice([0.3, 0.39, 0.41, 0.5, 0.5])
        return {"mfu": base + (self.random.choice([-0.02, 0.0, 0.02]) if self.setting.noisy else 0.0)}

    def _cost(self) -> float:
        return 0.0 if self.setting.max_cost is None else self.random.choice([0.0, COST_USD / 2, COST_USD])

    def _trouble(self) -> bool:
        return self._happens(self.setting.trouble)

    def _happens(self, probability: float) -> bool:
        return self.random.random() < probability


@settings(max_examples=250, deadline=None)
@given(SETTINGS)
def test_no_night_loses_or_repeats_a_trial_keeps_too_early_or_gets_stuck(setting: Setting) -> None:
    world = Night(setting).play()
    run = world.run
    if world.stopped == "--max-trials reached":
        assert sorted(world.rows) == list(range((run.config.max_trials or 0) + 1))
    if world.stopped == "proposals exhausted":
        assert not run.live
    if setting.baseline_only and world.stopped == "the baseline is measured":
        assert list(world.rows) == [0]
    kept = [trial for trial in world.rows.values() if trial.outcome is Outcome.KEEP]
    assert [trial.number for trial in kept] == run.population.kept[: len(kept)]
    if kept and not any(isinstance(each, Land) for each in world.in_flight):
        assert world.tip == (kept[-1].commit or "base")


# Single laws, each with the shortest story that breaks it.


def test_a_change_that_changes_nothing_repeats_the_baseline_even_before_that_has_its_row() -> None:
    world = World(replace(CONFIG, max_trials=1))
    world.ready()
    world.measure(world.asked(Measure))
    world.approve()
    proposed(world, 1, put("a", BASE[0]))
    world.settle()
    assert world.rows[1].reason is Reason.DUPLICATE
    assert (world.rows[1].value, world.stopped) == (6.0, "--max-trials reached")


def test_of_many_twins_each_has_one_row() -> None:
    world = begun(World(replace(CONFIG, max_trials=4), slots=4))
    for trial in (1, 2, 3, 4):
        proposed(world, trial, put("a", 1))
    world.settle()
    assert sorted(reasons(world.rows).values()) == [Reason.DUPLICATE] * 3 + [Reason.IMPROVED]
    assert world.run.budget.trials == 4


def test_a_twin_leaves_the_values_of_the_incumbent_alone() -> None:
    world = begun(World(replace(CONFIG, max_trials=1)))
    before = list(world.run.incumbent_pool)
    proposed(world, 1, put("a", BASE[0]))
    assert world.rows[1].reason is Reason.DUPLICATE
    assert world.run.incumbent_pool == before == [6.0] * 3


def test_a_combination_that_is_given_up_may_be_measured_by_whoever_waits_for_it() -> None:
    """Trial 2 is merged to the tree that trial 4 proposes; then trial 3 lands, and it goes on with that one."""
    world = begun(World(replace(CONFIG, max_trials=4), slots=4))
    # Wins are rare, so confirmations are begun side by side.
    world.run.archive.confirmations = replace(world.run.archive.confirmations, ended=20)
    for trial, change in ((1, put("a", 2)), (2, put("b", 2)), (3, put("a", 1))):
        proposed(world, trial, change)
        world.measure(measuring(world, trial))
    world.measure(measuring(world, 1))
    world.land(world.asked(Land))
    for trial in (2, 3):
        world.measure(measuring(world, trial))
        world.merge(world.asked(Merge, trial))
    proposed(world, 4, Change("both", (*put("a", 2).edits, *put("b", 2).edits)))
    assert world.run.live[4].stage == "waiting"
    world.land(world.asked(Land))
    for _ in range(2):
        world.measure(measuring(world, 2))
    world.merge(world.asked(Merge, 2))
    assert measuring(world, 4).purpose is Purpose.SCREEN
    world.settle()
    assert world.stopped == "--max-trials reached"


def test_a_combination_that_lost_is_not_measured_for_another_trial() -> None:
    world = begun(World(replace(CONFIG, max_trials=3), slots=4))
    proposed(world, 1, put("a", 2))
    proposed(world, 2, put("b", 2))
    for trial in (1, 2, 1, 2):
        world.measure(measuring(world, trial))
    world.land(world.asked(Land))
    world.merge(world.asked(Merge))
    for _ in range(2):
        world.measure(measuring(world, 2), 99.0)
    proposed(world, 3, Change("both", (*put("a", 2).edits, *put("b", 2).edits)))
    world.settle()
    assert (world.rows[3].reason, world.rows[3].value) == (Reason.DUPLICATE, 99.0)


def test_a_repair_that_changes_nothing_is_the_crash_that_it_was() -> None:
    world = begun(World(replace(CONFIG, max_trials=1), repairs=True))
    proposed(world, 1, put("a", 1))
    world.measure(world.asked(Measure), Reason.EXIT)
    proposed(world, 1, put("a", 1))
    assert (world.rows[1].outcome, world.rows[1].reason, world.rows[1].n) == (Outcome.CRASH, Reason.EXIT, 1)


def test_a_repair_that_cannot_be_paid_after_a_kill_leaves_the_crash() -> None:
    config = replace(CONFIG, max_trials=1, max_cost=1.0)
    world = begun(World(config, repairs=True, cost_bound_usd=0.25))
    world.propose(world.asked(Propose), put("a", 1), cost_usd=0.25)
    world.apply(world.asked(Apply))
    world.measure(world.asked(Measure), Reason.EXIT)
    assert world.run.live[1].repair is not None
    world.kill_and_resume(max_cost=0.25)
    assert world.rows[1].reason is Reason.EXIT


def test_an_answer_that_comes_after_the_run_gave_the_repair_up_changes_nothing() -> None:
    world = World(replace(CONFIG, max_trials=1), slots=2, repairs=True)
    world.ready()
    world.measure(world.asked_in(0))
    world.approve()
    world.propose(world.asked(Propose), put("a", 1))
    world.reject(world.asked(Apply))
    world.stop()
    world.propose_late(1)
    world.settle()
    assert (world.stopped, reasons(world.rows)) == ("Ctrl-C", {1: Reason.OUT_OF_SCOPE})


def test_a_repair_for_which_nothing_is_left_leaves_the_crash() -> None:
    world = begun(World(replace(CONFIG, max_trials=1), repairs=True))
    proposed(world, 1, put("a", 1))
    world.measure(world.asked(Measure), Reason.EXIT)
    world.exhaust(world.asked(Propose))
    assert world.rows[1].reason is Reason.EXIT


def test_a_landing_that_a_kill_interrupts_is_asked_for_with_the_same_message() -> None:
    """The branch may have moved already: another message would make another commit of it."""
    world = begun(World(replace(CONFIG, max_trials=2), slots=2))
    proposed(world, 1, put("a", 1))
    world.measure(measuring(world, 1))
    world.measure(measuring(world, 1))
    message = world.asked(Land).message
    world.move_branch(world.asked(Land))
    world.run.archive.measured(world.run.given.base_tree, 7.0, 0)  # as a fresh run of the incumbent that ends meanwhile
    live = world.run.live[1]
    assert live.message == message
    world.run.archive.pools[world.run.given.base_tree].pop()
    world.run.archive.fresh.pop()
    world.run.archive.noise = Noise(0.0, 2)
    world.kill_and_resume()
    assert world.asked(Land).message == message


def test_a_proposal_that_waits_for_a_dropped_parent_is_asked_for_again_with_it() -> None:
    world = begun(World(replace(CONFIG, max_trials=2), slots=2, ordered=True))
    proposed(world, 2, put("a", 1), parent=1)
    assert world.run.live[2].stage == "waiting"
    world.stop()
    assert (world.stopped, list(world.rows)) == ("Ctrl-C", [0])
    world.kill_and_resume()
    world.ready()
    proposed(world, 1, put("b", 1))
    proposed(world, 2, put("a", 1), parent=1)
    world.settle()
    assert world.stopped == "--max-trials reached"
    assert world.rows[2].parent == 1


def test_a_parent_that_never_was_is_a_crash() -> None:
    for parent in (1, 7):
        world = begun(World(replace(CONFIG, max_trials=1), ordered=True))
        proposed(world, 1, put("a", 1), parent=parent)
        assert world.rows[1].reason is Reason.DOES_NOT_APPLY


def test_check_ends_where_fewer_repeats_than_slots_are_wanted() -> None:
    world = World(replace(CONFIG, repeats=1), slots=3, baseline_only=True)
    world.ready()
    world.settle()
    assert (world.stopped, list(world.rows)) == ("the baseline is measured", [0])


def test_a_slot_that_may_not_be_used_stays_so_when_its_machine_fails_and_after_a_resume() -> None:
    world = World(replace(CONFIG, max_trials=1), slots=2)
    world.ready()
    world.measure(world.asked_in(0))
    world.approve(max_workers=1)
    world.lose(world.asked_in(1))
    assert world.run.slots.usable == 1
    world.kill_and_resume()
    world.ready()
    assert world.run.slots.usable == 1


def test_patience_that_changes_on_resume_changes_when_the_search_widens() -> None:
    world = begun(World(replace(CONFIG, patience=4)))
    assert world.run.population.plateau_after == 2
    world.kill_and_resume(patience=12)
    assert world.run.population.plateau_after == 6


def test_with_one_repeat_a_combination_is_trusted_after_one_measurement() -> None:
    world = begun(World(replace(CONFIG, max_trials=2, repeats=1), slots=2))
    proposed(world, 1, put("a", 1))
    proposed(world, 2, put("b", 1))
    world.settle()
    assert reasons(world.rows) == {1: Reason.IMPROVED, 2: Reason.IMPROVED}
    assert world.rows[2].value == 2.0


def test_a_run_that_has_reached_its_limit_stops_as_soon_as_it_is_resumed() -> None:
    world = begun(World(replace(CONFIG, max_trials=1)))
    proposed(world, 1, put("a", 1))
    world.settle()
    world.kill_and_resume()
    assert world.stopped == "--max-trials reached"
    world.kill_and_resume(max_trials=2)
    world.ready()
    proposed(world, 2, put("b", 1))
    world.settle()
    assert (world.stopped, sorted(world.rows)) == ("--max-trials reached", [0, 1, 2])


def test_the_time_that_a_question_takes_is_not_the_runs() -> None:
    world = World(replace(CONFIG, max_time=60.0))
    world.ready()
    world.measure(world.asked(Measure))
    world.at += 3600.0
    world.approve()
    assert world.run.stopping is None
    assert world.run.clock.elapsed_seconds < 60.0
    assert world.at + 50.0 < world.asked(Wake).at < world.at + 60.0


def test_the_wake_at_the_end_does_not_come_before_it() -> None:
    for seconds in (20.1, 60.3, 90.7):
        world = World(replace(CONFIG, max_time=seconds), at=1_732_312_345.678901)
        begun(world)
        world.wake(world.asked(Wake))
        assert world.run.stopping is not None
