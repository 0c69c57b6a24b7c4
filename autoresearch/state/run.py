"""The state of a run: told what happened, it says what to do next. Pure; the state is the fold of the events.

A trial goes   ask -> propose -> apply -> screen -> judge -> [merge] -> confirm -> land -> record
and every step is one event in, some actions out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from autoresearch import acceptance
from autoresearch.acceptance import Rule
from autoresearch.actions import (
    Action,
    CancelProposal,
    Record,
    Stop,
    Wake,
)
from autoresearch.budget import Budget, limits_of, promise_usd
from autoresearch.config import RunConfig
from autoresearch.events import (
    Applied,
    Approved,
    Began,
    CanaryMade,
    Deferred,
    Ended,
    Event,
    Exhausted,
    Landed,
    Measured,
    MeasureReplaced,
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
    TakenOver,
    TimePassed,
)
from autoresearch.metric import Metric
from autoresearch.population import PLATEAU, Population
from autoresearch.schedule import Schedule
from autoresearch.snapshot import Snapshot
from autoresearch.state import (
    canary,
    candidates,
    confirming,
    ending,
    finale,
    holdout,
    measuring,
    proposals,
    regime,
    resuming,
    stopping,
    takeover,
)
from autoresearch.state.archive import Archive
from autoresearch.state.asking import Asking
from autoresearch.state.baseline import Baseline
from autoresearch.state.canary import Canary
from autoresearch.state.clock import Clock
from autoresearch.state.finale import Finale
from autoresearch.state.gates import Gates
from autoresearch.state.life import Live, Stage
from autoresearch.state.regime import Regime
from autoresearch.state.slots import Slots, SlotState
from autoresearch.trial import Trial, Usage, mean


@dataclass(frozen=True, slots=True)
class Given:
    """What a run was started with."""

    config: RunConfig
    base: str
    base_tree: str
    repairs: bool
    """Whether a crash is sent back to the proposer once."""
    ordered: bool
    """Line k is trial k: the run makes no choices of its own."""
    cost_bound_usd: float
    """The most that one proposal can cost."""
    baseline_only: bool = False
    """Stop when the baseline is measured."""
    folder: str = ""
    """Where in the checkout it was started."""
    cost_least_usd: float = 0.0
    """What one proposal can be held to; 0: not below the most."""


class Run:
    """One run, from its first event on. `tell` is the only way in."""

    def __init__(self, began: Began, at: float) -> None:
        self.given = Given(
            RunConfig.from_row(began.config),
            began.base,
            began.base_tree,
            began.proposer_repairs,
            began.proposer_ordered,
            began.cost_bound_usd,
            began.baseline_only,
            began.folder,
            began.cost_least_usd,
        )
        self.clock = Clock()
        self.clock.begin(at)
        self.baseline = Baseline()
        self.canary = Canary(began.canary_files)
        self.archive = Archive(owners={began.base_tree: 0})
        self.population = Population(kept=[0])
        self.budget = Budget(limits_of(self.config))
        self.schedule = Schedule()
        self.slots = Slots()
        self.regime = Regime(exclusive=self.config.exclusive == "on")
        self.asking = Asking()
        self.live: dict[int, Live] = {}
        self.stopping: Stop | None = None
        self.finale = Finale()
        self.gates = Gates()
        self._out: list[Action] = []
        self.be_patient()

    # What is known.

    @property
    def config(self) -> RunConfig:
        return self.given.config

    @property
    def metric(self) -> Metric:
        """Raises ValueError before the baseline was read."""
        if self.baseline.metric is None:
            raise ValueError("the metric is not chosen yet")
        return self.baseline.metric

    @property
    def proposal_usd(self) -> float:
        """What is reserved for one proposal."""
        return promise_usd(self.budget.limits.usd, self.given.cost_bound_usd, self.given.cost_least_usd)

    @property
    def tip(self) -> str:
        """The commit of the incumbent."""
        return self.commit_of(self.population.incumbent) or self.given.base

    @property
    def incumbent_pool(self) -> list[float]:
        """Fresh values of the incumbent."""
        return self.pool_of(self.population.incumbent)

    @property
    def incumbent_tree(self) -> str:
        """The tree of the incumbent."""
        ended = self.archive.trial(self.population.incumbent)
        return ended.tree if ended and ended.tree else self.given.base_tree

    @property
    def baseline_values(self) -> list[float]:
        """Of the unchanged code, measured as keeps are confirmed: alone where load would change them."""
        if self.regime.alone and self.regime.solo:
            return [each.value for each in self.regime.solo if each.value is not None]
        return self.pool_of(0)

    @property
    def best(self) -> float:
        """The incumbent's value: the mean of all that is comparable with the baseline's."""
        ended = self.archive.trial(self.population.incumbent)
        if self.regime.alone and ended is not None and ended.value is not None:
            return ended.value
        return mean(self.incumbent_pool)

    @property
    def rule(self) -> Rule:
        """What a keep has to be, now."""
        smallest = acceptance.min_gain(self.config.min_gain, mean(self.incumbent_pool))
        return Rule(self.metric.direction, self.config.confidence, smallest, self.config.repeats)

    @property
    def baseline_done(self) -> bool:
        """Enough is known of the baseline for a candidate to be judged, and nothing more of it is under way."""
        if self.baseline.recorded:
            return True
        if measuring.baselines_running(self) or regime.wants_solo(self):
            return False
        return self.baseline.approved and len(self.baseline.good) >= self.baseline.wanted(self.config.repeats)

    def commit_of(self, trial: int) -> str | None:
        """A trial's commit; None where it has none."""
        ended = self.archive.trial(trial)
        return self.given.base if trial == 0 else ended.commit if ended else None

    def pool_of(self, trial: int) -> list[float]:
        """Fresh values of a trial's tree; its stored value, else the incumbent's, where none are left."""
        ended = self.archive.trial(trial)
        tree = self.given.base_tree if trial == 0 else ended.tree if ended and ended.tree else ""
        if pool := self.archive.pools.get(tree):
            return pool
        if ended and ended.value is not None and (trial == self.population.incumbent or not self.regime.alone):
            return [ended.value]
        return self.incumbent_pool

    # What happens.

    def do(self, action: Action) -> None:
        """Add to what `tell` returns."""
        self._out.append(action)

    def tell(self, at: float, event: Event) -> list[Action]:
        """Take in what happened at `at` (seconds since the epoch); return what to do next, in order.

        Raises:
            UsageError: the baseline cannot be read; only before the run was approved.
        """
        self._out = []
        if not isinstance(event, Resumed):
            self.clock.advance(at)
        match event:
            case SlotsComplete():
                measuring.slots_complete(self)
            case SlotReady():
                self.slots.add(event, at)
            case SlotFailed(slot, why):
                measuring.slot_failed(self, slot, why)
            case Measured():
                measuring.measured(self, event)
            case TakenOver():
                takeover.taken_over(self, event)
            case MeasureReplaced(command):
                measuring.measure_replaced(self, command)
            case CanaryMade():
                canary.made(self, event)
            case Approved():
                measuring.approved(self, event)
            case Proposed(trial, proposal):
                proposals.proposed(self, trial, proposal)
            case ProposingFailed(trial, why, reply):
                proposals.proposing_failed(self, trial, why, reply)
            case Deferred():
                proposals.deferred(self, event)
            case Exhausted(trial, why):
                proposals.exhausted(self, trial, why)
            case Applied(trial, candidate):
                candidates.applied(self, self.live[trial], candidate)
            case Rejected(trial, reason, why):
                candidates.rejected(self, self.live[trial], reason, why)
            case Merged(trial, onto, candidate):
                confirming.merged(self, self.live[trial], onto, candidate)
            case Landed(trial, commit):
                ending.landed(self, self.live[trial], commit)
            case StopAsked(why):
                finale.stop_asked(self, why)
                holdout.stop_asked(self, why)
                self.drain(why)
            case Resumed():
                resuming.resumed(self, event, at)
            case Began() | TimePassed() | Ended():
                pass
        self._dispatch()
        return self._out

    # What is next.

    def _dispatch(self) -> None:
        """Give free slots work, ask for proposals, end the run: after every event."""
        canary.advance(self)
        if self.baseline_done:
            ending.record_baseline(self)
        regime.look(self)
        proposals.give_up_unaffordable(self)
        ending.resolve_waiting(self)
        while confirming.start_next(self):
            ending.resolve_waiting(self)
        if not self.stopping and self.baseline.approved and (why := self._why_stop()):
            self.drain(why)
        measuring.give_work(self)
        if not self.stopping and self.baseline.approved:
            proposals.ask_while_wanted(self)
        if self.stopping and (self.finale.begun or not self._under_way()):
            if self.baseline.approved:
                ending.record_baseline(self)
            if finale.deal(self) and holdout.deal(self):
                self.do(self.stopping)
        finale.wake(self)

    def _why_stop(self) -> str:
        if not self.baseline_done:
            return stopping.time_is_up(self.config, self.clock.elapsed_seconds)
        if self.given.baseline_only:
            wanted = any(measuring.baseline_wanted(self, slot) for slot in self.slots.free)
            wanted = wanted or regime.wants_solo(self)
            under_way = self.slots.busy or self.canary.attempt is not None
            return "" if wanted or under_way else "the baseline is measured"
        standing = stopping.Standing(
            best=self.best,
            direction=self.metric.direction,
            at_bound=self.archive.shown.at_bound,
            since_keep=self.population.since_keep,
            elapsed_seconds=self.clock.elapsed_seconds + finale.reserved_seconds(self),
            live=len(self.live),
            exhausted=self.asking.exhausted,
            cost_bound_usd=self.proposal_usd,
        )
        return stopping.stop_reason(self.config, self.budget, standing)

    def drain(self, why: str, *, failed: bool = False) -> None:
        """No new trials: running measurements end and count, unanswered proposals are dropped."""
        if self.stopping:
            return
        self.stopping = Stop(why, failed)
        for live in list(self.live.values()):
            if live.stage not in (Stage.PROPOSING, Stage.DEFERRED):
                continue
            self.do(CancelProposal(live.number))
            proposals.give_up(self, live)

    def _under_way(self) -> bool:
        busy = {Stage.APPLYING, Stage.MERGING, Stage.LANDING}
        return bool(self.slots.busy) or self.canary.making or any(live.stage in busy for live in self.live.values())

    def be_patient(self) -> None:
        """The search widens half way to --patience, where that comes first."""
        patience = self.config.patience
        self.population.plateau_after = PLATEAU if patience is None else min(PLATEAU, max(1, patience // 2))

    def wake_at_the_end(self) -> None:
        """Ask to be woken when --max-time is over."""
        if self.config.max_time is not None:
            self.do(Wake(self.clock.when(self.config.max_time)))

    # For views.

    def _value(self, trial: int) -> float:
        """The value that a trial has in every table; of a baseline that is being measured, the mean so far."""
        ended = self.archive.trial(trial)
        return mean(self.pool_of(trial)) if ended is None or ended.value is None else ended.value

    def snapshot(self) -> Snapshot:
        """A picture of the run, for views."""
        known = bool(self.archive.pools)
        limits = self.budget.limits
        return Snapshot(
            at=self.clock.at,
            began_at=self.clock.began_at,
            metric=self.baseline.metric,
            slots=tuple(self.slots.view(state, self._hypothesis(state)) for state in self.slots.in_order),
            baseline=self._value(0) if known else None,
            best=self._value(self.population.incumbent) if known else None,
            stdev=self.archive.noise.stdev if self.archive.noise.dof else None,
            incumbent=self.population.incumbent,
            kept=tuple(self.archive.tally.kept),
            experiments=self.budget.trials,
            outcomes=dict(self.archive.tally.outcomes),
            reasons=dict(self.archive.tally.reasons),
            proposing=proposals.load(self).proposing,
            queued=self.schedule.waiting(),
            waiting=self.asking.why_waiting,
            usage=self._usage(),
            timeout_seconds=self.baseline.timeout_seconds(self.config.timeout),
            draining=self.stopping.why if self.stopping else "",
            trials_left=self.budget.trials_left,
            seconds_left=None if limits.seconds is None else max(0.0, limits.seconds - self.clock.elapsed_seconds),
            usd_left=self.budget.usd_left,
            plateau=self.population.plateau,
            noise=regime.picture(self) if self.baseline.recorded else None,
            approved=self.baseline.approved,
            elapsed_seconds=self.clock.elapsed_seconds,
            unseen_files=tuple(self.canary.unseen) if self.canary.done else (),
        )

    def _usage(self) -> Usage:
        """Tokens of all trials that are known; dollars of those, too, that were given up."""
        known = sum((live.usage for live in self.live.values()), self.archive.tally.usage)
        return replace(known, cost_usd=self.budget.usd)

    def _hypothesis(self, slot: SlotState) -> str:
        live = self.live.get(slot.work.trial) if slot.work else None
        return live.change.hypothesis if live and live.change else ""


def fold(stamped: Iterable[Stamped]) -> tuple[Run, list[Trial]]:
    """The run that stored events tell of, and its ended trials in order.

    Raises:
        ValueError: the first event is not Began.
    """
    events = iter(stamped)
    first = next(events, None)
    if first is None or not isinstance(first.event, Began):
        raise ValueError("a run begins with Began")
    run, ended = Run(first.event, first.at), []
    for stamp in events:
        ended += [action.trial for action in run.tell(stamp.at, stamp.event) if isinstance(action, Record)]
    return run, ended
