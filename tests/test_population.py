"""Which trial the next change starts from, and how it is asked for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.population import NEAR_MISSES, PLATEAU, Ask, Population
from autoresearch.trial import Operator, Outcome, Reason, Trial


def ended(number: int, outcome: Outcome, delta: float | None = None, reason: Reason = Reason.WORSE) -> Trial:
    return Trial(number, outcome, reason, "h", delta=delta)


def population(*outcomes: Outcome, deltas: Sequence[float | None] = ()) -> Population:
    """Told of one trial after the other, the baseline before them."""
    told = Population(kept=[0])
    for number, outcome in enumerate(outcomes, 1):
        told.tell(ended(number, outcome, deltas[number - 1] if deltas else -float(number)))
    return told


def asks(of: Population, in_flight: Sequence[Operator] = (), count: int = 2000) -> list[Ask]:
    return [of.ask(Random(seed), in_flight) for seed in range(count)]


STUCK = [Outcome.DISCARD] * PLATEAU


def test_the_last_keep_is_the_incumbent_and_the_parent() -> None:
    told = population(Outcome.KEEP, Outcome.DISCARD, Outcome.KEEP, Outcome.CRASH)
    assert (told.incumbent, told.kept, told.since_keep) == (3, [0, 1, 3], 1)
    assert {ask.parent for ask in asks(told)} == {3}


def test_the_same_seed_gives_the_same_ask() -> None:
    assert asks(population(*STUCK), count=50) == asks(population(*STUCK), count=50)


@pytest.mark.parametrize("busy", list(Operator))
def test_an_operator_in_flight_is_chosen_less(busy: Operator) -> None:
    told = population(*STUCK)
    free = Counter(ask.operator for ask in asks(told))
    taken = Counter(ask.operator for ask in asks(told, [busy] * 5))
    assert free[busy] > 3 * taken[busy]


def test_after_ten_trials_without_a_keep_the_search_widens() -> None:
    steady, stuck = population(*STUCK[:-1]), population(*STUCK)
    assert (steady.plateau, stuck.plateau) == (False, True)
    narrow, wide = ({ask.operator for ask in asks(each)} for each in (steady, stuck))
    assert narrow == {Operator.IMPROVE, Operator.EXPLORE, Operator.SIMPLIFY}
    assert wide == set(Operator)
    stuck.tell(ended(99, Outcome.KEEP))
    assert not stuck.plateau


def test_on_a_plateau_some_start_from_an_older_keep() -> None:
    told = population(*[Outcome.KEEP] * 6, *STUCK)
    parents: defaultdict[Operator, set[int]] = defaultdict(set)
    for ask in asks(told):
        parents[ask.operator].add(ask.parent)
    assert parents.pop(Operator.EXPLORE) == {3, 4, 5}
    assert set.union(*parents.values()) == {6}


def test_on_a_plateau_some_start_from_what_did_not_go_with_a_keep() -> None:
    told = population(Outcome.KEEP)
    for number, reason in enumerate([Reason.SUPERSEDED, Reason.CONFLICT, *[Reason.WORSE] * PLATEAU], 2):
        told.tell(Trial(number, Outcome.DISCARD, reason, "h", commit=f"c{number}", delta=-1.0))
    assert {ask.parent for ask in asks(told) if ask.operator is Operator.EXPLORE} == {0, 2, 3}


def test_only_near_misses_are_combined() -> None:
    told = Population(kept=[0])
    for number in range(1, 40):
        told.tell(ended(number, Outcome.DISCARD, -float(number)))
    told.tell(ended(50, Outcome.CRASH))
    told.tell(ended(51, Outcome.DISCARD, None, Reason.CHECKS_FAILED))
    told.tell(ended(52, Outcome.DISCARD, 5.0, Reason.DUPLICATE))
    combined = {ask.combine_with for ask in asks(told) if ask.operator is Operator.COMBINE}
    assert combined == set(range(1, NEAR_MISSES + 1))
    assert {ask.combine_with for ask in asks(told) if ask.operator is not Operator.COMBINE} == {None}


def test_with_nothing_to_combine_it_explores() -> None:
    told = population(*[Outcome.CRASH] * PLATEAU)
    assert Operator.COMBINE not in {ask.operator for ask in asks(told)}


@given(st.lists(st.tuples(st.sampled_from(Outcome), st.none() | st.floats(-10, 10)), max_size=60), st.integers())
def test_whatever_ended_an_ask_starts_from_a_keep(told: list[tuple[Outcome, float | None]], seed: int) -> None:
    known = population(*(outcome for outcome, _ in told), deltas=[delta for _, delta in told])
    ask = known.ask(Random(seed), [])
    assert ask.parent in known.kept
    assert (ask.combine_with is None) == (ask.operator is not Operator.COMBINE)
    gains = [gain for gain, _ in known.near_misses]
    assert gains == sorted(gains, reverse=True) and len(gains) <= NEAR_MISSES
