from __future__ import annotations

import io
from contextlib import closing
from dataclasses import replace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, Group
from rich.screen import Screen

from autoresearch.events import Approved, SlotReady, TimePassed
from autoresearch.snapshot import SlotView, Snapshot
from autoresearch.trial import Outcome, Purpose, Reason, Trial, Usage
from autoresearch.views.console import LiveConsole
from autoresearch.views.picture import clock, picture
from tests.test_lines import METRIC, SNAPSHOT

pytestmark = pytest.mark.anyio
NOW = 1000.0
IDEA = "increase LR to 0.04"
SLOTS = (
    SlotView(0, "GPU 0", trial=48, purpose=Purpose.SCREEN, hypothesis=IDEA, since=NOW - 65),
    SlotView(1, "GPU 1", trial=40, purpose=Purpose.CONFIRM, hypothesis="deeper", since=NOW - 290),
    SlotView(2, "GPU 2", trial=40, purpose=Purpose.ANCHOR, since=NOW - 1),
    SlotView(3, "GPU 3", since=NOW),
    SlotView(4, "GPU 4", retired="disk full"),
    SlotView(5, "GPU 5", trial=49, purpose=Purpose.SCREEN, hypothesis="[bold]no\x1b[2J markup[/bold]", since=NOW + 5),
    *(SlotView(number, "GPU", trial=50, purpose=Purpose.SCREEN, hypothesis="網" * 90, since=NOW) for number in (6, 7)),
)
KEPT = [
    Trial(number, Outcome.KEEP, Reason.IMPROVED, f"idea {number}", value=1.0 - number / 1000, delta=0.001)
    for number in range(1, 21)
]
BUSY = Snapshot(
    at=NOW,
    began_at=0.0,
    metric=METRIC,
    slots=SLOTS,
    baseline=0.998,
    best=0.871,
    stdev=0.0012,
    incumbent=40,
    kept=KEPT,
    experiments=47,
    outcomes={"keep": 12, "discard": 31, "crash": 4},
    reasons={"worse": 25, "equal": 6, "timeout": 4, "improved": 12},
    proposing=3,
    queued=2,
    usage=Usage(input=1_200_000, cached=1_000_000, output=34_567, cost_usd=1.234),
    timeout_seconds=300.0,
    trials_left=53,
    seconds_left=7380.0,
    usd_left=8.77,
    plateau=True,
    approved=True,
    elapsed_seconds=4320.0,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def drawn(snapshot: Snapshot, width: int = 80, height: int = 24, now: float = NOW, verbose: bool = False) -> list[str]:
    """The screen's lines as a terminal without colour shows them, trailing spaces cut off."""
    paper = io.StringIO()
    console = Console(file=paper, width=width, height=height, no_color=True)
    console.print(Screen(Group(*picture(snapshot, now, width, height, verbose))))
    return [line.rstrip() for line in paper.getvalue().splitlines()]


SCREEN = """\
autoresearch  minimize val_bpb, running for 1h 12m
best     0.871 (-12.7%) by trial 40, baseline 0.998, spread 0.0012
trials   47 ended, 12 kept, 31 discarded, 4 crashed, plateau: bolder changes
cost     $1.23, 1,234,567 tokens (1,000,000 from cache)
left     53 trials, 2h 03m, $8.77
next     3 being proposed, 2 waiting for a slot

slot  doing     trial             time  hypothesis
   0  screen       48     1:05 of 5:00  increase LR to 0.04
   1  confirm      40     4:50 of 5:00  deeper
   2  anchor       40     0:01 of 5:00  the best so far, once more
   3  free
   4  retired  disk full
   5  screen       49     0:00 of 5:00  [bold]no [2J markup[/bold]
   6  screen       50     0:00 of 5:00  網網網網網網網網網網網網網網網網網網網 …
   7  screen       50     0:00 of 5:00  網網網網網網網網網網網網網網網網網網網 …

kept         value          gain  hypothesis
  20          0.98        +0.001  idea 20
  19         0.981        +0.001  idea 19
  18         0.982        +0.001  idea 18
  17         0.983        +0.001  idea 17
waiting: 529 overloaded
Ctrl-C: finish what runs, then stop"""


def test_the_whole_screen() -> None:
    lines = drawn(replace(BUSY, waiting="529 overloaded"))
    assert "\n".join(lines) == SCREEN


def test_draining() -> None:
    last = drawn(replace(BUSY, draining="--max-time reached"))[-1]
    assert last.startswith("draining: running measurements end; Ctrl-C twice to stop now  (--max-time")


def test_time_goes_on_between_two_events() -> None:
    lines = drawn(BUSY, now=NOW + 60)
    assert lines[0].endswith("running for 1h 13m")
    assert "left     53 trials, 2h 02m, $8.77" in lines
    assert "   0  screen       48     2:05 of 5:00  increase LR to 0.04" in lines


def test_nothing_is_known_yet() -> None:
    empty = Snapshot(NOW, NOW, None, (), None, None, None, 0, (), 0, {})
    lines = drawn(empty)
    assert lines[0] == "autoresearch  starting, running for 0s"
    assert lines[1] == "best     not measured yet"
    assert "      nothing yet" in lines


def test_the_baseline_is_the_best_until_something_is_kept() -> None:
    baseline = replace(BUSY, incumbent=0, best=0.998, kept=(), stdev=0.0)
    assert drawn(baseline)[1] == "best     0.998, the baseline"


def test_a_wide_and_high_screen_shows_more() -> None:
    lines = drawn(BUSY, 200, 60)
    assert "reasons  worse 25, improved 12, equal 6, timeout 4" in lines
    assert any("GPU 1  " in line for line in lines)
    assert sum("  idea " in line for line in lines) == 20
    assert "網" * 60 in "".join(lines)


def test_many_slots_leave_room_for_what_was_kept() -> None:
    slots = [SlotView(number, "", ready_at=0.0) for number in range(30)] + [replace(SLOTS[0], number=30)]
    lines = drawn(replace(BUSY, slots=slots))
    assert any(IDEA in line for line in lines), "a slot at work goes before free ones"
    assert "      and 22 more slots, 0 of them measuring" in lines
    assert any("idea 19" in line for line in lines)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (59.9, "0:59"), (723, "12:03"), (3723, "1:02:03"), (-1, "0:00")]
)
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


