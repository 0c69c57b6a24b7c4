"""When a busy server is asked again."""

from __future__ import annotations

from autoresearch.state.asking import FIRST_WAIT_SECONDS, LEAST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, Asking


def test_requests_that_fail_together_count_once() -> None:
    asking = Asking()
    for worker in range(8):
        asking.defer(100.0, 101.0 + worker / 100, "overloaded", None)
    assert asking.not_before == 101.07 + FIRST_WAIT_SECONDS


def test_each_failure_of_a_later_request_doubles_the_wait_up_to_a_bound() -> None:
    asking, at, waits = Asking(), 0.0, []
    for _ in range(15):
        asking.defer(at, at + 1, "overloaded", None)
        waits.append(asking.not_before - (at + 1))
        at = asking.not_before
    assert waits[:4] == [FIRST_WAIT_SECONDS * factor for factor in (1, 2, 4, 8)]
    assert waits[-1] == LONGEST_WAIT_SECONDS


def test_an_answer_ends_the_doubling() -> None:
    asking = Asking()
    asking.defer(0.0, 1.0, "overloaded", None)
    asking.defer(3.0, 4.0, "overloaded", None)
    asking.answered(2.0)
    assert asking.why_waiting == ""
    asking.defer(20.0, 21.0, "overloaded", None)
    assert asking.not_before == 21.0 + FIRST_WAIT_SECONDS


def test_the_server_says_how_long_to_wait_within_bounds() -> None:
    asking = Asking()
    asking.defer(0.0, 1.0, "rate limit", 7.0)
    assert asking.not_before == 8.0
    asking.defer(8.0, 9.0, "rate limit", 0.0)
    assert asking.not_before == 9.0 + LEAST_WAIT_SECONDS
    asking.defer(10.0, 11.0, "rate limit", 1e9)
    assert asking.not_before == 11.0 + LONGEST_WAIT_SECONDS
