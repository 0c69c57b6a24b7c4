"""Apply a change's edits to the contents of files: all of them, or none."""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import accumulate

from autoresearch.errors import ChangeRejected
from autoresearch.trial import Edit, Reason

MAX_FILE_BYTES = 4 * 1024 * 1024
"""The largest file that an edit may touch or make."""
MAX_CHANGE_BYTES = 16 * 1024 * 1024
"""The largest sum of the texts of one change."""

_BOM = "\ufeff"
_WORD = re.compile(r"\w+|[^\w\s]")
_MAX_LINES_COMPARED = 20_000
_MAX_LINE_CHARS = 300
_MAX_WINDOW_LINES = 60
_MAX_WORDS = 600
_BEST_WINDOWS = 12


def apply_edits(edits: Sequence[Edit], files: Mapping[str, bytes | None]) -> dict[str, bytes | None]:
    """The new contents of the files that the edits change; None where a file is deleted.

    `files` holds the contents of every path that is edited, None where there is no such file. Several edits of one
    file apply in order. A file whose lines all end in CRLF keeps them, and a byte order mark stays.

    Raises:
        ChangeRejected: an edit does not apply, is too large, or all of them together change nothing.
    """
    if not edits:
        raise _rejected("no edits", "the change is empty")
    if sum(len(text) for edit in edits for text in (edit.old, edit.new, edit.content) if text) > MAX_CHANGE_BYTES:
        raise _rejected(edits[0].path, f"the change is larger than {MAX_CHANGE_BYTES} bytes")
    texts = {edit.path: _decode(edit.path, files.get(edit.path)) for edit in edits}
    before = dict(texts)
    for edit in edits:
        texts[edit.path] = _apply(edit, texts[edit.path])
    changed = {path: _encode(path, text) for path, text in texts.items() if text != before[path]}
    if not changed:
        raise _rejected(edits[0].path, "the edits change nothing")
    return changed


def decode(data: bytes) -> str:
    """Bytes of a file as the text of an edit: UTF-8, other bytes as surrogates."""
    return data.decode("utf-8", "surrogateescape")


def nearest_lines(text: str, old: str, context: int = 3) -> str:
    """The lines of `text` that are most like `old`, with `context` lines around; empty where nothing is like it.

    Cheap on large files: windows are rated by the words that they share with `old`, and only the best are compared.
    """
    lines = text.splitlines()[:_MAX_LINES_COMPARED]
    wanted = [line for line in old.splitlines() if line.strip()][:_MAX_WINDOW_LINES]
    if not lines or not wanted:
        return ""
    words = [_WORD.findall(line[:_MAX_LINE_CHARS]) for line in lines]
    target = [word for line in wanted for word in _WORD.findall(line[:_MAX_LINE_CHARS])][:_MAX_WORDS]
    likeness, start = max((_likeness(words[at : at + len(wanted)], target), -at) for at in _best(words, target, wanted))
    return "\n".join(lines[max(0, -start - context) : -start + len(wanted) + context]) if likeness > 0.3 else ""


def _apply(edit: Edit, text: str | None) -> str | None:
    if edit.content is not None:
        return _same_style(edit.content, text)
    if text is None:
        raise _rejected(edit.path, "there is no such file" + ("" if edit.delete else "; give its whole `content`"))
    if edit.delete:
        return None
    if edit.old is None or edit.new is None:
        raise _rejected(edit.path, "an edit needs `old` and `new`, `content`, or `delete`")
    if not edit.old and text:
        raise _rejected(edit.path, "`old` is empty; it must be a text that occurs exactly once")
    old, new = edit.old, edit.new
    if old not in text and "\r\n" in text:
        old, new = _crlf(old), _crlf(new)
    elif _all_crlf(text):
        new = _crlf(new)
    count = _occurrences(text, old)
    if count != 1:
        raise _rejected(edit.path, f"`old` must occur exactly once, and it occurs {count} times")
    return _same_bom(text.replace(old, new, 1), text)


def _same_style(content: str, text: str | None) -> str:
    """New contents with the line ends and the byte order mark of the file that they replace."""
    if text is None:
        return content
    return _same_bom(_crlf(content) if _all_crlf(text) and "\r\n" not in content else content, text)


def _same_bom(content: str, text: str) -> str:
    return _BOM + content if text.startswith(_BOM) and not content.startswith(_BOM) else content


def _all_crlf(text: str) -> bool:
    lines = text.count("\n")
    return lines > 0 and text.count("\r\n") == lines


def _crlf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def _occurrences(text: str, old: str) -> int:
    """How often `old` occurs; overlapping places count, because each could be meant. At most 100."""
    count, at = 0, text.find(old)
    while at >= 0 and count < 100:
        count += 1
        at = text.find(old, at + 1)
    return count


def _decode(path: str, data: bytes | None) -> str | None:
    if data is None:
        return None
    if len(data) > MAX_FILE_BYTES:
        raise _rejected(path, f"the file is larger than {MAX_FILE_BYTES} bytes")
    return decode(data)


def _encode(path: str, text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise _rejected(path, "the new text holds half a surrogate pair, which is no UTF-8") from None
    if len(data) > MAX_FILE_BYTES:
        raise _rejected(path, f"the file would be larger than {MAX_FILE_BYTES} bytes")
    return data


def _best(words: Sequence[Sequence[str]], target: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where the windows begin that share most with the target, the most promising ones, by letters in common."""
    known = set(target)
    rates = [sum(len(word) for word in line if word in known) for line in words]
    sums = [0, *accumulate(rates)]
    starts = range(max(1, len(words) - len(wanted) + 1))
    shared = [sums[min(at + len(wanted), len(words))] - sums[at] for at in starts]
    return heapq.nlargest(_BEST_WINDOWS, starts, key=shared.__getitem__)


def _likeness(window: Sequence[Sequence[str]], target: Sequence[str]) -> float:
    """From 0 to 1."""
    found = [word for line in window for word in line][:_MAX_WORDS]
    return SequenceMatcher(None, found, target, autojunk=False).ratio()


def _rejected(path: str, why: str) -> ChangeRejected:
    return ChangeRejected(path, why, Reason.DOES_NOT_APPLY)
