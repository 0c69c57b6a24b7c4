"""How a model's reply becomes a Change.

A reply in plain text holds SEARCH/REPLACE blocks, unified diffs, whole files in fenced blocks, or one JSON object;
several forms may stand in one reply. Models are sloppy about fences and paths, so reading is tolerant; what was read
still has to apply exactly.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from autoresearch.errors import ProposalFailed
from autoresearch.trial import Change, Edit

MAX_CHARS = 1_000_000
"""Of a whole reply, and of all texts of one submission."""
MAX_EDITS = 200
MAX_PATH_CHARS = 500
MAX_HYPOTHESIS_CHARS = 200

_SEARCH = re.compile(r"\s*<{5,9} ?SEARCH\b.*$", re.IGNORECASE)
_DIVIDER = re.compile(r"\s*={5,9}\s*$")
_REPLACE = re.compile(r"\s*>{5,9} ?REPLACE\b.*$", re.IGNORECASE)
_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})(.*)$")
_OLD_FILE = re.compile(r"--- (?P<path>\S.*)$")
_NEW_FILE = re.compile(r"\+\+\+ (?P<path>\S.*)$")
_HUNK = re.compile(r"@@.*?@@")
_HYPOTHESIS = re.compile(r"^\W{0,6}hypothesis\W{0,4}:[\s*_]{0,4}(.*)$", re.IGNORECASE)
_PATH = re.compile(r"[\w@+.\-\[\]()/]+")
_LABEL = re.compile(r"^(?:file(?:name)?|path|new file)\s*[:=]\s*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_BARE_NAMES = frozenset({"makefile", "dockerfile", "justfile", "rakefile", "gemfile", "procfile", "license", "readme"})


def parse(text: str) -> Change:
    """Read a change from a reply in plain text.

    Raises:
        ProposalFailed: it holds no edit, or one that cannot be read.
    """
    if len(text) > MAX_CHARS:
        raise ProposalFailed(f"the reply is longer than {MAX_CHARS:,} characters")
    scan = _Scan(_clean(text).split("\n"))
    edits = scan.edits()
    if not edits:
        submitted = _json_object(scan.text)
        if submitted is None:
            raise ProposalFailed("the reply holds no change")
        return from_submission(submitted)
    return _change(_hypothesis(scan.prose) or _hypothesis(scan.lines) or _first_sentence(scan.prose), edits)


def from_submission(submitted: Mapping[str, Any]) -> Change:
    """Read a change from a tool call's input: {"hypothesis": TEXT, "edits": [EDIT, ...]}.

    Raises:
        ProposalFailed: it is not of this form, too large, or without an edit.
    """
    rows = _rows(submitted.get("edits"))
    if len(rows) > MAX_EDITS:
        raise ProposalFailed(f"more than {MAX_EDITS} edits in one change")
    edits = [_edit(number, row) for number, row in enumerate(rows, start=1)]
    hypothesis = submitted.get("hypothesis")
    return _change(hypothesis if isinstance(hypothesis, str) else "", edits)


def settle(change: Change, files: Mapping[str, bytes | None]) -> Change:
    """The change with each `old` cut to what the file ends with, where the file has no newline at its end.

    A block of lines ends with a newline, the last line of a file need not.
    """

    def settled(edit: Edit) -> Edit:
        text = (files.get(edit.path) or b"").decode("utf-8", "surrogateescape")
        old, new = edit.old, edit.new
        if not old or new is None or not old.endswith("\n") or old in text or not text.endswith(old[:-1]):
            return edit
        return Edit(edit.path, old=old[:-1], new=new.removesuffix("\n"))

    return Change(change.hypothesis, tuple(settled(edit) for edit in change.edits))


def one_line(text: str, limit: int = MAX_HYPOTHESIS_CHARS) -> str:
    """`text` without line breaks, control characters and runs of spaces, at most `limit` characters."""
    start = text[: limit * 10]  # enough, and cheap on texts of any length
    line = " ".join("".join(char if char.isprintable() else " " for char in start).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def _change(hypothesis: str, edits: Sequence[Edit]) -> Change:
    """The change, checked for what any source of edits can get wrong."""
    if not edits:
        raise ProposalFailed("the reply holds no change")
    if len(edits) > MAX_EDITS:
        raise ProposalFailed(f"more than {MAX_EDITS} edits in one change")
    if any(len(edit.path) > MAX_PATH_CHARS or not edit.path.isprintable() for edit in edits):
        raise ProposalFailed("an edit's path is too long or holds control characters")
    if sum(len(text) for edit in edits for text in (edit.old, edit.new, edit.content) if text) > MAX_CHARS:
        raise ProposalFailed(f"the change is larger than {MAX_CHARS:,} characters")
    useful = tuple(edit for edit in edits if edit.old is None or edit.old != edit.new)
    if not useful:
        raise ProposalFailed("every edit replaces a text with itself")
    paths = ", ".join(dict.fromkeys(edit.path for edit in useful))
    return Change(one_line(hypothesis) or one_line(f"change {paths}"), useful)


def _clean(text: str) -> str:
    """Line breaks as newlines; half surrogate pairs, which no file can hold, replaced."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def _rows(edits: Any) -> list[Any]:
    """The submitted edits as a list; models also send one object, or the list as a JSON text."""
    if isinstance(edits, str):
        edits = _loads(edits)
    if isinstance(edits, Mapping):
        return [edits]
    if not isinstance(edits, list) or not edits:
        raise ProposalFailed('a change needs "edits": a list of objects with a path')
    return edits


