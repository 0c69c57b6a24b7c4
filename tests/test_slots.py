"""The slots as the run sees them."""

from __future__ import annotations

from autoresearch.events import SlotReady
from autoresearch.schedule import Work
from autoresearch.state.slots import Slots
from autoresearch.trial import Purpose


def work(trial: int, losses: int = 0) -> Work:
    return Work(trial, f"commit {trial}", Purpose.SCREEN, losses=losses)


def failing(first: Work, second: Work) -> list[list[Work]]:
    """What one slot gives back whose machine fails under two measurements in a row."""
    slots, back = Slots(), []
    slots.add(SlotReady(0), 0.0)
    for each in (first, second):
        slots.start(0, each, 0.0)
        back.append(slots.fail(0, "disk full", 1.0))
    assert slots.states[0].retired == "disk full"
    return back


def test_what_a_machine_failed_under_is_measured_elsewhere() -> None:
    assert failing(work(1), work(2)) == [[work(1, losses=1)], [work(2)]]


def test_a_slot_that_is_retired_gives_back_what_it_held_beside_what_it_measured() -> None:
    assert failing(work(1, losses=1), work(2)) == [[], [work(2), work(1, losses=2)]]
