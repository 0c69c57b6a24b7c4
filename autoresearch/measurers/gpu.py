"""GPU memory that a measurement takes, where nvidia-ml-py is installed."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from autoresearch.errors import SlotLost

_SAMPLE_SECONDS = 0.5


class GpuMemory:
    """The most that was in use on a slot's GPUs, beyond what was in use before."""

    def __init__(self, gpus: Sequence[str]) -> None:
        self._library = _library() if gpus else None
        self._gpus = gpus
        self._before: int | None = None
        self.peak_bytes = 0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look twice a second while the block runs; `peak_bytes` stays 0 where nothing can be seen."""
        self._before, self.peak_bytes = self._used(), 0
        if self._library is None or self._before is None:
            yield
            return
        lost: SlotLost | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            try:
                yield
            except SlotLost as error:
                lost = error  # the group would wrap it
            group.cancel_scope.cancel()
        if lost is not None:
            raise lost

    async def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, (self._used() or 0) - (self._before or 0))
            await anyio.sleep(_SAMPLE_SECONDS)

    def _used(self) -> int | None:
        """Bytes in use on the slot's GPUs; None where they cannot be asked."""
        if self._library is None:
            return None
        try:
            handles = [_handle(self._library, gpu) for gpu in self._gpus]
            return sum(int(self._library.nvmlDeviceGetMemoryInfo(handle).used) for handle in handles)
        except (self._library.NVMLError, ValueError):
            return None


def _library() -> Any:
    try:
        library = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        library.nvmlInit()
    except library.NVMLError:
        return None
    return library


def _handle(library: Any, gpu: str) -> Any:
    if gpu.isdigit():
        return library.nvmlDeviceGetHandleByIndex(int(gpu))
    return library.nvmlDeviceGetHandleByUUID(gpu)