def _edit(number: int, row: Any) -> Edit:
    if not isinstance(row, Mapping):
        raise ProposalFailed(f"edit {number}: an edit is an object")
    known = ("path", "old", "new", "content", "delete")
    given = {key: row[key] for key in known if row.get(key) is not None and row.get(key) is not False}
    texts = {key: _clean(value) if isinstance(value, str) else value for key, value in given.items()}
    if isinstance(texts.get("path"), str):
        texts["path"] = texts["path"].strip().removeprefix("./")
    if texts.get("old") == "":
        texts.pop("old")
        texts["content"] = texts.pop("new", None)
    if "old" in texts:
        texts.setdefault("new", "")
        texts.pop("content", None)
    try:
        return Edit.from_row(texts)
    except ValueError as error:
        raise ProposalFailed(f"edit {number}: {error}") from None


def _loads(text: str) -> Any:
    """The JSON value, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_object(text: str) -> Mapping[str, Any] | None:
    """The JSON object with edits that the text holds, from its first brace to its last; None where there is none."""
    start, end = text.find("{"), text.rfind("}")
    found = _loads(text[start : end + 1]) if 0 <= start < end else None
    return found if isinstance(found, dict) and "edits" in found else None


def _hypothesis(lines: Sequence[str]) -> str:
    """What follows `hypothesis:` on its line, or on the next one where that is empty; empty where there is none."""
    for number, line in enumerate(lines):
        if match := _HYPOTHESIS.match(line):
            rest = [match[1], *lines[number + 1 : number + 3]]
            named = next((part for part in rest if part.strip(" *_")), "")
            return "" if _FENCE.match(named) or _SEARCH.match(named) else named.strip().rstrip("*_ ")
    return ""


def _first_sentence(prose: Sequence[str]) -> str:
    first = next((line for line in prose if line.strip() and not _path_alone(line)), "")
    return _SENTENCE_END.split(first.strip().lstrip("#*->_ ").rstrip("*_ "), maxsplit=1)[0]


def _path_alone(line: str) -> str | None:
    """The path that a line consists of, decorations and labels aside; None where it is something else."""
    bare = _LABEL.sub("", line.strip().strip("*#`\"' :").strip()).strip("*`\"' :").removeprefix("./")
    if not _PATH.fullmatch(bare) or bare.endswith(("/", ".")):
        return None
    return bare if "." in bare or "/" in bare or bare.lower() in _BARE_NAMES else None


def _path_within(line: str) -> str | None:
    """The path that a line is, or the only one that it quotes in backticks."""
    quoted = {path for part in re.findall(r"`([^`]+)`", line) if (path := _path_alone(part))}
    return _path_alone(line) or (quoted.pop() if len(quoted) == 1 else None)


def _path_of_info(info: str) -> str | None:
    """The path in a fence's opening line: `python train.py`, `python:train.py`, `python title="train.py"`."""
    words = re.split(r"[\s:]+", info.strip())
    return next((path for word in reversed(words) if (path := _path_alone(word.rpartition("=")[2]))), None)


class _Hunk(NamedTuple):
    old: str
    new: str
    end: int


