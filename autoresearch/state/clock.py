"""How long a run has been going, over all its processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Clock:
    """Time as the events tell it. The time between two processes of one run does not count."""

    at: float = 0.0
    """Of the latest event, in seconds since the epoch."""
    began_at: float = 0.0
    process_began_at: float = 0.0
    earlier_seconds: float = 0.0
    """What earlier processes of this run took."""

    def begin(self, at: float) -> None:
        """The run begins."""
        self.at = self.began_at = self.process_began_at = at

    def resume(self, at: float) -> None:
        """A new process takes the run over."""
        self.earlier_seconds = self.elapsed_seconds
        self.at = self.process_began_at = at

    def advance(self, at: float) -> None:
        """Never backwards, whatever the machine's clock does."""
        self.at = max(self.at, at)

    @property
    def process_seconds(self) -> float:
        """How long this process has run it."""
        return self.at - self.process_began_at

    @property
    def elapsed_seconds(self) -> float:
        """How long the run has been going, in all its processes."""
        return self.earlier_seconds + self.process_seconds
