"""The world as a run's pure state sees it: keeps what is in flight, answers in any order, and holds the laws.

Two files, `a` and `b`, hold one small number each; a tree is that pair. Nothing here waits, reads a clock or does I/O.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha1
from typing import Any, TypeVar

from autoresearch.actions import (
    Action,
    Apply,
    Approve,
    CancelProposal,
    Land,
    MakeCanary,
    Measure,
    Merge,
    Note,
    Propose,
    Record,
    StartBranch,
    Stop,
    Wake,
)
from autoresearch.config import RunConfig
from autoresearch.events import (
    Applied,
    Approved,
    Began,
    CanaryMade,
    Deferred,
    Event,
    Exhausted,
    Landed,
    Measured,
    Merged,
    Proposed,
    ProposingFailed,
    Rejected,
    Resumed,
    SlotFailed,
    SlotReady,
    SlotsComplete,
    Stamped,
    StopAsked,
    TimePassed,
    event_from_row,
    kind_of,
    to_row,
)
from autoresearch.state import Run, fold, regime
from autoresearch.state.life import Live, Stage
from autoresearch.state.proposals import has_place
from autoresearch.trial import (
    Candidate,
    Change,
    Edit,
    Measurement,
    Proposal,
    Purpose,
    Reason,
    Reply,
    Trial,
    Usage,
    mean,
)

Tree = tuple[int, int]
Value = Callable[[Tree, Measure], float | Reason]
"""What measuring a tree gives: the metric, or why there is none."""
Extra = Callable[[Tree, Measure], Mapping[str, float]]
"""The other numbers that it prints."""
A = TypeVar("A", bound=Action)

BASE = (3, 3)
RUBBISH = (99, 99)
CONFIG = RunConfig(objective="minimize loss", measure="show", scope=("a", "b"))


def put(path: str, number: int) -> Change:
    return Change(f"{path} = {number}", (Edit(path, content=str(number)),))


def total(tree: Tree, action: Measure) -> float | Reason:
    """The metric where a test names none: the sum of the two files."""
    return float(sum(tree))


def some_extra(tree: Tree, action: Measure) -> Mapping[str, float]:
    """What is printed beside the metric where a test names nothing."""
    return {"mfu": 0.5}


def through_json(event: Event) -> Event:
    """The event as a store gives it back; it must be the same."""
    back = event_from_row(kind_of(event), json.loads(json.dumps(to_row(event))))
    assert back == event
    return back


@dataclass
class World:
    """One run, and everything around it."""

    config: RunConfig = CONFIG
    value: Value = total
    extra: Extra = some_extra
    repairs: bool = False
    ordered: bool = False
    cost_bound_usd: float = 0.0
    baseline_only: bool = False
    canary_files: tuple[str, ...] = ()
    slots: int = 1
    shares_cpus: bool = True
    """Whether slots slow each other down."""
    at: float = 1000.0
    tick: float = 0.25
    """How long it takes to tell the run something."""
    seconds: float = 1.5
    """How long a measurement takes."""
    check_seconds: float = 0.5
    """How much of that the checks take, where there are some."""
    trees: dict[str, Tree] = field(default_factory=lambda: {"base": BASE})
    sits_on: dict[str, str] = field(default_factory=dict)
    """Commit to the commit that it was made on."""
    tip: str = "base"
    stored: list[Stamped] = field(default_factory=list)
    in_flight: list[Action] = field(default_factory=list)
    rows: dict[int, Trial] = field(default_factory=dict)
    screened: dict[Tree, int] = field(default_factory=dict)
    values: dict[tuple[int, Tree], list[tuple[Purpose, float]]] = field(default_factory=dict)
    """(trial, tree) to what was measured of exactly that tree for it."""
    begun: dict[int, Measure] = field(default_factory=dict)
    """Slot to the side of a pair that began last in it."""
    pairs: dict[tuple[int, str, str], list[tuple[float, float]]] = field(default_factory=dict)
    """(trial, commit, incumbent's commit) to what they gave one after the other in one slot."""
    first_half: dict[int, float] = field(default_factory=dict)
    """Slot to what the first side of a pair gave in it."""
    checked: set[Tree] = field(default_factory=set)
    """Trees that have passed the checks."""
    cancelled: list[int] = field(default_factory=list)
    """Proposals that were called off; their answer may still be on its way."""
    spent_usd: float = 0.0
    landings: list[Land] = field(default_factory=list)
    stopped: str | None = None
    noted: dict[str, Any] = field(default_factory=dict)
    """Facts, as the run has noted them."""
    asked_to_stop: bool = False
    """From outside, since the process began."""

    def __post_init__(self) -> None:
        began = Began(
            self.config.to_row(),
            "base",
            str(BASE),
            proposer_repairs=self.repairs,
            proposer_ordered=self.ordered,
            cost_bound_usd=self.cost_bound_usd,
            baseline_only=self.baseline_only,
            canary_files=self.canary_files,
        )
        assert isinstance(through_json(began), Began)
        self.stored.append(Stamped(self.at, began))
        self.run = Run(began, self.at)

    # Telling the run.

    def tell(self, event: Event) -> None:
        """Store an event, tell the run, take its actions, hold the laws."""
        assert self.stopped is None
        self.at += self.tick
        event = through_json(event)
        self.stored.append(Stamped(self.at, event))
        was_draining = self.run.stopping is not None and not isinstance(event, Resumed)
        if isinstance(event, StopAsked | Resumed):
            echo = self.run.stopping is not None and event == StopAsked(self.run.stopping.why)
            self.asked_to_stop = isinstance(event, StopAsked) and (self.asked_to_stop or not echo)
        exact = self.run.archive.noise.deterministic
        actions = self.run.tell(self.at, event)
        if was_draining:
            begun = [each for each in actions if isinstance(each, Propose | Measure | Merge | Apply)]
            at_end = (Purpose.FINAL, Purpose.HOLDOUT)
            final = [each for each in begun if isinstance(each, Measure) and each.purpose in at_end]
            assert begun == final
            assert not (final and self.asked_to_stop)
        for action in actions:
            self._take(action, exact)
        self._hold_laws()

    def _take(self, action: Action, exact: bool) -> None:
        assert self.stopped is None, f"{action} after Stop"
        match action:
            case Record(trial):
                assert trial.number not in self.rows, f"two rows of trial {trial.number}"
                assert self.rows or trial.number == 0, "the baseline's row is the first"
                self.rows[trial.number] = trial
            case CancelProposal(trial):
                asked = [each for each in self.in_flight if isinstance(each, Propose) and each.brief.trial == trial]
                self.in_flight = [each for each in self.in_flight if each not in asked]
                self.cancelled += [each.brief.trial for each in asked]
            case Stop(why):
                waiting = [each for each in self.in_flight if not isinstance(each, Wake | Approve)]
                assert not waiting, f"stopped with {waiting} under way"
                self.stopped = why
            case StartBranch(base):
                assert base == "base"
            case Note(name, value):
                self.noted[name] = json.loads(json.dumps(value))
            case Approve() if self.canary_files:
                assert self.run.canary.noticed, "the question comes before the canary's verdict"
                self.in_flight.append(action)
            case _:
                if isinstance(action, Measure):
                    self._measure_begins(action)
                    self._side_begins(action)
                elif isinstance(action, Land):
                    self._land_begins(action, exact)
                self.in_flight.append(action)

    def _measure_begins(self, action: Measure) -> None:
        assert action.slot not in {each.slot for each in self.in_flight if isinstance(each, Measure)}
        assert not self.run.slots.states[action.slot].retired
        tree = self.trees[action.commit]
        if action.purpose in (Purpose.SCREEN, Purpose.CONFIRM):
            others = [row for row in self.rows.values() if row.number != action.request.trial]
            assert str(tree) not in [row.tree for row in others if row.value is not None], f"{tree} has a row already"
        if action.purpose is Purpose.SCREEN:
            again = self.run.regime.exclusive and self.run.config.exclusive == "auto"
            assert self.screened.setdefault(tree, 0) <= again, f"{tree} is screened twice"
            assert tree not in [
                self.trees[each.commit]
                for each in self.in_flight
                if isinstance(each, Measure) and each.purpose is Purpose.SCREEN
            ]

    def _side_begins(self, action: Measure) -> None:
        """Both sides of a pair run in one slot, one after the other, with equal seeds; the two take turns to begin."""
        slot = self.run.slots.states[action.slot]
        work, before = slot.work, self.begun.pop(action.slot, None)
        if work is None or not work.against:
            return
        assert work.against == self.run.tip, "a side is measured against an older incumbent"
        if slot.half is None:
            assert action.commit == (work.commit if work.candidate_first else work.against)
            self.begun[action.slot] = action
        else:
            assert before is not None
            assert {before.commit, action.commit} == {work.commit, work.against}
            assert before.request.seed == action.request.seed

    def _land_begins(self, action: Land, exact: bool) -> None:
        """What is kept was measured as the rule demands, on exactly this tree, against the incumbent as it is."""
        exact = exact and self.run.archive.noise.deterministic
        assert not [each for each in self.in_flight if isinstance(each, Land)]
        if action in self.landings:  # decided before the process died; it may have landed, so it is done again
            return
        self.landings.append(action)
        tree = self.trees[action.candidate]
        assert tree in self.checked or not self.run.config.check, f"{tree} has not passed the checks"
        seen = self.values.get((action.trial, tree), [])
        fresh = [value for purpose, value in seen if purpose is Purpose.CONFIRM]
        repeats = self.run.config.repeats
        counted = [value for _, value in seen] if exact or repeats == 1 else fresh
        assert len(counted) >= (repeats or 2), f"{action} after {seen}"
        if exact and repeats is None:
            assert counted[-1] == counted[-2]
        live = self.run.live[action.trial]
        assert action.expected == self.tip == self.run.tip
        assert live.alone or self.sits_on[action.candidate] == self.tip
        gain = mean(self.run.incumbent_pool) - mean(fresh or counted)
        if self.run.regime.paired and repeats != 1 and (repeats or not exact):
            pairs = list(zip(live.fresh, live.beside, strict=True))
            assert len(pairs) >= (repeats or 2)
            assert not [pair for pair in pairs if pair not in self.pairs[action.trial, action.candidate, self.tip]]
            gain = mean(live.beside) - mean(live.fresh)
        assert gain > 0 or (gain == 0 and live.lines < 0) or live.verdict is Reason.SIMPLIFIED

    # Answering.

    def asked(self, kind: type[A], trial: int | None = None) -> A:
        """The one action of this kind in flight."""
        found = [each for each in self.in_flight if isinstance(each, kind) and trial in (None, trial_of(each))]
        assert len(found) == 1, found
        return found[0]

    def asked_in(self, slot: int) -> Measure:
        """What a slot measures."""
        return next(each for each in self.in_flight if isinstance(each, Measure) and each.slot == slot)

    def _answer(self, action: Action, event: Event) -> None:
        self.in_flight.remove(action)
        self.tell(event)

    def ready(self, slots: Iterable[int] = ()) -> None:
        for slot in slots or range(self.slots):
            self.slot_ready(slot)
        self.tell(SlotsComplete())

    def slot_ready(self, slot: int) -> None:
        self.tell(SlotReady(slot, shares_cpus=self.shares_cpus, cpus=2))

    def approve(self, max_workers: int | None = None) -> None:
        action = self.asked(Approve)
        self._answer(action, Approved(action.metric, max_workers=max_workers))

    def measure(self, action: Measure, value: float | Reason | None = None, foreign_cpus: float = 0.0) -> None:
        """The measurement ends: with its tree's value, or the one named; others used so many CPUs meanwhile."""
        tree = self.trees[action.commit]
        if value is None and action.purpose is Purpose.CANARY:
            value = Reason.EXIT
        found = value if value is not None else self.value(tree, action)
        trial = action.request.trial
        if action.purpose in (Purpose.SCREEN, Purpose.CONFIRM):
            if not isinstance(found, Reason):
                self.values.setdefault((trial, tree), []).append((action.purpose, found))
            self.screened[tree] = self.screened.get(tree, 0) + (action.purpose is Purpose.SCREEN)
        measurement = (
            Measurement(None, failure=found, exit_code=1, tail="Traceback", seconds_total=self.seconds)
            if isinstance(found, Reason)
            else Measurement(found, exit_code=0, wall_seconds=1.0, seconds_total=self.seconds)
        )
        measurement = replace(measurement, extra=self.extra(tree, action), foreign_cpus=foreign_cpus)
        if not isinstance(found, Reason):
            self._side_ends(action, found)
        if action.request.checks:
            measurement = replace(measurement, check_seconds=self.check_seconds)
            self.checked |= {tree} if found is not Reason.CHECKS_FAILED else set()
        if action.request.metric is None and not isinstance(found, Reason):
            measurement = replace(measurement, value=None, stdout=f"loss: {found!r}\n")
        self._answer(action, Measured(trial, action.slot, action.purpose, action.commit, measurement))

    def _side_ends(self, action: Measure, value: float) -> None:
        slot = self.run.slots.states[action.slot]
        if slot.work is None or not slot.work.against:
            return
        if slot.half is None:
            self.first_half[action.slot] = value
            return
        first, work = self.first_half[action.slot], slot.work
        pair = (first, value) if work.candidate_first else (value, first)
        self.pairs.setdefault((work.trial, work.commit, work.against), []).append(pair)

    def make_canary(self, action: MakeCanary) -> None:
        path = action.path
        tree = RUBBISH if path == "" else (RUBBISH[0], BASE[1]) if path == "a" else (BASE[0], RUBBISH[1])
        commit = self._commit(f"{action.substitute} {path}", tree, action.base)
        self._answer(action, CanaryMade(commit, action.substitute, path))

    def lose(self, action: Measure) -> None:
        """The machine fails under a measurement."""
        self._answer(action, SlotFailed(action.slot, "disk full"))

    def propose(self, action: Propose, change: Change, cost_usd: float = 0.0, parent: int | None = None) -> None:
        self.spent_usd += cost_usd
        reply = Reply("text", ("shared", "own"), "model", Usage(10, 5, 1, 7, cost_usd, 2.0))
        self._answer(action, Proposed(action.brief.trial, Proposal(change, reply, parent)))

    def fail_to_propose(self, action: Propose, cost_usd: float = 0.0) -> None:
        self.spent_usd += cost_usd
        reply = Reply("text", usage=Usage(cost_usd=cost_usd))
        self._answer(action, ProposingFailed(action.brief.trial, "no change in the answer", reply))

    def propose_late(self, trial: int, cost_usd: float = 0.0) -> None:
        """A proposal that was called off is answered all the same."""
        self.cancelled.remove(trial)
        self.spent_usd += cost_usd
        self.tell(Proposed(trial, Proposal(put("a", 0), Reply("", usage=Usage(cost_usd=cost_usd)))))

    def defer(self, action: Propose, seconds: float | None = None) -> None:
        self._answer(action, Deferred(action.brief.trial, "overloaded", seconds))

    def exhaust(self, action: Propose) -> None:
        self._answer(action, Exhausted(action.brief.trial))

    def apply(self, action: Apply) -> None:
        a, b = self.trees[action.parent_commit]
        for edit in action.change.edits:
            number = int(edit.content or 0)
            a, b = (number, b) if edit.path == "a" else (a, number)
        self._answer(action, Applied(action.trial, self._candidate(action.trial, (a, b), action.parent_commit)))

    def reject(self, action: Apply) -> None:
        self._answer(action, Rejected(action.trial, Reason.OUT_OF_SCOPE, "c: outside the scope"))

    def merge(self, action: Merge) -> None:
        ours, base, theirs = (self.trees[each] for each in (action.candidate, action.parent_commit, action.onto))
        sides = list(zip(ours, base, theirs, strict=True))
        merged = None
        if not any(mine != before != other != mine for mine, before, other in sides):
            a, b = [mine if mine != before else other for mine, before, other in sides]
            merged = self._candidate(action.trial, (a, b), action.onto)
        self._answer(action, Merged(action.trial, action.onto, merged))

    def land(self, action: Land) -> None:
        self._answer(action, Landed(action.trial, self.move_branch(action)))

    def move_branch(self, action: Land) -> str:
        """Compare-and-swap; done again it changes nothing."""
        tree = self.trees[action.candidate]
        landed = self._commit(f"{tree} {action.message}", tree, action.expected)
        if self.tip != landed:
            assert self.tip == action.expected, "the branch is not where the run left it"
            self.tip = landed
        return landed

    def wake(self, action: Wake) -> None:
        self.at = max(self.at, action.at)
        self._answer(action, TimePassed())

    def answer(self, action: Action) -> None:
        """The plain answer: what works."""
        match action:
            case Approve():
                self.approve()
            case MakeCanary():
                self.make_canary(action)
            case Measure():
                self.measure(action)
            case Apply():
                self.apply(action)
            case Merge():
                self.merge(action)
            case Land():
                self.land(action)
            case Wake():
                self.wake(action)
            case _:
                raise AssertionError(f"no plain answer to {action}")

    def settle(self) -> None:
        """Answer all but proposals until nothing else is in flight."""
        while others := [each for each in self.in_flight if not isinstance(each, Propose | Wake)]:
            self.answer(others[0])

    def _candidate(self, trial: int, tree: Tree, onto: str) -> Candidate:
        before, after = sum(self.trees[onto]), sum(tree)
        commit = self._commit(f"trial {trial} {tree}", tree, onto)
        return Candidate(commit, str(tree), max(0, after - before), max(0, before - after))

    def _commit(self, name: str, tree: Tree, onto: str) -> str:
        commit = sha1(f"{onto} {name}".encode()).hexdigest()[:12]
        self.trees[commit], self.sits_on[commit] = tree, onto
        return commit

    # Outside.

    def stop(self) -> None:
        self.tell(StopAsked("Ctrl-C"))

    def kill_and_resume(self, **changes: Any) -> None:
        """The process dies; what was in flight is lost. A new one folds what was stored."""
        before = facts(self.run)
        self.run, ended = fold(self.stored)
        assert facts(self.run) == before
        assert ended == list(self.rows.values())
        self.config = replace(self.run.config, **changes)
        self.in_flight.clear()
        self.cancelled.clear()
        self.stopped = None
        self.screened = {tree: 0 if self._to_be_screened(tree) else n for tree, n in self.screened.items()}
        self.tell(Resumed(self.config.to_row(), self.repairs, self.ordered, self.cost_bound_usd))

    def _to_be_screened(self, tree: Tree) -> bool:
        """A screen was under way when the process died."""
        return any(
            live.stage is Stage.SCREENING
            and live.screen is None
            and live.own is not None
            and live.own.tree == str(tree)
            for live in self.run.live.values()
        )

    # Laws.

    def _hold_laws(self) -> None:
        run = self.run
        assert run.tip == self.tip or any(isinstance(each, Land) for each in self.in_flight)
        numbers = [*self.rows, *run.live, *run.asking.dropped]
        assert sorted({0, *numbers}) == list(range(run.asking.next_number)), "a number is lost"
        assert len(set(numbers)) == len(numbers), "a number is dealt twice"
        assert run.budget.live == set(run.live)
        assert run.budget.trials == len(set(self.rows) - {0})
        assert run.budget.usd == self.spent_usd
        limit = run.budget.limits.usd
        assert limit is None or run.budget.usd + sum(run.budget.reserved.values()) <= limit + 1e-9
        assert run.config.max_trials is None or len(self.rows) <= run.config.max_trials + 1
        measuring = [each for each in self.in_flight if isinstance(each, Measure)]
        one_at_a_time = run.config.exclusive == "on" or run.regime.exclusive
        if one_at_a_time or any(slot.work and slot.work.alone for slot in run.slots.busy):
            assert len(measuring) <= 1, "something else is measured beside what is to be alone"
        if self.stopped is None:
            for live in run.live.values():
                self._hold_stage(live)
            self._hold_progress()

    def _hold_stage(self, live: Live) -> None:
        """What a live trial waits for is under way."""
        kinds: dict[Stage, type[Action]] = {
            Stage.PROPOSING: Propose,
            Stage.APPLYING: Apply,
            Stage.MERGING: Merge,
            Stage.LANDING: Land,
        }
        run = self.run
        if live.stage in kinds:
            self.asked(kinds[live.stage], live.number)
        elif live.stage is Stage.DEFERRED:
            wakes = [each for each in self.in_flight if isinstance(each, Wake) and each.at >= run.asking.not_before]
            poor = run.budget.reserved and not run.budget.affords(run.proposal_usd)
            assert wakes or poor or not has_place(run)
        elif live.stage is Stage.ENDING:
            assert not run.baseline.recorded
        elif live.stage is Stage.WAITING:
            assert run.stopping or self._awaited(live) in {*run.live, 0} - {live.number}
        else:
            queued = [work for queue in run.schedule.queues.values() for work in queue]
            held = [slot.suspect for slot in run.slots.states.values() if slot.suspect]
            kinds_of_it = (Purpose.STANDIN, Purpose.SCREEN, Purpose.CONFIRM)
            mine = [work for work in queued + held if work.trial == live.number and work.purpose in kinds_of_it]
            busy = [slot.work for slot in run.slots.busy if slot.work and slot.work.trial == live.number]
            assert live.pending == len(mine) + len([work for work in busy if work.purpose in kinds_of_it])
            assert live.pending or run.stopping or self._may_idle(live)

    def _awaited(self, live: Live) -> int:
        if live.candidate is None:
            return live.parent
        owner = self.run.archive.owners[live.candidate.tree]
        assert owner or not self.run.baseline.recorded
        return owner

    def _may_idle(self, live: Live) -> bool:
        """Nothing of it is measured: for want of a baseline, a fresh run of the incumbent, or its turn to land."""
        run = self.run
        anchors = run.schedule.waiting(Purpose.ANCHOR) + len(
            [each for each in self.in_flight if isinstance(each, Measure) and each.purpose is Purpose.ANCHOR]
        )
        landing = [each for each in self.in_flight if isinstance(each, Land)]
        if live.stage is Stage.QUEUED:
            active = (Stage.CONFIRMING, Stage.MERGING, Stage.LANDING)
            return not run.baseline.recorded or any(other.stage in active for other in run.live.values())
        return not run.baseline.recorded or not run.baseline_done or bool(anchors or landing)

    def _hold_progress(self) -> None:
        """A run that has not stopped has something in flight, and no slot idles beside waiting work."""
        present = len(self.run.slots.states) >= self.slots
        if present and self.run.slots.usable:
            assert self.in_flight, f"nothing is in flight: {self.run.live}"
            ready = self.run.baseline.approved and not self.run.stopping
            waits = ready and self.run.slots.free and self.run.schedule.waiting()
            assert not waits or self._something_is_alone()

    def _something_is_alone(self) -> bool:
        """Slots stay free because something is measured alone, or will be as soon as the others are done."""
        run, busy = self.run, self.run.slots.busy
        queue = [work for works in run.schedule.queues.values() for work in works]
        alone = run.regime.exclusive or any(slot.work and slot.work.alone for slot in busy)
        return bool(busy) and (alone or regime.wants_solo(run) or any(work.alone for work in queue))


def trial_of(action: Action) -> int | None:
    match action:
        case Propose(brief):
            return brief.trial
        case Measure():
            return action.request.trial
        case Apply(trial) | Merge(trial) | Land(trial):
            return trial
        case _:
            return None


def facts(run: Run) -> dict[str, object]:
    """What a fold must find again."""
    return {
        "rows": run.archive.ended,
        "owners": run.archive.owners,
        "pools": run.archive.pools,
        "noise": (run.archive.noise, run.archive.pair_noise, run.archive.fresh, run.archive.confirmations),
        "regime": run.regime,
        "tip": run.tip,
        "live": run.live,
        "budget": run.budget,
        "population": run.population,
        "asking": run.asking,
        "slots": run.slots,
        "queues": run.schedule.queues,
        "baseline": run.baseline,
        "canary": run.canary,
        "stopping": run.stopping,
        "finale": run.finale,
        "gates": run.gates,
        "clock": run.clock,
    }


def reasons(rows: Sequence[Trial] | dict[int, Trial]) -> dict[int, Reason]:
    trials = rows.values() if isinstance(rows, dict) else rows
    return {trial.number: trial.reason for trial in trials if trial.number}


def begun(world: World) -> World:
    """The baseline is measured, the plan agreed to, and the first proposals are asked for."""
    world.ready()
    world.settle()
    return world


def proposed(world: World, trial: int, change: Change, parent: int | None = None) -> None:
    """The proposal arrives and is applied."""
    world.propose(world.asked(Propose, trial), change, parent=parent)
    if any(isinstance(each, Apply) and each.trial == trial for each in world.in_flight):
        world.apply(world.asked(Apply, trial))


def measuring(world: World, trial: int) -> Measure:
    """One measurement of a trial that is under way."""
    return next(each for each in world.in_flight if isinstance(each, Measure) and each.request.trial == trial)
