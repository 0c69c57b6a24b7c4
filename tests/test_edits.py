"""Edits apply all or not at all, exactly once, and keep what they do not speak of."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.edits import MAX_FILE_BYTES, apply_edits, nearest_lines
from autoresearch.errors import ChangeRejected
from autoresearch.trial import Edit, Reason


def edited(before: bytes, *edits: tuple[str, str]) -> bytes | None:
    return apply_edits([Edit("f", old=old, new=new) for old, new in edits], {"f": before})["f"]


def refused(edits: list[Edit], files: dict[str, bytes | None]) -> str:
    with pytest.raises(ChangeRejected) as caught:
        apply_edits(edits, files)
    assert caught.value.reason is Reason.DOES_NOT_APPLY
    return f"{caught.value.path}: {caught.value.why}"


def test_three_forms_in_one_change() -> None:
    edits = [Edit("a", old="1", new="2"), Edit("new", content="n"), Edit("b", delete=True)]
    assert apply_edits(edits, {"a": b"x = 1\n", "b": b"", "new": None}) == {"a": b"x = 2\n", "new": b"n", "b": None}


def test_edits_of_one_file_apply_in_order() -> None:
    assert edited(b"1\n", ("1", "2"), ("2", "3")) == b"3\n"
    again = [Edit("f", delete=True), Edit("f", content="new")]
    assert apply_edits(again, {"f": b"old"}) == {"f": b"new"}


@pytest.mark.parametrize(
    ("text", "old", "count"), [(b"a b", "c", "0"), (b"a a", "a", "2"), (b"aaa", "aa", "2"), (b"a\n", "", "empty")]
)
def test_old_must_occur_exactly_once(text: bytes, old: str, count: str) -> None:
    assert count in refused([Edit("f", old=old, new="x")], {"f": text})


def test_what_does_not_apply() -> None:
    assert refused([Edit("f", old="a", new="b")], {"f": None}).startswith("f: there is no such file")
    assert refused([Edit("f", old="a", new="b")], {}).startswith("f: there is no such file")
    assert refused([Edit("f", delete=True)], {"f": None}) == "f: there is no such file"
    assert "change nothing" in refused([Edit("f", content="same")], {"f": b"same"})
    assert "change nothing" in refused([Edit("f", old="a", new="b"), Edit("f", old="b", new="a")], {"f": b"a"})
    assert "empty" in refused([], {})
    assert "surrogate" in refused([Edit("f", content="\ud800")], {"f": None})
    assert "larger" in refused([Edit("f", content="x" * (MAX_FILE_BYTES + 1))], {"f": None})
    assert "larger" in refused([Edit("f", old="y", new="z")], {"f": b"x" * MAX_FILE_BYTES + b"y"})
    assert "larger" in refused([Edit(str(n), content="x" * MAX_FILE_BYTES) for n in range(5)], {})


def test_a_file_of_crlf_lines_keeps_them() -> None:
    assert edited(b"a\r\nb\r\nc\r\n", ("a\nb", "x\ny\nz")) == b"x\r\ny\r\nz\r\nc\r\n"
    assert edited(b"a\r\nb\r\n", ("a", "x\ny")) == b"x\r\ny\r\nb\r\n"
    assert edited(b"a\r\nb\r\n", ("a\r\nb", "x\r\ny")) == b"x\r\ny\r\n"
    assert apply_edits([Edit("f", content="x\ny\n")], {"f": b"a\r\n"}) == {"f": b"x\r\ny\r\n"}


def test_mixed_line_ends_change_only_where_the_edit_matches() -> None:
    assert edited(b"a\nb\r\nc\r\n", ("b\nc", "x\ny")) == b"a\nx\r\ny\r\n"
    assert edited(b"a\nb\r\n", ("a", "x\ny")) == b"x\ny\nb\r\n"


def test_a_byte_order_mark_and_a_missing_last_newline_stay() -> None:
    assert edited(b"\xef\xbb\xbfa\nb", ("a", "x")) == b"\xef\xbb\xbfx\nb"
    assert apply_edits([Edit("f", content="x")], {"f": b"\xef\xbb\xbfa"}) == {"f": b"\xef\xbb\xbfx"}


@given(st.binary(max_size=40), st.binary(max_size=10), st.binary(max_size=10), st.binary(max_size=40))
def test_all_other_bytes_stay(head: bytes, old: bytes, new: bytes, tail: bytes) -> None:
    """Any bytes go through; an edit that applies changes its own place alone."""
    texts = [part.decode("utf-8", "surrogateescape") for part in (head, old, new, tail)]
    before = "".join((texts[0], texts[1], texts[3])).encode("utf-8", "surrogateescape")
    decoded = before.decode("utf-8", "surrogateescape")
    if "\r" in decoded + texts[2] or decoded.startswith("\ufeff"):
        return
    try:
        after = apply_edits([Edit("f", old=texts[1], new=texts[2])], {"f": before})
    except ChangeRejected:
        starts = range(len(decoded))
        assert old == new or not old or sum(decoded.startswith(texts[1], at) for at in starts) != 1
    else:
        assert after == {"f": decoded.replace(texts[1], texts[2]).encode("utf-8", "surrogateescape")}


@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=5)), st.lists(st.sampled_from("abcd"), max_size=4))
def test_all_or_nothing(texts: dict[str, str], deleted: list[str]) -> None:
    files: dict[str, bytes | None] = {path: text.encode() for path, text in texts.items()}
    before = dict(files)
    edits = [Edit(path, delete=True) for path in deleted]
    try:
        assert apply_edits(edits, files) == dict.fromkeys(deleted)
        assert set(deleted) <= set(before) and len(set(deleted)) == len(deleted)
    except ChangeRejected:
        assert not deleted or not set(deleted) <= set(before) or len(set(deleted)) != len(deleted)
    assert files == before


def test_the_nearest_lines_are_found() -> None:
    text = "".join(f"line {n} of the file\n" for n in range(50))
    text += "def loss(a, b):\n    scale = 2.0\n    return scale * (a - b)\n" + "tail\n" * 20
    near = nearest_lines(text, "def loss(a, b):\n    scale = 3.0\n    return scale * (a-b)\n", context=1)
    assert near.splitlines() == [
        "line 49 of the file",
        "def loss(a, b):",
        "    scale = 2.0",
        "    return scale * (a - b)",
        "tail",
    ]
    assert "scale = 2.0" in nearest_lines(text, "    scale = 2.5")
    assert nearest_lines(text, "something that is nowhere at all") == ""
    assert nearest_lines("", "x") == "" and nearest_lines("x", "\n") == ""


def test_the_nearest_lines_of_a_large_file_are_found_in_time() -> None:
    text = "\n".join(f"value_{n} = compute(value_{n - 1}, {n})" for n in range(100_000))
    started = time.process_time()
    nearest_lines(text, "\n".join(f"value_{n} = compute(value_{n - 1}, {n + 1})" for n in range(500, 560)))
    nearest_lines("x" * 3_000_000, "y" * 1_000_000)
    assert time.process_time() - started < 3