SLOT_VIEWS = st.builds(
    SlotView,
    number=st.integers(0, 99),
    device=st.text(),
    trial=st.none() | st.integers(0, 10**6),
    purpose=st.none() | st.sampled_from(Purpose),
    hypothesis=st.text(),
    since=st.floats(0, 2e9),
    retired=st.just("") | st.text(),
)
SNAPSHOTS = st.builds(
    Snapshot,
    at=st.floats(0, 2e9),
    began_at=st.floats(0, 2e9),
    metric=st.sampled_from([None, METRIC]),
    slots=st.lists(SLOT_VIEWS, max_size=40),
    baseline=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    best=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    stdev=st.none() | st.floats(0, 1e9),
    incumbent=st.integers(0, 99),
    kept=st.lists(st.sampled_from(KEPT)),
    experiments=st.integers(0, 10**6),
    outcomes=st.dictionaries(st.sampled_from(["keep", "discard", "crash"]), st.integers(0, 10**6)),
    waiting=st.text(),
    draining=st.text(),
    seconds_left=st.none() | st.floats(0, 1e9),
)


@given(SNAPSHOTS, st.integers(1, 200), st.integers(1, 60), st.floats(0, 2e9))
def test_any_picture_fits_any_screen(snapshot: Snapshot, width: int, height: int, now: float) -> None:
    lines = picture(snapshot, now, width, height)
    assert len(lines) == height
    for line in lines:
        assert cell_len(line.plain) <= width
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in line.plain)


class TerminalPaper(io.StringIO):
    """Claims to be a terminal, and keeps what is written to it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


ENTER, LEAVE, CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> TerminalPaper:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    return TerminalPaper()


async def test_the_view_begins_when_the_plan_is_agreed_to(terminal: TerminalPaper) -> None:
    with closing(LiveConsole(stdout=terminal)) as console:
        listener = console.listener()
        listener.notify(NOW, SlotReady(0, ""), (), lambda: SNAPSHOT)
        assert terminal.getvalue().endswith("slot 0 ready\n") and ENTER not in terminal.getvalue()
        listener.notify(NOW, Approved(METRIC), (), lambda: BUSY)
        before, view = terminal.getvalue().split(ENTER)
        assert before.endswith("slot 0 ready\n")
        assert IDEA in view
        console.summary("=== Summary ===\n")
        after = terminal.getvalue().split(LEAVE)[1]
        assert after.endswith("=== Summary ===\n") and IDEA not in after
    assert terminal.getvalue().count(ENTER) == terminal.getvalue().count(LEAVE) == 1


async def test_whatever_happens_the_terminal_is_given_back(terminal: TerminalPaper) -> None:
    with pytest.raises(RuntimeError), closing(LiveConsole(stdout=terminal)) as console:
        console.listener().notify(NOW, TimePassed(), (), lambda: BUSY)
        raise RuntimeError
    end = terminal.getvalue().split(IDEA)[-1]
    assert LEAVE in end and CURSOR in end
    console.close()
    assert terminal.getvalue().count(LEAVE) == 1


async def test_what_is_said_meanwhile_stays_and_the_view_comes_back(terminal: TerminalPaper) -> None:
    with closing(LiveConsole(stdout=terminal)) as console:
        listener = console.listener()
        listener.notify(NOW, TimePassed(), (), lambda: BUSY)
        console.say("slot 3: no space left")
        assert terminal.getvalue().split(LEAVE)[1] == "slot 3: no space left\n"
        listener.notify(NOW, TimePassed(), (), lambda: BUSY)
        assert terminal.getvalue().count(ENTER) == 2


async def test_a_flood_of_events_is_looked_at_once_and_its_end_is_not_missed(terminal: TerminalPaper) -> None:
    made, seen_last = 0, anyio.Event()
    experiments = 0

    def snapshot() -> Snapshot:
        nonlocal made
        made += 1
        if experiments == 1000:
            seen_last.set()
        return replace(BUSY, experiments=experiments)

    with closing(LiveConsole(stdout=terminal)) as console:
        listener = console.listener()
        for number in range(1001):
            experiments = number
            listener.notify(NOW, TimePassed(), (), snapshot)
        with anyio.fail_after(10):
            await seen_last.wait()
    assert made <= 4  # one for whether it is agreed to, one for lines, one at first, one at the end


async def test_a_terminal_that_goes_away_does_not_stop_the_run(terminal: TerminalPaper) -> None:
    with closing(LiveConsole(stdout=terminal)) as console:
        listener = console.listener()
        listener.notify(NOW, TimePassed(), (), lambda: BUSY)
        terminal.close()
        listener.notify(NOW, TimePassed(), (), lambda: BUSY)
        console.summary("=== Summary ===\n")
