"""Two changes of one text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.merging import merge_lines

BASE = b"a\nb\nc\nd\n"


@pytest.mark.parametrize(
    ("ours", "theirs", "merged"),
    [
        (b"A\nb\nc\nd\n", b"a\nB\nc\nd\n", b"A\nB\nc\nd\n"),
        (b"A\nb\nc\nd\n", b"a\nb\nc\nD\n", b"A\nb\nc\nD\n"),
        (b"A\nb\nc\nd\n", b"A\nb\nc\nd\n", b"A\nb\nc\nd\n"),
        (b"A\nb\nc\nd\n", b"X\nb\nc\nd\n", None),
        (b"b\nc\nd\n", b"a\nB\nc\nd\n", b"B\nc\nd\n"),
        (b"a\nnew\nb\nc\nd\n", b"a\nother\nb\nc\nd\n", None),
        (b"a\nnew\nb\nc\nd\n", b"A\nb\nc\nd\n", None),
        (b"a\nb\nc\nd", b"A\nb\nc\nd\n", b"A\nb\nc\nd"),
    ],
)
def test_changes_of_neighbouring_lines_merge_and_of_the_same_do_not(
    ours: bytes, theirs: bytes, merged: bytes | None
) -> None:
    assert merge_lines(BASE, ours, theirs) == merged
    assert merge_lines(BASE, theirs, ours) == merged


TEXTS = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"\n"]), max_size=8).map(b"".join)


@given(TEXTS, TEXTS)
def test_one_change_alone_is_that_change(base: bytes, ours: bytes) -> None:
    assert merge_lines(base, ours, base) == ours
    assert merge_lines(base, base, ours) == ours
    assert merge_lines(base, ours, ours) == ours


@given(TEXTS, TEXTS, TEXTS)
def test_the_order_of_the_sides_does_not_matter(base: bytes, ours: bytes, theirs: bytes) -> None:
    assert merge_lines(base, ours, theirs) == merge_lines(base, theirs, ours)
