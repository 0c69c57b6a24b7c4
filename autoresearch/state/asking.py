"""Which trial is asked for next, and when: numbers, pace, and the wait for a busy server."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from autoresearch.schedule import Pace

FIRST_WAIT_SECONDS = 2.0
LEAST_WAIT_SECONDS = 0.5
"""Also where the server says 0."""
LONGEST_WAIT_SECONDS = 1800.0


@dataclass(slots=True)
class Asking:
    """Numbers of trials are dealt once; one that was dropped without a row is dealt again first."""

    next_number: int = 1
    dropped: list[int] = field(default_factory=list)
    exhausted: str = ""
    """Why the proposer has nothing left; empty: it has."""
    pace: Pace = Pace()
    deferrals: int = 0
    """Times in a row that the server could not answer; requests that were under way together count once."""
    deferred_at: float = 0.0
    """When the latest of these times began."""
    not_before: float = 0.0
    """No proposal is asked for before this moment."""
    why_waiting: str = ""

    def number(self) -> int:
        """The next trial's number."""
        if self.dropped:
            return heapq.heappop(self.dropped)
        self.next_number += 1
        return self.next_number - 1

    def drop(self, number: int) -> None:
        """A number is to be dealt again."""
        heapq.heappush(self.dropped, number)

    def answered(self, seconds: float) -> None:
        """A proposal was answered after so many seconds: the server is well."""
        self.pace = self.pace.proposed(seconds)
        self.deferrals = 0
        self.why_waiting = ""

    def defer(self, asked_at: float, at: float, why: str, retry_after_seconds: float | None) -> None:
        """Wait as long as the server says, else twice as long each time."""
        if asked_at >= self.deferred_at:
            self.deferrals += 1
            self.deferred_at = at
        wait = FIRST_WAIT_SECONDS * 2.0 ** max(0, self.deferrals - 1)
        if retry_after_seconds is not None:
            wait = max(retry_after_seconds, LEAST_WAIT_SECONDS)
        wait = min(wait, LONGEST_WAIT_SECONDS)
        self.not_before = max(self.not_before, at + wait)
        self.why_waiting = why
