"""The main job: carry out what the run says, concurrently, and feed back what happened. It decides nothing."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

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
    SuggestMeasure,
    Wake,
)
from autoresearch.errors import (
    ChangeRejected,
    NoSlotLeft,
    ProposalDeferred,
    ProposalFailed,
    ProposalsExhausted,
    RunStopped,
    SlotLost,
    TrialError,
)
from autoresearch.events import (
    Applied,
    Approved,
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
    SlotFailed,
    SlotReady,
    SlotsComplete,
    Stamped,
    StopAsked,
    TimePassed,
)
from autoresearch.metric import Metric
from autoresearch.protocols import Listener, Measurer, Proposer, Repository, Slot, Store
from autoresearch.state import Run
from autoresearch.trial import Measurement, Reason, Trial

Ask = Callable[[Metric, Measurement], Awaitable[Approved]]
"""Shows the plan and asks; raises UsageError where the user declines."""
Suggest = Callable[[str], Awaitable[None]]
"""Shows a measure command that works and asks; raises UsageError where the user declines."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run is wired from."""

    repository: Repository
    measurer: Measurer
    proposer: Proposer
    store: Store
    listeners: Sequence[Listener]
    approve: Ask
    suggest: Suggest
    now: Callable[[], float]
    """Seconds since the epoch; never backwards."""


