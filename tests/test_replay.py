"""Replay files: what is a line, what is refused, and which trial a line becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.brief import Brief
from autoresearch.config import RunConfig
from autoresearch.errors import ProposalFailed, ProposalsExhausted, UsageError
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.proposers.replay import ReplayProposer
from autoresearch.protocols import Tree
from autoresearch.trial import Edit, Operator, Proposal

pytestmark = pytest.mark.anyio

TREE = cast(Tree, None)
EDIT = {"path": "a.py", "old": "1", "new": "2"}


def brief(trial: int) -> Brief:
    metric = Metric("loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "loss"))
    return Brief(trial, 0, Operator.IMPROVE, RunConfig(), metric, 1.0, 1.0, 0)


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "changes.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


async def propose(path: Path, trial: int) -> Proposal:
    return await ReplayProposer.load(path).propose(brief(trial), TREE)


async def test_line_k_is_trial_k_and_then_there_is_nothing_left(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"hypothesis": "one", "edits": [EDIT]},
        "",
        {"hypothesis": "two", "edits": [{"path": "b", "content": ""}, {"path": "c", "delete": True}]},
    )
    proposer = ReplayProposer.load(path)
    second = await proposer.propose(brief(2), TREE)
    first = await proposer.propose(brief(1), TREE)
    assert (first.change.hypothesis, first.change.edits) == ("one", (Edit("a.py", old="1", new="2"),))
    assert second.change.edits == (Edit("b", content=""), Edit("c", delete=True))
    assert first.parent is None
    with pytest.raises(ProposalsExhausted):
        await proposer.propose(brief(3), TREE)


async def test_a_line_waits_as_long_as_it_says(tmp_path: Path) -> None:
    proposer = ReplayProposer.load(write(tmp_path, {"hypothesis": "h", "edits": [EDIT], "delay_seconds": 3600}))
    with anyio.move_on_after(0.05) as scope:
        await proposer.propose(brief(1), TREE)
    assert scope.cancelled_caught


async def test_a_parent_is_a_line_of_the_file(tmp_path: Path) -> None:
    line = {"hypothesis": "h", "edits": [EDIT]}
    path = write(tmp_path, line, line | {"parent": 1}, line | {"parent": 0})
    assert [(await propose(path, trial)).parent for trial in (1, 2, 3)] == [None, 1, 0]


async def test_a_log_in_the_order_in_which_trials_ended_is_replayable(tmp_path: Path) -> None:
    """Trial 3 ended first: here it is trial 1, and the line that started from it still does."""
    path = write(
        tmp_path,
        {"trial": 0, "parent": None, "status": "keep", "reason": "baseline", "hypothesis": "baseline", "metric": 1.0},
        {"trial": 3, "parent": 0, "status": "keep", "hypothesis": "three", "edits": [EDIT], "usd": 0.0},
        {"trial": 1, "parent": 0, "status": "discard", "hypothesis": "one", "edits": [EDIT]},
        {"trial": 4, "parent": 3, "status": "discard", "hypothesis": "four", "edits": [EDIT]},
    )
    replayed = [await propose(path, trial) for trial in (1, 2, 3)]
    assert [(each.change.hypothesis, each.parent) for each in replayed] == [("three", 0), ("one", 0), ("four", 1)]


async def test_a_logged_trial_without_a_change_fails_again(tmp_path: Path) -> None:
    path = write(tmp_path, {"trial": 1, "parent": 0, "status": "crash", "hypothesis": "", "edits": []})
    with pytest.raises(ProposalFailed):
        await propose(path, 1)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([], "a line is an object"),
        ({"edits": [EDIT]}, '"hypothesis" is missing'),
        ({"hypothesis": 3, "edits": [EDIT]}, '"hypothesis"'),
        ({"hypothesis": "h"}, '"edits" is missing'),
        ({"hypothesis": "h", "edits": {}}, '"edits"'),
        ({"hypothesis": "h", "edits": [EDIT, {"path": "a", "rename": "b"}]}, "edit 2: an edit is"),
        ({"hypothesis": "h", "edits": [EDIT | {"old": 1}]}, "edit 1: an edit is"),
        ({"hypothesis": "h", "edits": [{"old": "1", "new": "2"}]}, '"path"'),
        ({"hypothesis": "h", "edits": [EDIT], "delay_seconds": "1s"}, '"delay_seconds"'),
        ({"hypothesis": "h", "edits": [EDIT], "delay_seconds": -1}, '"delay_seconds"'),
        ('{"hypothesis": "h", "edits": [], "delay_seconds": NaN}', '"delay_seconds"'),
        ({"hypothesis": "h", "edits": [EDIT], "parent": "1"}, '"parent"'),
        ({"hypothesis": "h", "edits": [EDIT], "parent": True}, '"parent"'),
        ({"hypothesis": "h", "edits": [EDIT], "parent": 2}, "does not come before it"),
        ({"hypothesis": "h", "edits": [EDIT], "parent": 9}, "does not come before it"),
        ({"trial": 7, "hypothesis": "h", "edits": [EDIT], "parent": 1}, "does not come before it"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(tmp_path: Path, row: Any, what: str) -> None:
    path = write(tmp_path, {"hypothesis": "fine", "edits": [EDIT]}, row)
    with pytest.raises(UsageError) as raised:
        ReplayProposer.load(path)
    assert str(raised.value).startswith(f"{path}:2: ")
    assert what in str(raised.value)


def test_a_file_without_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no line to propose"):
        ReplayProposer.load(write(tmp_path, {"trial": 0, "hypothesis": "baseline"}))
    with pytest.raises(UsageError, match="No such file"):
        ReplayProposer.load(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="directory"):
        ReplayProposer.load(tmp_path)
    (tmp_path / "latin").write_bytes(b"\xff\xfe\n")
    with pytest.raises(UsageError, match="UTF-8"):
        ReplayProposer.load(tmp_path / "latin")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["hypothesis", "edits", "delay_seconds", "parent", "trial"])


@given(st.lists(st.dictionaries(KEYS, JSON, max_size=5) | JSON, max_size=3))
def test_any_file_is_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = write(tmp_path_factory.mktemp("replay"), *map(json.dumps, rows))
    try:
        ReplayProposer.load(path)
    except UsageError as error:
        assert "\n" not in str(error)