class _Scan:
    """One pass over a reply's lines. `prose` are the lines that belong to no edit and no fenced block."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.prose: list[str] = []
        self._found: list[Edit] = []
        self._inside: str | None = None
        """The fence that is open around what is being read."""
        self._divided = _positions(lines)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def edits(self) -> list[Edit]:
        at = 0
        while at < len(self.lines):
            line = self.lines[at]
            if _SEARCH.match(line):
                at = self._block(at)
            elif self._diff_starts(at):
                at = self._diff(at)
            elif fence := _FENCE.match(line):
                at = self._fenced(at, fence[1], fence[2])
            else:
                if self._inside is None:
                    self.prose.append(line)
                at += 1
        return self._found

    def _block(self, start: int) -> int:
        """Read one SEARCH/REPLACE block; the index after it."""
        divider = self._next(_DIVIDER, start)
        end = self._next(_REPLACE, divider)
        if end >= len(self.lines):
            raise ProposalFailed("a SEARCH/REPLACE block is not closed")
        path = self._path_before(start) or (self._found[-1].path if self._found else None)
        if path is None:
            raise ProposalFailed("a SEARCH/REPLACE block has no path on the line before it")
        old, new = _joined(self.lines[start + 1 : divider]), _joined(self.lines[divider + 1 : end])
        self._found.append(Edit(path, old=old, new=new) if old.strip() else Edit(path, content=new))
        return end + 1

    def _next(self, marker: re.Pattern[str], after: int) -> int:
        later = islice(self._divided, bisect_right(self._divided, after), None)
        return next((at for at in later if marker.match(self.lines[at])), len(self.lines))

    def _path_before(self, start: int) -> str | None:
        """The path on the line before a block, or before its fence, or in its fence; blank lines between allowed."""
        for line in [line for line in reversed(self.lines[max(0, start - 6) : start]) if line.strip()][:2]:
            fence = _FENCE.match(line)
            if path := _path_of_info(fence[2]) if fence else _path_within(line):
                return path
            if not fence:
                return None
        return None

    def _diff_starts(self, at: int) -> bool:
        following = self.lines[at + 1] if at + 1 < len(self.lines) else ""
        return bool(_OLD_FILE.match(self.lines[at]) and _NEW_FILE.match(following))

    def _diff(self, start: int) -> int:
        """Read one file of a unified diff; the index after it."""
        old_path, new_path = _diff_path(self.lines[start]), _diff_path(self.lines[start + 1])
        path = new_path or old_path
        if path is None:
            raise ProposalFailed("a diff names no file")
        hunks, end = self._hunks(start + 2)
        if new_path is None:
            self._found.append(Edit(path, delete=True))
        elif old_path is None:
            self._found.append(Edit(path, content="".join(hunk.new for hunk in hunks)))
        else:
            if any(not hunk.old for hunk in hunks):
                raise ProposalFailed(f"{path}: a diff hunk without a line of the file cannot be placed")
            self._found.extend(Edit(path, old=hunk.old, new=hunk.new) for hunk in hunks)
        return end

    def _hunks(self, at: int) -> tuple[list[_Hunk], int]:
        hunks = []
        while at < len(self.lines) and _HUNK.match(self.lines[at]):
            hunk = self._hunk(at + 1)
            hunks.append(hunk)
            at = hunk.end
        return hunks, at

    def _hunk(self, at: int) -> _Hunk:
        """Read a hunk's lines by their first character; an empty line is context that lost its space."""
        marked: list[tuple[str, str]] = []
        while at < len(self.lines) and not self._diff_starts(at):
            line = self.lines[at]
            if line.startswith("\\") and marked:
                marked[-1] = (marked[-1][0], marked[-1][1].removesuffix("\n"))
            elif not line or line[0] in " +-":
                marked.append((line[:1] or "", line[1:] + "\n"))
            else:
                break
            at += 1
        while marked and marked[-1] == ("", "\n"):
            marked.pop()
        old = "".join(text for mark, text in marked if mark != "+")
        return _Hunk(old, "".join(text for mark, text in marked if mark != "-"), at)

    def _fenced(self, start: int, fence: str, info: str) -> int:
        """Read a fenced block, or step into it where it holds edits of another form; the index after it."""
        if self._inside is not None:
            if not info.strip() and fence.startswith(self._inside):
                self._inside = None
            return start + 1
        end = self._closing(start, fence)
        if any(_SEARCH.match(self.lines[at]) or self._diff_starts(at) for at in range(start + 1, end)):
            self._inside = fence
            return start + 1
        path = _path_of_info(info) or self._line_before(start)
        if path is not None:
            self._found.append(Edit(path, content=_joined(self.lines[start + 1 : end])))
        return end + 1

    def _closing(self, start: int, fence: str) -> int:
        """The index of the line that closes a fence, or of the end."""
        for at in range(start + 1, len(self.lines)):
            match = _FENCE.match(self.lines[at])
            if match and not match[2].strip() and match[1].startswith(fence):
                return at
        return len(self.lines)

    def _line_before(self, start: int) -> str | None:
        before = [line for line in self.lines[max(0, start - 2) : start] if line.strip()]
        return _path_alone(before[-1]) if before else None


def _positions(lines: Sequence[str]) -> list[int]:
    """Where the dividers and ends of SEARCH/REPLACE blocks may stand."""
    return [at for at, line in enumerate(lines) if _DIVIDER.match(line) or _REPLACE.match(line)]


def _joined(lines: Sequence[str]) -> str:
    """The lines as a text that ends with a newline; empty where there is none."""
    return "".join(f"{line}\n" for line in lines)


def _diff_path(line: str) -> str | None:
    """The path of a `---` or `+++` line; None for /dev/null."""
    path = line[4:].split("\t")[0].strip().strip('"')
    if path == "/dev/null":
        return None
    return path[2:] if path.startswith(("a/", "b/")) else path.removeprefix("./")
