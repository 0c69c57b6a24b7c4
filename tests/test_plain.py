from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch import plain

ANY_TEXT = st.text(st.characters(), max_size=60)


@given(ANY_TEXT)
def test_one_line_is_printable_and_one_line(text: str) -> None:
    shown = plain.one_line(text)
    assert len(shown.splitlines()) <= 1
    assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in shown)
    shown.encode()


@given(ANY_TEXT)
def test_lines_keep_breaks_and_tabs_and_nothing_that_steers(text: str) -> None:
    shown = plain.lines(text)
    assert not any(
        (character < " " and character not in "\n\t") or "\x7f" <= character <= "\x9f" for character in shown
    )
    shown.encode()


def test_a_terminal_escape_is_visible_and_harmless() -> None:
    assert plain.one_line("a\x1b[31mb\r\n\tc") == "a [31mb c"
    assert plain.lines("50%\r100%\r\nred\x1b[2J\n") == "50%\n100%\nred\ufffd[2J\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.998, "0.998"),
        (93.0, "93"),
        (1234567.0, "1234567"),
        (45060.2, "45060.2"),
        (1234567.25, "1234567.2"),
        (0.1 + 0.2, "0.3"),
        (1.5e-7, "1.5e-07"),
        (-0.0, "0"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_are_short_and_truthful(value: float, shown: str) -> None:
    assert plain.number(value) == shown


def test_numbers_that_differ_are_shown_to_differ() -> None:
    assert plain.apart(0.9979001, 0.9979002) == ("0.9979001", "0.9979002")
    assert plain.apart(1.0, 1.0 + 2**-52) == ("1.0", "1.0000000000000002")
    assert plain.apart(0.998, 0.871) == ("0.998", "0.871")


@pytest.mark.parametrize(
    ("baseline", "best", "shown"),
    [
        (0.998, 0.871, "-12.7%"),
        (50.0, 100.0, "+100.0%"),
        (-2.0, -1.0, "+50.0%"),
        (1.0, 1.0, "0.0%"),
        (0.0, 3.0, "+3"),
        (0.0, -0.5, "-0.5"),
        (0.0, 0.0, "0"),
        (1.0, 0.9999, "-0.01%"),
        (1.0, -1e250, "-1e+252%"),
    ],
)
def test_improvement_is_signed_and_relative_to_the_baseline(baseline: float, best: float, shown: str) -> None:
    assert plain.improvement(baseline, best) == shown


def test_durations() -> None:
    seconds = (0.04, 12.3, 59.96, 185, 4320, 270000)
    assert [plain.duration(each) for each in seconds] == ["0.04s", "12.3s", "60.0s", "3m 05s", "1h 12m", "3d 3h"]


def test_money_never_looks_free_when_it_is_not() -> None:
    assert [plain.dollars(usd) for usd in (0.0, 0.0042, 1.5, 1234.0)] == ["$0.00", "$0.0042", "$1.50", "$1234.00"]
