"""What a run is about to do, as shown before the one question."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Rows of label and text, in order; notes are warnings and choices that the user should know of."""

    rows: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    needs_ceiling: bool = False
    """The model has a price and no stop condition was named: the question asks for a ceiling in dollars."""
