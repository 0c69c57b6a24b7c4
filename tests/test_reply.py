from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.errors import ProposalFailed
from autoresearch.reply import MAX_HYPOTHESIS_CHARS, from_submission, one_line, parse
from autoresearch.trial import Change, Edit

BLOCK = """<<<<<<< SEARCH
lr = 0.1
=======
lr = 0.2
>>>>>>> REPLACE"""
EDIT = Edit("train.py", old="lr = 0.1\n", new="lr = 0.2\n")


@pytest.mark.parametrize(
    "before",
    [
        "train.py\n",
        "`train.py`\n",
        "**train.py**:\n",
        "### File: `train.py`\n",
        "path: ./train.py\n\n",
        "In `train.py`, double the rate:\n\n",
    ],
)
@pytest.mark.parametrize(("opening", "closing"), [("", ""), ("```python\n", "\n```"), ("~~~\n", "\n~~~")])
def test_the_path_stands_before_the_block_or_before_its_fence(before: str, opening: str, closing: str) -> None:
    change = parse(f"hypothesis: learn faster\n\n{before}{opening}{BLOCK}{closing}\nDone.")
    assert change == Change("learn faster", (EDIT,))


@pytest.mark.parametrize(
    "opening", ["```\ntrain.py\n", "```python train.py\n", "```python:train.py\n", "```train.py\n"]
)
def test_the_path_stands_inside_the_fence_or_after_its_language(opening: str) -> None:
    assert parse(f"Faster.\n\n{opening}{BLOCK}\n```").edits == (EDIT,)


def test_markers_may_be_sloppy_and_line_breaks_of_windows() -> None:
    text = "train.py\n<<<<< SEARCH\nlr = 0.1\n=====\nlr = 0.2\n>>>>> REPLACE".replace("\n", "\r\n")
    assert parse(text).edits == (EDIT,)


def test_a_second_block_without_a_path_belongs_to_the_same_file() -> None:
    second = BLOCK.replace("lr", "wd")
    change = parse(f"train.py\n```\n{BLOCK}\n```\nand\n```\n{second}\n```\n")
    assert [edit.path for edit in change.edits] == ["train.py", "train.py"]
    assert change.edits[1].old == "wd = 0.1\n"


def test_an_empty_search_is_the_whole_file_and_an_empty_replacement_deletes_lines() -> None:
    text = "new.py\n<<<<<<< SEARCH\n=======\nx = 1\n>>>>>>> REPLACE\n"
    text += "old.py\n<<<<<<< SEARCH\ny = 1\n=======\n>>>>>>> REPLACE"
    assert parse(text).edits == (Edit("new.py", content="x = 1\n"), Edit("old.py", old="y = 1\n", new=""))


def test_a_block_may_hold_fences() -> None:
    text = "README.md\n````\n<<<<<<< SEARCH\n```sh\nrun\n```\n=======\n```sh\nrun fast\n```\n>>>>>>> REPLACE\n````\n"
    assert parse(text).edits == (Edit("README.md", old="```sh\nrun\n```\n", new="```sh\nrun fast\n```\n"),)


@pytest.mark.parametrize(
    "opening",
    [
        "src/a.py\n```python\n",
        "**`src/a.py`**\n\n```\n",
        "```python src/a.py\n",
        '```py title="src/a.py"\n',
        "```src/a.py\n",
    ],
)
def test_a_fenced_block_with_a_path_is_the_whole_file(opening: str) -> None:
    change = parse(f"Rewrite it. It is shorter.\n\n{opening}a = 1\n\nb = 2\n```\n")
    assert change == Change("Rewrite it.", (Edit("src/a.py", content="a = 1\n\nb = 2\n"),))


def test_blocks_and_whole_files_may_stand_in_one_reply() -> None:
    text = f"train.py\n```\n{BLOCK}\n```\n\nextra.py\n```python\nx = 1\n```\n"
    assert parse(text).edits == (EDIT, Edit("extra.py", content="x = 1\n"))


def test_a_snippet_without_a_path_is_not_an_edit() -> None:
    with pytest.raises(ProposalFailed, match="no change"):
        parse("You could do\n```python\nx = 1\n```\nor not.")


def test_a_unified_diff_becomes_edits() -> None:
    text = """hypothesis: two places
```diff
diff --git a/src/a.py b/src/a.py
--- a/src/a.py
+++ b/src/a.py
@@ -1,3 +1,3 @@ def f():
 one
-two
+2

 three
@@ -10,2 +10,3 @@
 ten
+more
--- /dev/null
+++ b/new.py
@@ -0,0 +1,1 @@
+x = 1
\\ No newline at end of file
--- a/gone.py
+++ /dev/null
@@ -1 +0,0 @@
-x
```
"""
    assert parse(text) == Change(
        "two places",
        (
            Edit("src/a.py", old="one\ntwo\n\nthree\n", new="one\n2\n\nthree\n"),
            Edit("src/a.py", old="ten\n", new="ten\nmore\n"),
            Edit("new.py", content="x = 1"),
            Edit("gone.py", delete=True),
        ),
    )


def test_a_hunk_without_context_cannot_be_placed() -> None:
    with pytest.raises(ProposalFailed, match="cannot be placed"):
        parse("--- a/a.py\n+++ b/a.py\n@@ -3,0 +4 @@\n+x = 1\n")


