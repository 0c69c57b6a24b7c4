"""What is promised is settled, and nothing goes over the limit by a promise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autoresearch.budget import Budget, Limits, limits_of, promise_usd
from autoresearch.config import RunConfig

BOUND_USD = 0.25

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "answer", "defer", "cancel", "drop", "end"]), st.integers(0, 7), st.floats(0, 1)
    )
)


@given(STEPS, st.floats(0.0, 3.0), st.integers(0, 6))
def test_money_and_trials_stay_below_the_limit_and_nothing_stays_reserved(
    steps: list[tuple[str, int, float]], usd: float, trials: int
) -> None:
    budget, number, answered = Budget(Limits(trials=trials, usd=usd)), 0, set[int]()
    for step, choice, share in steps:
        asked, there = sorted(budget.reserved), sorted(answered)
        if step == "ask" and budget.allows(BOUND_USD):
            number += 1
            budget = budget.reserve(number, BOUND_USD)
        elif step in ("answer", "defer", "cancel", "drop") and asked:
            trial = asked[choice % len(asked)]
            if step == "answer":
                budget = budget.settle(trial, share * BOUND_USD)
                answered.add(trial)
            elif step == "defer":
                budget = budget.settle(trial, share * BOUND_USD)
                budget = budget.reserve(trial, BOUND_USD) if budget.affords(BOUND_USD) else budget.drop(trial)
            else:
                budget = (budget.forfeit(trial) if step == "cancel" else budget).drop(trial)
        elif step == "end" and there:
            trial = there[choice % len(there)]
            budget = budget.end(trial)
            answered.remove(trial)
        assert budget.usd + budget.forfeited_usd + sum(budget.reserved.values()) <= usd + 1e-9
        assert budget.trials + len(budget.live) <= trials
        assert budget.live == set(budget.reserved) | answered
    for trial in list(budget.reserved):
        budget = budget.drop(trial)
    for trial in answered:
        budget = budget.end(trial)
    assert not budget.reserved and not budget.live


def test_without_limits_everything_is_allowed() -> None:
    budget = Budget().reserve(1, 1e9).settle(1, 1e9)
    assert budget.allows(1e9)
    assert (budget.trials_left, budget.usd_left) == (None, None)


def test_a_limit_of_nothing_allows_nothing_even_for_free() -> None:
    assert not Budget(Limits(usd=0.0)).allows(0.0)
    assert not Budget(Limits(trials=0)).allows(0.0)


def test_what_is_left_counts_rows_and_answers() -> None:
    budget = Budget(Limits(trials=3, usd=1.0)).reserve(1, 0.5).settle(1, 0.2).end(1).reserve(2, 0.5)
    assert (budget.trials_left, budget.usd_left) == (2, 0.8)
    assert not budget.affords(0.5)
    assert budget.settle(2, 0.9).usd_left == 0.0


def test_a_repair_is_promised_again_for_the_same_trial() -> None:
    budget = Budget(Limits(trials=1, usd=1.0)).reserve(1, 0.5).settle(1, 0.1).reserve(1, 0.5)
    assert (budget.usd, sum(budget.reserved.values()), budget.live) == (0.1, 0.5, {1})


def test_what_was_promised_to_a_killed_proposal_is_not_to_be_had_again_though_it_is_not_known_to_be_spent() -> None:
    budget = Budget(Limits(usd=1.0)).reserve(1, 0.6).forfeit(1)
    assert (budget.usd, budget.usd_left, budget.affords(0.5), budget.affords(0.4)) == (0.0, 0.4, False, True)


def test_no_ceiling_is_no_limit() -> None:
    assert limits_of(RunConfig(max_cost=float("inf"), max_trials=4, max_time=5.0)) == Limits(4, 5.0, None)
    assert limits_of(RunConfig(max_cost=2.5)).usd == 2.5


def test_a_small_ceiling_is_dealt_into_several_proposals_where_they_can_be_held_to_that() -> None:
    assert promise_usd(None, 1.0, 0.25) == 1.0
    assert promise_usd(40.0, 1.0, 0.25) == 1.0
    assert promise_usd(4.0, 1.0, 0.25) == 0.5
    assert promise_usd(1.0, 1.0, 0.25) == 0.25
    assert promise_usd(1.0, 1.0, 0.0) == 1.0, "an agent costs what it costs"
