"""The law of `Store`, over the fake and the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.lowlevel
import pytest

from autoresearch.events import Deferred, Event, SlotReady, Stamped, StopAsked
from autoresearch.protocols import Store
from autoresearch.store import SQLiteStore
from autoresearch.testing import MemoryStore
from autoresearch.trial import Outcome, Reason, Trial

pytestmark = pytest.mark.anyio


class RecordingStore(Store, Protocol):
    """A store whose rows can be read back."""

    async def earlier_trials(self) -> list[Trial]: ...

    async def facts(self) -> dict[str, Any]: ...


Open = Callable[[], AbstractAsyncContextManager[RecordingStore]]
"""Opens the store; again, where it was closed: what is durable is there."""


def trial(number: int) -> Trial:
    return Trial(number, Outcome.DISCARD, Reason.WORSE, f"idea {number}", value=float(number))


def stamped(number: int) -> Stamped:
    event: Event = Deferred(number, f"overloaded {number}", 2.5) if number % 2 else SlotReady(number, "GPU 0")
    return Stamped(1.75e9 + number, event)


class StoreContract:
    async def test_events_come_back_in_the_order_of_the_calls(self, opened: Open) -> None:
        async with opened() as store:
            for number in range(20):
                await store.append(stamped(number))
            assert await store.events() == [stamped(number) for number in range(20)]

    async def test_what_was_stored_is_there_when_it_is_opened_again(self, opened: Open) -> None:
        async with opened() as store:
            await store.append(stamped(1))
            await store.record(trial(1))
        async with opened() as store:
            assert await store.events() == [stamped(1)]
            assert await store.earlier_trials() == [trial(1)]

    async def test_concurrent_calls_are_each_stored_once(self, opened: Open) -> None:
        async with opened() as store:
            async with anyio.create_task_group() as group:
                for number in range(12):
                    group.start_soon(store.append, stamped(number))
                    group.start_soon(store.record, trial(number))
            assert sorted(event.at for event in await store.events()) == [stamped(number).at for number in range(12)]
            assert sorted(row.number for row in await store.earlier_trials()) == list(range(12))

    async def test_recording_again_changes_nothing(self, opened: Open) -> None:
        async with opened() as store:
            for row in (trial(2), trial(1), replace(trial(2), hypothesis="another", outcome=Outcome.KEEP)):
                await store.record(row)
            assert await store.earlier_trials() == [trial(2), trial(1)]

    async def test_a_fact_takes_the_place_of_the_earlier_one_of_its_name(self, opened: Open) -> None:
        async with opened() as store:
            await store.note("noise", {"stdev": 1.0})
            await store.note("drift", {"slots": [0, 1]})
            await store.note("noise", {"stdev": 2.0, "kind": "noisy"})
        async with opened() as store:
            assert await store.facts() == {"noise": {"stdev": 2.0, "kind": "noisy"}, "drift": {"slots": [0, 1]}}

    @pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8])
    async def test_a_cancelled_call_has_happened_whole_or_not_at_all(self, opened: Open, steps: int) -> None:
        async with opened() as store:
            async with anyio.create_task_group() as group:
                group.start_soon(store.append, stamped(1))
                group.start_soon(store.record, trial(1))
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            await store.append(Stamped(1.0, StopAsked("Ctrl-C")))
            await store.record(trial(2))
            *before, last = await store.events()
            assert before in ([], [stamped(1)])
            assert last.event == StopAsked("Ctrl-C")
            *rows, row = await store.earlier_trials()
            assert rows in ([], [trial(1)])
            assert row == trial(2)


class TestMemoryStore(StoreContract):
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def opened(self) -> Open:
        store = MemoryStore()

        @asynccontextmanager
        async def opened() -> AsyncIterator[MemoryStore]:
            yield store

        return opened


class TestSQLiteStore(StoreContract):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def opened(self, tmp_path: Path) -> Open:
        return lambda: SQLiteStore.open(tmp_path)
