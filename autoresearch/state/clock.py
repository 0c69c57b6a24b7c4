"""How long a run has been going, over all its processes."""

from __future__ import annotations

from dataclasses import dataclass

_ROUNDING_SECONDS = 0.001
"""Seconds since the epoch are no exact numbers: what is woken for a moment must not come before it."""


@dataclass(slots=True)
class Clock:
    """Time as the events tell it. The time between two processes of one run does not count."""

    at: float = 0.0
    """Of the latest event, in seconds since the epoch."""
    began_at: float = 0.0
    process_began_at: float = 0.0
    earlier_seconds: float = 0.0
    """What earlier processes of this run took."""
    asked_at: float | None = None
    """Since when the user is asked."""
    asked_seconds: float = 0.0
    """How long questions waited for the user, in this process."""

    def begin(self, at: float) -> None:
        """The run begins."""
        self.at = self.began_at = self.process_began_at = at

    def resume(self, at: float) -> None:
        """A new process takes the run over."""
        self.earlier_seconds = self.elapsed_seconds
        self.at = self.process_began_at = at
        self.asked_at, self.asked_seconds = None, 0.0

    def ask(self) -> None:
        """The user is asked something: the run cannot help how long that takes."""
        self.asked_at = self.at

    def answered(self) -> None:
        """The user has answered."""
        if self.asked_at is not None:
            self.asked_seconds += self.at - self.asked_at
        self.asked_at = None

    def advance(self, at: float) -> None:
        """Never backwards, whatever the machine's clock does."""
        self.at = max(self.at, at)

    @property
    def process_seconds(self) -> float:
        """How long this process has run it."""
        return self.at - self.process_began_at

    @property
    def elapsed_seconds(self) -> float:
        """How long the run has been going, in all its processes; questions to the user left out."""
        return self.earlier_seconds + self.process_seconds - self.asked_seconds

    def when(self, elapsed_seconds: float) -> float:
        """The moment at which it will have been going for that long, in seconds since the epoch; now, if it has."""
        return self.at + max(0.0, elapsed_seconds - self.elapsed_seconds) + _ROUNDING_SECONDS