def test_one_json_object_is_read_like_a_submission() -> None:
    row = {"hypothesis": "learn faster", "edits": [EDIT.to_row()]}
    assert parse(f"Here it is:\n```json\n{json.dumps(row, indent=1)}\n```") == Change("learn faster", (EDIT,))


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("hypothesis: learn faster", "learn faster"),
        ("**Hypothesis:** learn faster", "learn faster"),
        ("**Hypothesis**: learn faster.", "learn faster."),
        ("## HYPOTHESIS: *learn faster*", "learn faster"),
        ("- Hypothesis:\n\nlearn faster", "learn faster"),
        ("I think we can learn faster. It was slow.", "I think we can learn faster."),
        ("", "change train.py"),
    ],
)
def test_the_hypothesis_is_named_or_the_first_sentence(line: str, named: str) -> None:
    assert parse(f"{line}\n\ntrain.py\n{BLOCK}").hypothesis == named


def test_a_named_hypothesis_in_the_code_does_not_count_before_prose() -> None:
    text = f"train.py\n```\nhypothesis: str\n```\nhypothesis: learn faster\ntrain.py\n{BLOCK}"
    assert parse(text).hypothesis == "learn faster"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no change"),
        ("I refuse.", "no change"),
        (BLOCK, "no path"),
        ("train.py\n<<<<<<< SEARCH\nx\n=======\ny", "not closed"),
        ("train.py\n<<<<<<< SEARCH\nx\n=======\nx\n>>>>>>> REPLACE", "with itself"),
        ("x" * 1_000_001, "longer than"),
    ],
)
def test_a_useless_reply_says_why(text: str, why: str) -> None:
    with pytest.raises(ProposalFailed, match=why):
        parse(text)


def test_a_submission_is_read() -> None:
    rows = [EDIT.to_row(), {"path": "./a.py", "content": "x"}, {"path": "b.py", "delete": True}]
    change = from_submission({"hypothesis": "a\nb\x07", "edits": rows})
    assert change == Change("a b", (EDIT, Edit("a.py", content="x"), Edit("b.py", delete=True)))


@pytest.mark.parametrize(
    "edits",
    [
        json.dumps([EDIT.to_row()]),
        EDIT.to_row(),
        [EDIT.to_row() | {"content": None, "delete": False}],
        [EDIT.to_row() | {"comment": "doubles it"}],
    ],
)
def test_a_submission_may_be_sloppy(edits: object) -> None:
    assert from_submission({"hypothesis": "learn faster", "edits": edits}) == Change("learn faster", (EDIT,))


@pytest.mark.parametrize(
    ("submitted", "why"),
    [
        ({}, 'needs "edits"'),
        ({"edits": []}, 'needs "edits"'),
        ({"edits": [{"old": "a", "new": "b"}]}, 'edit 1: an edit needs a "path"'),
        ({"edits": ["x"]}, "edit 1: an edit is an object"),
        ({"edits": [{"path": "a.py", "content": "x" * 1_000_001}]}, "larger than"),
        ({"edits": [{"path": "a.py", "delete": True}] * 201}, "more than 200"),
        ({"edits": [{"path": "a" * 501, "delete": True}]}, "path is too long"),
        ({"edits": [{"path": "a\nb", "delete": True}]}, "control characters"),
    ],
)
def test_a_wrong_submission_says_why(submitted: dict[str, object], why: str) -> None:
    with pytest.raises(ProposalFailed, match=why):
        from_submission(submitted)


def test_half_surrogate_pairs_do_not_get_into_files() -> None:
    change = from_submission({"edits": [{"path": "a.py", "content": "\ud800x\udc80"}]})
    assert change.edits[0].content == "\ufffdx\ufffd"


DIFF = ["--- a/x.py", "+++ b/x.py", "+++ /dev/null", "@@ -1 +1 @@", "+a", "-b", " c", "", "\\ No newline"]
OTHER = ["train.py", "```", "````python a.py", "~~~", "hypothesis:", "Hypothesis: y", "{", '{"edits": [{}]}', "}"]
PIECES = st.sampled_from([*BLOCK.split("\n"), *DIFF, *OTHER])


@given(st.lists(PIECES | st.text(max_size=20), max_size=30).map("\n".join))
def test_any_text_is_a_change_or_a_failed_proposal(text: str) -> None:
    try:
        change = parse(text)
    except ProposalFailed:
        return
    assert change.edits
    assert 0 < len(change.hypothesis) <= MAX_HYPOTHESIS_CHARS
    assert change.hypothesis == one_line(change.hypothesis)
    assert Change.from_row(json.loads(json.dumps(change.to_row()))) == change


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=9) | st.sampled_from(["a.py", "x = 1\n"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["edits", "path", "old", "new", "content", "delete", "hypothesis"]), inner)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["edits", "hypothesis"]), JSON))
def test_any_submission_is_a_change_or_a_failed_proposal(submitted: dict[str, object]) -> None:
    try:
        change = from_submission(submitted)
    except ProposalFailed:
        return
    assert Change.from_row(json.loads(json.dumps(change.to_row()))) == change


def test_many_blocks_are_read_in_a_moment() -> None:
    block = f"train.py\n{BLOCK}\n"
    with pytest.raises(ProposalFailed, match="more than 200"):
        parse(block * 10_000)