class Coordinator:
    """Runs one run to its end.

    Cancelling `conduct` leaves no process running; what was not stored has not happened, and `resume` takes it up.
    """

    def __init__(self, run: Run, parts: Parts) -> None:
        self.run = run
        self.parts = parts
        self._slots: dict[int, Slot] = {}
        self._proposals: dict[int, anyio.CancelScope] = {}
        self._ended: Ended | None = None
        self._send, self._events = anyio.create_memory_object_stream[Event](math.inf)

    async def conduct(self, first: Event | None = None) -> str:
        """Take in the first event, which a resumed run has, and go on until the run stops; return why it stopped.

        Raises:
            UsageError: the baseline cannot be used, or the user declined.
            RunStopped: the run cannot go on.
        """
        async with self._send, self._events, anyio.create_task_group() as group:
            group.start_soon(self._watch_slots)
            if first is not None:
                await self._take_in(group, first)
            while self._ended is None:
                await self._take_in(group, await self._events.receive())
            group.cancel_scope.cancel()
        return self._ended.why if self._ended else ""

    def tell(self, event: Event) -> None:
        """Feed an event in, from the event loop."""
        self._send.send_nowait(event)

    def stop(self, why: str) -> None:
        """Drain: no new trials, running measurements end and count."""
        self.tell(StopAsked(why))

    def ended(self, why: str) -> Ended:
        """What is stored last: why the run stopped, and what only this process knows."""
        snapshot = self.run.snapshot()
        seconds = self.run.clock.process_seconds
        return Ended(why, {"slot_use": snapshot.slot_use, "slots": len(snapshot.slots), "seconds": seconds})

    async def _take_in(self, group: TaskGroup, event: Event) -> None:
        at, went_on = self.parts.now(), self.run.stopping is None
        await self.parts.store.append(Stamped(at, event))
        actions = self.run.tell(at, event)
        if went_on and self.run.stopping is not None and not isinstance(event, StopAsked):
            self.tell(StopAsked(self.run.stopping.why))  # stored, so that it can be seen from outside
        await self._carry_out(group, actions)
        ended = tuple(action.trial for action in actions if isinstance(action, Record))
        self._notify(at, event, ended)
        if self._ended is not None:
            self._notify(self.parts.now(), self._ended)

    def _notify(self, at: float, event: Event, ended: Sequence[Trial] = ()) -> None:
        for listener in self.parts.listeners:
            listener.notify(at, event, ended, self.run.snapshot)

    async def _carry_out(self, group: TaskGroup, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Record(trial):
                    await self._record(trial)
                case Note(name, value):
                    await self.parts.store.note(name, value)
                case StartBranch(base):
                    await self.parts.repository.start_branch(base)
                case CancelProposal(trial):
                    if scope := self._proposals.pop(trial, None):
                        scope.cancel()
                case Propose(brief):
                    scope = self._proposals[brief.trial] = anyio.CancelScope()
                    group.start_soon(self._propose, action, scope)
                case Stop():
                    await self._end(action)
                    return
                case _:
                    group.start_soon(self._perform, action)

    async def _record(self, trial: Trial) -> None:
        await self.parts.store.record(trial)
        self.parts.proposer.tell(trial)

    async def _end(self, stop: Stop) -> None:
        if stop.failed:
            raise NoSlotLeft(stop.why) if self.run.slots.lost else RunStopped(stop.why)
        ended = self.ended(stop.why)
        await self.parts.store.append(Stamped(self.parts.now(), ended))
        self._ended = ended

    async def _watch_slots(self) -> None:
        async for slot in self.parts.measurer.slots():
            self._slots[slot.number] = slot
            device = slot.device
            self.tell(SlotReady(slot.number, str(device), device.shares_cpus, device.cpu_count))
        self.tell(SlotsComplete())

    async def _perform(self, action: Action) -> None:
        parts = self.parts
        match action:
            case Apply():
                await self._apply(action)
            case Measure():
                await self._measure(action)
            case Merge():
                await self._merge(action)
            case Land(trial, candidate, expected, message):
                commit = await parts.repository.land(trial, candidate, expected, message)
                self.tell(Landed(trial, commit))
            case Approve(metric, baseline):
                self.tell(await parts.approve(metric, baseline))
            case MakeCanary(base, substitute, path):
                self.tell(CanaryMade(await parts.repository.canary(base, substitute, path), substitute, path))
            case SuggestMeasure(command):
                await parts.suggest(command)
                self.tell(MeasureReplaced(command))
            case Wake(at):
                while (left := at - parts.now()) > 0:  # noqa: ASYNC110 - a timer may go off a little early
                    await anyio.sleep(left)
                self.tell(TimePassed())

    async def _propose(self, action: Propose, scope: anyio.CancelScope) -> None:
        trial, event = action.brief.trial, None
        with scope:
            event = await self._proposal(action)
        if event is not None:
            self._proposals.pop(trial, None)
            self.tell(event)

    async def _proposal(self, action: Propose) -> Event:
        trial, tree = action.brief.trial, self.parts.repository.tree(action.parent_commit)
        try:
            return Proposed(trial, await self.parts.proposer.propose(action.brief, tree))
        except ProposalFailed as error:
            return ProposingFailed(trial, error.why, error.reply)
        except ProposalDeferred as error:
            return Deferred(trial, error.why, error.retry_after_seconds, error.cost_usd)
        except ProposalsExhausted as error:
            return Exhausted(trial, error.stop_reason)

    async def _apply(self, action: Apply) -> None:
        event: Event
        try:
            event = Applied(
                action.trial,
                await self.parts.repository.apply(action.trial, action.parent_commit, action.change),
            )
        except TrialError as error:
            event = _rejected(action.trial, error)
        self.tell(event)

    async def _merge(self, action: Merge) -> None:
        event: Event
        try:
            merged = await self.parts.repository.merge(
                action.trial, action.candidate, action.parent_commit, action.onto
            )
            event = Merged(action.trial, action.onto, merged)
        except TrialError as error:
            event = _rejected(action.trial, error)
        self.tell(event)

    async def _measure(self, action: Measure) -> None:
        event: Event
        try:
            measurement = await self._slots[action.slot].measure(action.commit, action.request)
            event = Measured(action.request.trial, action.slot, action.purpose, action.commit, measurement)
        except SlotLost as error:
            event = SlotFailed(action.slot, str(error))
        self.tell(event)


def _rejected(trial: int, error: TrialError) -> Rejected:
    reason = error.reason if isinstance(error, ChangeRejected) else Reason.DOES_NOT_APPLY
    return Rejected(trial, reason, str(error))
