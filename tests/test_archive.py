"""What is known of trees, and the noise that their repetitions show."""

from __future__ import annotations

import math
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.state.archive import Archive
from autoresearch.trial import Edit, Outcome, Reason, Trial

VALUES = st.lists(st.tuples(st.sampled_from("abcd"), st.floats(-1e3, 1e3)), max_size=40)


def textbook(groups: list[list[float]]) -> tuple[float, int]:
    """The pooled standard deviation and its degrees of freedom."""
    dof = sum(len(group) - 1 for group in groups)
    squares = sum((value - mean(group)) ** 2 for group in groups for value in group)
    return (math.sqrt(squares / dof) if dof else 0.0), dof


def trial(number: int, tree: str = "", outcome: Outcome = Outcome.DISCARD, **fields: object) -> Trial:
    return Trial(number, outcome, Reason.WORSE, "h", tree=tree or None, **fields)  # type: ignore[arg-type]


@given(VALUES, st.sets(st.sampled_from("abcd")))
def test_noise_is_pooled_over_all_trees_whether_or_not_they_are_still_compared_with(
    values: list[tuple[str, float]], forgotten: set[str]
) -> None:
    archive = Archive(owners=dict.fromkeys("abcd", 1))
    for tree, value in values:
        archive.measured(tree, value, 0)
    for tree in forgotten:
        archive.forget_pool(tree, 1)
    groups = [group for name in "abcd" if (group := [value for tree, value in values if tree == name])]
    stdev, dof = textbook(groups)
    assert archive.noise.dof == dof
    assert archive.noise.stdev == pytest.approx(stdev, rel=1e-6, abs=1e-9)
    assert forgotten.isdisjoint(archive.pools)


@given(st.lists(st.sampled_from("abc"), max_size=30), st.floats(-1e6, 1e6))
def test_where_all_repetitions_agree_the_metric_is_deterministic(trees: list[str], value: float) -> None:
    archive = Archive()
    for tree in trees:
        archive.measured(tree, value + ord(tree), 0)
    assert archive.noise.deterministic


def test_one_disagreement_makes_it_noisy_for_good() -> None:
    archive = Archive()
    archive.disagreed([1.0, 2.0])
    for _ in range(50):
        archive.measured("a", 3.0, 0)
    assert not archive.noise.deterministic
    assert archive.noise.dof == 50


def test_only_its_owner_gives_a_tree_up() -> None:
    archive = Archive(owners={"a": 1, "b": 1})
    archive.measured("a", 1.0, 0)
    archive.forget_pool("a", 2)
    archive.give_up("a", 2)
    assert archive.pools == {"a": [1.0]}
    archive.forget_pool("a", 1)
    assert (archive.pools, archive.owners) == ({}, {"a": 1, "b": 1})
    archive.give_up("a", 1)
    assert archive.owners == {"b": 1}


def test_ended_trials_are_found_by_number_and_the_first_of_a_tree_says_what_it_is_worth() -> None:
    archive = Archive()
    for each in (trial(0, "base", Outcome.KEEP), trial(3, "t"), trial(1, "t"), trial(2, "k", Outcome.KEEP)):
        archive.add(each)
    assert [each.number for each in archive.ended] == [0, 3, 1, 2]
    assert archive.trial(1) == archive.ended[2]
    assert archive.trial(7) is None
    assert archive.results["t"].number == 3
    assert [each.number for each in archive.tally.kept] == [2]


def test_long_tails_and_large_edits_are_left_to_the_store() -> None:
    archive = Archive()
    archive.add(trial(1, tail="x" * 10_000, edits=(Edit("a", content="y" * 10_000),)))
    archive.add(trial(2, tail="short", edits=(Edit("a", old="1", new="2"),)))
    large, small = archive.ended
    assert (len(large.tail), large.edits) == (400, ())
    assert (small.tail, small.edits) == ("short", (Edit("a", old="1", new="2"),))
