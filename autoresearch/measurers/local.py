"""Measures on this machine: one worktree and one supervised command at a time for each slot."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectSendStream
from anyio.to_thread import run_sync

from autoresearch import sandbox
from autoresearch.errors import RepositoryError, SlotLost, UsageError
from autoresearch.measurers.slot import LocalSlot, Workplace
from autoresearch.measurers.trees import Worktrees
from autoresearch.protocols import Device

__all__ = ["LocalMeasurer", "LocalSlot", "Workplace"]


class LocalMeasurer:
    """Slots on this machine, one for each device.

    Leaving it kills what runs, runs the teardown and empties temporary folders. Worktrees and caches stay, so that
    `resume` starts at once; `clean` removes them.
    """

    def __init__(
        self,
        repository: Worktrees,
        place: Workplace,
        devices: Sequence[Device],
        on_problem: Callable[[str], None] = lambda problem: None,
    ) -> None:
        """`on_problem` is told why a slot could not be made, or its teardown failed."""
        self._repository = repository
        self._place = place
        self._devices = devices
        self._on_problem = on_problem
        self._slots: dict[int, LocalSlot] = {}
        self._group: TaskGroup

    async def __aenter__(self) -> Self:
        await run_sync(_end_leftovers, self._place.state)
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._group.cancel_scope.cancel()
        try:
            return await self._group.__aexit__(kind, error, trace)
        finally:
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as group:
                    for slot in self._slots.values():
                        group.start_soon(self._close, slot)

    async def slots(self) -> AsyncGenerator[LocalSlot, None]:
        """Make all slots at once, and yield each as soon as it is ready.

        Raises:
            UsageError: not one could be made; why, from the first that failed.
        """
        some, untold = False, list[str]()
        send, receive = anyio.create_memory_object_stream[LocalSlot | str](len(self._devices))
        for number, device in enumerate(self._devices):
            self._group.start_soon(self._make, number, device, send)
        with send, receive:
            for _ in self._devices:
                made = await receive.receive()
                if isinstance(made, LocalSlot):
                    some = True
                    yield made
                else:
                    untold.append(made)
                while some and untold:  # where no slot is made, the first failure says it all
                    self._on_problem(untold.pop(0))
        if not some:
            raise UsageError(untold[0] if untold else "no slot: there is no device to measure on")

    async def _make(self, number: int, device: Device, send: MemoryObjectSendStream[LocalSlot | str]) -> None:
        made: LocalSlot | str
        try:
            path = await self._repository.worktree(f"slot-{number}")
            made = LocalSlot(number, device, path, self._repository, self._place)
            self._slots[number] = made  # from here on it has a teardown, also where it is cancelled
            await made.prepare()
        except (UsageError, RepositoryError, SlotLost, OSError) as error:
            self._slots.pop(number, None)
            made = f"slot {number}: {error}"
        with contextlib.suppress(anyio.ClosedResourceError):  # nobody asks for slots any more
            send.send_nowait(made)

    async def _close(self, slot: LocalSlot) -> None:
        try:
            await slot.close()
        except (UsageError, SlotLost, OSError) as error:
            self._on_problem(f"slot {slot.number}: {error}")


def _end_leftovers(state: Path) -> None:
    """Kill what a coordinator that died left behind, as where it was stopped in the middle of its own end."""
    for record in state.glob("*/running"):
        sandbox.end_recorded(record)
