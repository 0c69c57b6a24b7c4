"""The live view: a picture of the run on the terminal's other screen, drawn again four times a second.

Only the event loop makes snapshots: a thread that looked at the run while the loop changes it would see it torn.
A thread draws the latest one with the current time. Writing may block for hours, as where somebody pressed Ctrl-S, and
must not hold up the run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import IO, cast

from rich.console import Console, Group
from rich.live import Live

from autoresearch.snapshot import Snapshot
from autoresearch.views.picture import picture
from autoresearch.views.terminal import Output

REFRESHES_PER_SECOND = 4
_SHARE_OF_LOOP = 0.05
"""The most of the event loop's time that making snapshots may take."""


class LiveView:
    """Shows a run from the first `look` until `stop`; a later `look` shows it again."""

    def __init__(self, output: Output, verbose: bool = False) -> None:
        self._console = Console(file=cast(IO[str], output), highlight=False, markup=False, emoji=False)
        self._verbose = verbose
        self._live: Live | None = None
        self._latest: Snapshot | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._ahead = 0.0
        """The run's clock less the monotonic one: the run's may differ from the machine's."""

    @property
    def possible(self) -> bool:
        """Whether the terminal can move its cursor."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def look(self, at: float, snapshot: Callable[[], Snapshot]) -> None:
        """Something happened at `at`: take a new snapshot now, or as soon as one is due. From the event loop."""
        self._ahead = at - time.monotonic()
        if self._live is None:
            self._take(snapshot)
            self._start()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._not_before - time.monotonic(), self._take, snapshot)

    def stop(self) -> None:
        """Leave the other screen and show the cursor. May be called at any time, and again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _start(self) -> None:
        self._live = Live(
            console=self._console,
            screen=True,
            refresh_per_second=REFRESHES_PER_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=self._drawn,
        )
        self._live.start(refresh=True)

    def _take(self, snapshot: Callable[[], Snapshot]) -> None:
        self._timer = None
        began = time.monotonic()
        self._latest = snapshot()
        ended = time.monotonic()
        self._not_before = ended + max(1 / REFRESHES_PER_SECOND, (ended - began) / _SHARE_OF_LOOP)

    def _drawn(self) -> Group:
        """What the terminal shows, for its present size. Called by the drawing thread."""
        if self._latest is None:
            return Group()
        width, height = self._console.size
        return Group(*picture(self._latest, time.monotonic() + self._ahead, width, height, self._verbose))
