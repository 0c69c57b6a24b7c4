"""The main job with fakes only, on a clock that jumps: hours in milliseconds, ordered by events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import anyio.lowlevel
import pytest
import trio.testing

from autoresearch.brief import Brief
from autoresearch.config import RunConfig
from autoresearch.coordinator import Coordinator, Parts
from autoresearch.errors import NoSlotLeft, ProposalDeferred, ProposalFailed
from autoresearch.events import Approved, Began, CanaryMade, Ended, Resumed, Stamped, StopAsked
from autoresearch.metric import Metric
from autoresearch.protocols import Device, Request, Slot
from autoresearch.state import Run, fold
from autoresearch.testing import (
    FakeMeasurer,
    FakeProposer,
    FakeSlot,
    Files,
    HeldSlot,
    MemoryRepository,
    MemoryStore,
    RecordingListener,
)
from autoresearch.trial import Change, Edit, Measurement, Outcome, Purpose, Reason, Trial

pytestmark = pytest.mark.anyio

Choose = Callable[[Brief, Files], Change | None]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


CONFIG = RunConfig(objective="minimize loss", measure="show", scope=("x.txt",), max_trials=12)


def show_x(files: Files, request: Request) -> str:
    """The command: print what x.txt says."""
    return f"loss: {files['x.txt'].decode()}"


def put(value: object, path: str = "x.txt") -> Change:
    return Change(f"set {path} to {value}", (Edit(path, content=f"{value}\n"),))


def countdown(brief: Brief, files: Files) -> Change:
    """Each trial is better than all before."""
    return put(100 - brief.trial)


class Night:
    """One run over fakes."""

    def __init__(
        self,
        choose: Choose | FakeProposer = countdown,
        config: RunConfig = CONFIG,
        *,
        slots: int | Sequence[Slot] = 2,
        repository: MemoryRepository | None = None,
        evaluate: Callable[[Files, Request], str] = show_x,
        canary_files: tuple[str, ...] = (),
    ) -> None:
        self.repository = repository or MemoryRepository({"x.txt": b"100\n", "y.txt": b"0\n"})
        self.store = MemoryStore()
        self.listener = RecordingListener()
        self.proposer = choose if isinstance(choose, FakeProposer) else FakeProposer(choose)
        self.config = config
        self.canary_files = canary_files
        self.slots: Sequence[Slot] = (
            [FakeSlot(number, self.repository, evaluate) for number in range(slots)]
            if isinstance(slots, int)
            else slots
        )
        self.measurer = FakeMeasurer(self.slots)

    async def approve(self, metric: Metric, baseline: Measurement) -> Approved:
        return Approved(metric)

    async def suggest(self, command: str) -> None:
        return None

    def coordinator(self, run: Run) -> Coordinator:
        parts = Parts(
            repository=self.repository,
            measurer=self.measurer,
            proposer=self.proposer,
            store=self.store,
            listeners=[self.listener],
            approve=self.approve,
            suggest=self.suggest,
            now=anyio.current_time,
        )
        return Coordinator(run, parts)

    async def begin(self) -> Coordinator:
        repository = self.repository
        began = Began(
            self.config.to_row(),
            repository.base,
            repository.commits[repository.base],
            proposer_repairs=self.proposer.repairs,
            proposer_ordered=self.proposer.ordered,
            cost_bound_usd=self.proposer.cost_bound_usd,
            canary_files=self.canary_files,
        )
        await self.store.append(Stamped(anyio.current_time(), began))
        return self.coordinator(Run(began, anyio.current_time()))

    async def pass_by(self) -> str:
        return await (await self.begin()).conduct()

    async def resume(self, **changes: object) -> str:
        run, ended = fold(await self.store.events())
        for trial in ended:
            await self.store.record(trial)
        resumed = Resumed(
            replace(self.config, **changes).to_row(),
            self.proposer.repairs,
            self.proposer.ordered,
            self.proposer.cost_bound_usd,
        )
        return await self.coordinator(run).conduct(resumed)

    @property
    def rows(self) -> list[Trial]:
        return list(self.store.rows.values())

    def reasons(self) -> dict[int, Reason]:
        return {trial.number: trial.reason for trial in self.rows}

    @property
    def tip(self) -> bytes:
        return self.repository.files(self.repository.tip)["x.txt"]

    @asynccontextmanager
    async def under_way(self) -> AsyncIterator[Coordinator]:
        """The run in the background; leaving waits for its end."""
        coordinator = await self.begin()
        async with anyio.create_task_group() as group:
            group.start_soon(coordinator.conduct)
            yield coordinator


async def test_every_improvement_lands_and_every_trial_has_one_row() -> None:
    night = Night(slots=1, config=replace(CONFIG, proposers=1))
    assert await night.pass_by() == "--max-trials reached"
    assert [trial.number for trial in night.rows] == list(range(13))
    assert [trial for trial, _ in night.repository.landed] == list(range(1, 13))
    assert night.tip == b"88\n"
    assert {trial.outcome for trial in night.rows} == {Outcome.KEEP}


async def test_the_canary_changes_nothing_but_when_the_run_is_agreed_to() -> None:
    plain = Night(slots=1, config=replace(CONFIG, proposers=1))
    night = Night(slots=1, config=replace(CONFIG, proposers=1), canary_files=("x.txt", "y.txt"))
    assert await plain.pass_by() == await night.pass_by()
    assert (night.tip, len(night.rows), night.rows[0].n) == (plain.tip, len(plain.rows), plain.rows[0].n)
    assert [(row.number, row.value, row.reason, row.n) for row in night.rows] == [
        (row.number, row.value, row.reason, row.n) for row in plain.rows
    ]
    kinds = [type(event) for event in night.listener.events]
    measured = [getattr(event, "purpose", None) for event in night.listener.events].index(Purpose.CANARY)
    assert kinds.index(CanaryMade) < measured < kinds.index(Approved)
    assert kinds.count(CanaryMade) == 3


async def test_max_trials_gives_exactly_that_many_rows_at_eight_slots() -> None:
    night = Night(slots=8)
    await night.pass_by()
    assert sorted(trial.number for trial in night.rows) == list(range(13))
    assert night.rows[0].number == 0
    assert night.tip == b"88\n"


async def test_what_is_worse_or_equal_is_discarded() -> None:
    night = Night(lambda brief, files: put(101 if brief.trial % 2 else 100.0), replace(CONFIG, max_trials=2))
    await night.pass_by()
    assert set(night.reasons().values()) == {Reason.BASELINE, Reason.WORSE, Reason.EQUAL}
    assert night.repository.landed == []


async def test_equal_with_fewer_lines_is_kept_as_simplified() -> None:
    repository = MemoryRepository({"x.txt": b"100\n\n\n"})
    night = Night(lambda brief, files: put(100), replace(CONFIG, max_trials=1), repository=repository)
    await night.pass_by()
    assert night.reasons()[1] is Reason.SIMPLIFIED


async def test_an_identical_tree_is_measured_once_in_flight_included() -> None:
    night = Night(lambda brief, files: put(50), replace(CONFIG, max_trials=4), slots=4)
    await night.pass_by()
    reasons = sorted(trial.reason for trial in night.rows)
    assert reasons == [Reason.BASELINE, *[Reason.DUPLICATE] * 3, Reason.IMPROVED]
    assert all(trial.value == 50.0 for trial in night.rows[1:])


async def test_a_duplicate_of_a_crash_is_a_crash() -> None:
    night = Night(lambda brief, files: put("oops"), replace(CONFIG, max_trials=3), slots=2)
    await night.pass_by()
    assert {trial.outcome for trial in night.rows[1:]} == {Outcome.CRASH}
    assert sorted(trial.reason for trial in night.rows[1:]) == [Reason.DUPLICATE, Reason.DUPLICATE, Reason.NO_METRIC]


async def test_compatible_winners_are_combined_and_the_combination_is_measured() -> None:
    repository = MemoryRepository({"x.txt": b"10\n", "y.txt": b"10\n"})

    def total(files: Files, request: Request) -> str:
        return f"loss: {sum(float(data) for data in files.values())}"

    def choose(brief: Brief, files: Files) -> Change:
        return put(brief.trial, "x.txt" if brief.trial == 1 else "y.txt")

    night = Night(choose, replace(CONFIG, max_trials=2), slots=2, repository=repository, evaluate=total)
    await night.pass_by()
    assert [trial.reason for trial in night.rows[1:]] == [Reason.IMPROVED] * 2
    assert repository.files(repository.tip) == {"x.txt": b"1\n", "y.txt": b"2\n"}
    assert night.rows[-1].value == 3.0


async def test_a_conflicting_winner_replaces_the_incumbent_only_if_it_beats_it() -> None:
    night = Night(lambda brief, files: put(100 - 10 * brief.trial), replace(CONFIG, max_trials=2), slots=2)
    await night.pass_by()
    assert night.tip == b"80\n"
    assert night.reasons() in (
        {0: Reason.BASELINE, 1: Reason.IMPROVED, 2: Reason.REPLACED},
        {0: Reason.BASELINE, 2: Reason.IMPROVED, 1: Reason.CONFLICT},
    )


async def test_a_free_slot_never_waits_for_the_slowest() -> None:
    repository = MemoryRepository({"x.txt": b"100\n"})
    slow = HeldSlot(0, repository, show_x)
    fast = FakeSlot(1, repository, show_x)
    night = Night(config=replace(CONFIG, max_trials=6), slots=[slow, fast], repository=repository)
    async with night.under_way():
        while await slow.begun() == 0:  # the baseline
            slow.finish()
        await night.store.reached(6)
        assert slow.running == 1
        slow.finish()
        for _ in range(20):
            slow.finish()
    assert len(night.rows) == 7


async def test_a_crash_is_repaired_once() -> None:
    def choose(brief: Brief, files: Files) -> Change:
        return put(f"oops {brief.trial}" if brief.repair is None or brief.trial == 2 else 7)

    proposer = FakeProposer(choose, repairs=True)
    night = Night(proposer, replace(CONFIG, max_trials=2), slots=1)
    await night.pass_by()
    by_number = {trial.number: trial for trial in night.rows}
    assert by_number[1].reason is Reason.IMPROVED
    assert by_number[2].outcome is Outcome.CRASH
    assert sum(brief.repair is not None for brief in proposer.briefs) == 2


async def test_a_useless_answer_is_a_crash_and_a_busy_server_is_not() -> None:
    calls = iter(range(100))

    def choose(brief: Brief, files: Files) -> Change:
        if next(calls) % 2 == 0:
            raise ProposalDeferred("overloaded", retry_after_seconds=30.0)
        if brief.trial == 1:
            raise ProposalFailed("no change in the answer")
        return put(50 - brief.trial)

    night = Night(choose, replace(CONFIG, max_trials=3, proposers=1), slots=1)
    await night.pass_by()
    assert night.reasons() == {
        0: Reason.BASELINE,
        1: Reason.PROPOSER_FAILED,
        2: Reason.IMPROVED,
        3: Reason.IMPROVED,
    }


async def test_a_slot_that_fails_is_retried_and_then_retired() -> None:
    repository = MemoryRepository({"x.txt": b"100\n"})

    def broken(files: Files, request: Request) -> str:
        raise OSError("No space left on device")

    slots = [FakeSlot(0, repository, show_x), FakeSlot(1, repository, broken)]
    night = Night(config=replace(CONFIG, max_trials=5), slots=slots, repository=repository)
    await night.pass_by()
    assert len(night.rows) == 6
    assert all(trial.worker == 0 for trial in night.rows)


async def test_a_candidate_that_no_slot_can_hold_is_a_crash_and_costs_no_slot() -> None:
    repository = MemoryRepository({"x.txt": b"100\n"})

    def poisoned(files: Files, request: Request) -> str:
        if files["x.txt"] == b"98\n":
            raise OSError("File name too long")
        return show_x(files, request)

    night = Night(config=replace(CONFIG, max_trials=5), repository=repository, evaluate=poisoned, slots=2)
    await night.pass_by()
    assert night.reasons()[2] is Reason.DOES_NOT_APPLY
    assert len(night.rows) == 6
    assert night.tip == b"95\n"


async def test_a_run_without_a_slot_cannot_go_on() -> None:
    def broken(files: Files, request: Request) -> str:
        raise OSError("No space left on device")

    with pytest.raises(BaseExceptionGroup) as caught:
        await Night(evaluate=broken).pass_by()
    assert caught.group_contains(NoSlotLeft, match="No space left")


async def test_a_noisy_metric_is_confirmed_by_fresh_runs() -> None:
    noise = iter([0.0, 0.5, -0.5, 0.2, -0.3] * 200)

    def noisy(files: Files, request: Request) -> str:
        return f"loss: {float(files['x.txt']) + next(noise)}"

    night = Night(
        lambda brief, files: put(100 - 20 * brief.trial), replace(CONFIG, max_trials=3), slots=2, evaluate=noisy
    )
    await night.pass_by()
    kept = [trial for trial in night.rows if trial.number and trial.outcome is Outcome.KEEP]
    assert kept
    assert all(trial.n >= 3 and trial.stdev is not None for trial in kept)


async def test_a_flaky_value_makes_the_metric_noisy() -> None:
    seen: dict[bytes, int] = {}

    def flaky(files: Files, request: Request) -> str:
        text = files["x.txt"]
        seen[text] = seen.get(text, 0) + 1
        lucky = text == b"99\n" and seen[text] == 1
        return f"loss: {1.0 if lucky else float(text)}"

    night = Night(lambda brief, files: put(99), replace(CONFIG, max_trials=1), slots=1, evaluate=flaky)
    await night.pass_by()
    assert night.rows[1].reason is Reason.UNCONFIRMED


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"target": 97.0}, "--target reached"),
        ({"patience": 3}, "--patience: 3 trials without a keep"),
        ({"max_time": 20.0}, "--max-time reached"),
        ({"max_cost": 1.0}, "--max-cost reached"),
    ],
)
async def test_stop_conditions(changes: dict[str, object], why: str) -> None:
    def choose(brief: Brief, files: Files) -> Change:
        return put(500 + brief.trial if "patience" in changes else 100 - brief.trial)

    proposer = FakeProposer(choose, seconds=1.0, cost_usd=0.1, cost_bound_usd=0.2)
    night = Night(proposer, replace(CONFIG, max_trials=None, **changes), slots=2)
    assert await night.pass_by() == why
    if "max_cost" in changes:
        assert 5 <= len(night.rows) - 1 <= 10


async def test_money_never_overshoots() -> None:
    proposer = FakeProposer(countdown, seconds=5.0, cost_usd=0.2, cost_bound_usd=0.2)
    night = Night(proposer, replace(CONFIG, max_trials=None, max_cost=1.0), slots=8)
    await night.pass_by()
    assert sum(trial.usage.cost_usd for trial in night.rows) <= 1.0 + 1e-9


async def test_exhausted_proposals_end_the_run() -> None:
    night = Night(lambda brief, files: put(100 - brief.trial) if brief.trial <= 3 else None)
    assert await night.pass_by() == "proposals exhausted"
    assert len(night.rows) == 4


async def test_an_end_that_a_resume_brings_at_once_is_told() -> None:
    night = Night(slots=1)
    await night.pass_by()
    night.listener.events.clear()
    assert await night.resume() == "--max-trials reached"
    assert [type(event) for event in night.listener.events] == [Resumed, Ended]


async def test_a_drain_that_a_stop_condition_began_is_stored() -> None:
    night = Night(slots=2, config=replace(CONFIG, target=99.0))
    await night.pass_by()
    marks = [stored.event for stored in await night.store.events() if isinstance(stored.event, StopAsked | Ended)]
    assert [(type(mark), mark.why) for mark in marks] == [
        (StopAsked, "--target reached"),
        (Ended, "--target reached"),
    ]


async def test_a_stop_drains_and_resume_goes_on() -> None:
    night = Night(FakeProposer(countdown, seconds=3.0), slots=2)
    async with night.under_way() as coordinator:
        await night.store.reached(4)
        coordinator.stop("Ctrl-C")
    before = dict(night.store.rows)
    assert len(before) < 13
    assert await night.resume() == "--max-trials reached"
    assert sorted(night.store.rows) == list(range(13))
    assert {number: night.store.rows[number] for number in before} == before
    assert night.tip == b"88\n"


@pytest.mark.parametrize("cut", range(5, 62, 3))  # from the approval on
async def test_a_run_killed_after_any_event_ends_the_same(cut: int) -> None:
    whole = Night(slots=1, config=replace(CONFIG, max_trials=5, proposers=1))
    await whole.pass_by()
    killed = Night(slots=1, config=replace(CONFIG, max_trials=5, proposers=1))
    with anyio.CancelScope() as scope:
        append = killed.store.append

        async def append_and_die(stamped: Stamped) -> None:
            await append(stamped)
            if len(killed.store.stamped) == cut:
                scope.cancel()
                await anyio.lowlevel.checkpoint()

        killed.store.append = append_and_die  # type: ignore[method-assign]
        await killed.pass_by()
    killed.store.append = append  # type: ignore[method-assign]
    if scope.cancelled_caught:
        await killed.resume()
    plain = [replace(trial, ended_at=0.0, seconds=0.0) for trial in killed.rows]
    assert [(trial.number, trial.reason, trial.value, trial.commit) for trial in plain] == [
        (trial.number, trial.reason, trial.value, trial.commit) for trial in whole.rows
    ]
    assert killed.repository.tip == whole.repository.tip


async def test_listeners_hear_of_every_end_once() -> None:
    night = Night(slots=3)
    await night.pass_by()
    assert sorted(trial.number for trial in night.listener.ended) == list(range(13))


async def test_with_one_worker_and_one_proposer_nothing_is_proposed_ahead() -> None:
    proposer = FakeProposer(countdown, ordered=True)
    night = Night(proposer, replace(CONFIG, proposers=1), slots=1)
    await night.pass_by()
    for brief in proposer.briefs:
        assert len(brief.history) == brief.trial
        assert brief.incumbent == brief.trial - 1


async def test_slots_are_busy_where_a_proposal_takes_as_long_as_a_measurement() -> None:
    repository = MemoryRepository({"x.txt": b"1000\n"})
    slots = [FakeSlot(number, repository, show_x) for number in range(8)]
    proposer = FakeProposer(lambda brief, files: put(2000 + brief.trial), seconds=1.0)
    night = Night(proposer, replace(CONFIG, max_trials=400), slots=slots, repository=repository)
    began = anyio.current_time()
    await night.pass_by()
    taken = anyio.current_time() - began
    measured = sum(len(slot.started) for slot in slots)
    assert measured / (8 * taken) >= 0.9


async def test_the_end_says_how_long_this_process_ran() -> None:
    night = Night(slots=1)
    await night.pass_by()
    began = anyio.current_time()
    await anyio.sleep(1000.0)
    await night.resume(max_trials=14)
    ends = [stamped.event for stamped in night.store.stamped if isinstance(stamped.event, Ended)]
    first, second = (end.facts["seconds"] for end in ends)
    assert 0 < second < first <= began


async def test_a_measurer_without_a_slot_ends_the_run() -> None:
    with pytest.raises(BaseExceptionGroup) as caught, anyio.fail_after(10):
        await Night(slots=[]).pass_by()
    assert caught.group_contains(NoSlotLeft, match="no slot")


async def test_a_run_that_has_nothing_left_to_do_ends_before_any_slot_is_there() -> None:
    night = Night(slots=1, config=replace(CONFIG, max_trials=1))
    await night.pass_by()

    class SlowMeasurer(FakeMeasurer):
        async def slots(self) -> AsyncIterator[Slot]:
            await anyio.sleep_forever()
            for slot in self._slots:
                yield slot

    night.measurer = SlowMeasurer(night.slots)
    with anyio.fail_after(10):
        assert await night.resume() == "--max-trials reached"
    assert len([stamped for stamped in night.store.stamped if isinstance(stamped.event, Ended)]) == 2


async def test_a_timer_that_goes_off_early_wakes_no_one_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a server that asked for patience would be waited for in vain, with nothing else under way."""
    sleep = anyio.sleep

    async def hasty(seconds: float) -> None:
        await sleep(seconds if seconds < 0.01 else seconds - 0.001)

    monkeypatch.setattr(anyio, "sleep", hasty)
    calls = iter(range(100))

    def choose(brief: Brief, files: Files) -> Change:
        if next(calls) == 0:
            raise ProposalDeferred("overloaded", retry_after_seconds=30.0)
        return put(50 - brief.trial)

    night = Night(choose, replace(CONFIG, max_trials=1, proposers=1), slots=1)
    with anyio.fail_after(3600):
        assert await night.pass_by() == "--max-trials reached"


async def test_the_run_knows_what_a_slot_may_use_and_whether_others_slow_it() -> None:
    repository = MemoryRepository({"x.txt": b"100\n"})
    devices = [Device(cpu_count=8), Device(("0",), "H100", (4, 5), cpu_count=2)]
    slots = [FakeSlot(number, repository, show_x, device=device) for number, device in enumerate(devices)]
    night = Night(config=replace(CONFIG, max_trials=1), slots=slots, repository=repository)
    coordinator = await night.begin()
    await coordinator.conduct()
    known = coordinator.run.slots.in_order
    assert [(slot.device, slot.shares_cpus, slot.cpus) for slot in known] == [
        ("shared CPUs", True, 8),
        ("GPU 0 (H100)", False, 2),
    ]
