"""Proposes what a file says, line by line: for tests, for repeating a run, for changes that were written elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio

from autoresearch.brief import Brief
from autoresearch.errors import ProposalFailed, ProposalsExhausted, UsageError
from autoresearch.protocols import Tree
from autoresearch.trial import Change, Edit, Proposal, Reply, Trial


@dataclass(frozen=True, slots=True)
class ReplayLine:
    """One change of the file, and when and from where it is proposed."""

    number: int
    """The line's number in the file, from 1."""
    change: Change
    delay_seconds: float = 0.0
    parent: int | None = None
    """The trial it starts from; None: the incumbent when the line is taken."""
    trial: int | None = None
    """Its number in the run whose log this line is from."""


class ReplayProposer:
    """Line k is trial k, always: no repair, no second try, at no cost."""

    repairs = False
    ordered = True
    cost_bound_usd = cost_least_usd = 0.0

    def __init__(self, lines: Sequence[ReplayLine]) -> None:
        self._lines = tuple(lines)

    @classmethod
    def load(cls, path: Path) -> ReplayProposer:
        """Read a file of JSON lines, whole.

        Lines of `autoresearch log --json` are valid: the baseline's is left out, and `parent` means the line of that
        trial, wherever it stands. In a file without `trial`, `parent` is the number of a line; 0 is the baseline.

        Raises:
            UsageError: the file cannot be read, is empty, or a line is not of the form; names the line.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise UsageError(f"replay file {path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"replay file {path}: it is not UTF-8 text") from error
        lines = []
        # Not splitlines(): JSON texts may hold U+2028 and the like.
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    lines.append(_line(number, line))
                except ValueError as error:
                    raise UsageError(f"{path}:{number}: {error}") from error
        proposals = [line for line in lines if line.trial != 0]
        if not proposals:
            raise UsageError(f"replay file {path}: it holds no line to propose")
        return cls(_with_parents(path, proposals))

    async def propose(self, brief: Brief, tree: Tree) -> Proposal:
        if brief.trial > len(self._lines):
            raise ProposalsExhausted(f"the replay file has {len(self._lines)} lines")
        line = self._lines[brief.trial - 1]
        await anyio.sleep(line.delay_seconds)
        if not line.change.edits:
            raise ProposalFailed(f"line {line.number} of the replay file holds no edits")
        return Proposal(line.change, Reply(text="", model="replay"), parent=line.parent)

    def tell(self, trial: Trial) -> None:
        """Nothing to learn."""


def _line(number: int, text: str) -> ReplayLine:
    """Raises ValueError that says what is wrong with the line."""
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("not JSON: nested too deeply") from error
    if not isinstance(row, dict):
        raise ValueError('a line is an object {"hypothesis": "...", "edits": [...]}')
    trial = _count(row, "trial")
    if trial == 0:
        return ReplayLine(number, Change("baseline", ()), trial=0)
    hypothesis, edits = row.get("hypothesis"), row.get("edits")
    if not isinstance(hypothesis, str):
        raise ValueError('"hypothesis" is missing or no text')
    if not isinstance(edits, list):
        raise ValueError('"edits" is missing or no list')
    change = Change(
        " ".join(hypothesis.split()), tuple(_edit(index, edit) for index, edit in enumerate(edits, start=1))
    )
    return ReplayLine(number, change, _delay_seconds(row), _count(row, "parent"), trial)


def _edit(index: int, row: Any) -> Edit:
    try:
        return Edit.from_row(row)
    except ValueError as error:
        raise ValueError(f"edit {index}: {error}") from error


def _count(row: dict[str, Any], key: str) -> int | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f'"{key}" is a trial number, from 0')
    return value


def _delay_seconds(row: dict[str, Any]) -> float:
    value = row.get("delay_seconds", 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError('"delay_seconds" is a number of seconds, from 0')
    return float(value)


def _with_parents(path: Path, lines: Sequence[ReplayLine]) -> list[ReplayLine]:
    """Turn the trial numbers of a log into the numbers that the lines get here.

    Raises:
        UsageError: a line starts from one that does not come before it.
    """
    if all(line.trial is None for line in lines):
        position = {index: index for index in range(len(lines) + 1)}
    else:
        position = {0: 0} | {line.trial: index for index, line in enumerate(lines, start=1) if line.trial is not None}
    placed = []
    for index, line in enumerate(lines, start=1):
        parent = line.parent if line.parent is None else position.get(line.parent, index)
        if parent is not None and parent >= index:
            raise UsageError(
                f"{path}:{line.number}: its parent, trial {line.parent}, does not come before it in the file; "
                'without "parent" the line starts from the incumbent'
            )
        placed.append(replace(line, parent=parent))
    return placed
