"""The places of a text that can be changed without knowing its language (pure).

A text is cut by regular expressions into constants, operators, flat lists and plain lines; comments, strings, imports
and numbers that are no quantities (versions, seeds, ports) are left alone. A place is known by the line it stands on,
its own changeable tokens blanked, so that its identity outlives its value and lines that shift.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from pathlib import PurePosixPath

LARGEST_FILE_BYTES = 256 * 1024
LONGEST_LINE = 400
"""Longer lines are generated or data."""


class Kind(Enum):
    """What stands at a site. The value is how often it is tried at first, against a number."""

    NUMBER = 1.0
    SWITCH = 0.4
    OPERATOR = 0.15
    LIST = 0.1
    DELETION = 0.05
    SWAP = 0.03
    DUPLICATION = 0.01


SIMPLIFYING = (Kind.DELETION,)


@dataclass(frozen=True, slots=True)
class Site:
    """A place of a text that can change."""

    path: str
    kind: Kind
    key: str
    """The same for the same place of another version of the text."""
    line: int
    """From 1."""
    start: int
    end: int
    """Offsets in the text."""
    text: str
    label: str = ""
    """The name beside it, as `LR` in `LR = 0.03`."""
    alternatives: tuple[str, ...] = ()
    """What can stand there instead. A number has others too: see `stepped`."""

    def describe(self, new: str) -> str:
        """One line: file, line and change."""
        where = f"{self.path}:{self.line}"
        if self.kind is Kind.DELETION:
            return f"{where} delete `{_short(self.text)}`"
        if self.kind is Kind.SWAP:
            return f"{where} swap with the next line: `{_short(self.text.split(chr(10))[0])}`"
        if self.kind is Kind.DUPLICATION:
            return f"{where} repeat `{_short(self.text)}`"
        name = f" {self.label}" if self.label else ""
        return f"{where}{name} {_short(self.text)} -> {_short(new)}"


def sites_of(path: str, data: bytes) -> list[Site]:
    """All sites of a file, in its order; none where it is binary, huge or not UTF-8."""
    if len(data) > LARGEST_FILE_BYTES or b"\0" in data:
        return []
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return []
    masked = _mask(path, text)
    lines = _lines(text, masked)
    found: list[Site] = []
    seen: Counter[str] = Counter()
    for index, line in enumerate(lines):
        tokens = list(_tokens(line)) if not line.fixed else []
        skeleton = _skeleton(line, tokens)
        seen[skeleton] += 1
        identity = f"{path}|{skeleton}|{seen[skeleton]}"
        after = lines[index + 1] if index + 1 < len(lines) else None
        for order, token in enumerate([*tokens, *_structures(line, after)]):
            kind, start, end, label, others = token
            alternatives = tuple(other for other in others if other != text[start:end])
            if kind is not Kind.NUMBER and not alternatives:
                continue
            key = f"{identity}|{order}" if kind in TOKENS else f"{identity}|{kind.name}"
            found.append(Site(path, kind, key, line.number, start, end, text[start:end], label, alternatives))
    return found


# What a text looks like -------------------------------------------------------------------------------------------

_C_LIKE = r"//[^\n]*|/\*.*?\*/"
_HASH = r"(?<![\w$&])#[^\n]*"
_COMMENTS = {
    _C_LIKE: "c h cc cpp cxx hpp cu cuh m mm java kt kts scala swift go rs js jsx ts tsx mjs cjs cs dart zig proto "
    "glsl wgsl metal v sv json jsonc json5 scss less groovy gradle",
    r"/\*.*?\*/": "css",
    _C_LIKE + "|" + _HASH: "php tf hcl",
    r"--\[\[.*?\]\]|--[^\n]*|/\*.*?\*/": "sql lua elm adb ads vhd vhdl",
    r"\{-.*?-\}|--[^\n]*": "hs",
    r"[;#][^\n]*": "ini",
    r";[^\n]*": "lisp cl clj cljs el scm rkt asm s",
    r"%[^\n]*": "tex erl pro",
    r"![^\n]*": "f90 f95 f03",
    r"<!--.*?-->": "html xml md svg vue",
}
_COMMENT_OF = {suffix: pattern for pattern, suffixes in _COMMENTS.items() for suffix in suffixes.split()}
_STRINGS = r"\"\"\".*?\"\"\"|'''.*?'''|`[^`]*`|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
_DATA = {"csv", "tsv", "lock", "ipynb", "svg", "map", "patch", "diff", "log"}


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    start: int
    """Offset of its first character."""
    text: str
    """With its line break."""
    code: str
    """The same length; comments are spaces, strings are quotes."""
    fixed: bool
    """It holds nothing that is a quantity."""


def _mask(path: str, text: str) -> str:
    """The text with comments as spaces and strings as quotes, every character and line break in its place."""
    suffix = PurePosixPath(path).suffix.lstrip(".").lower()
    if suffix in _DATA:
        return re.sub(r"[^\n]", " ", text)
    comment = _COMMENT_OF.get(suffix, _HASH)

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", '"' if match.group("string") else " ", match.group())

    return re.sub(f"(?P<string>{_STRINGS})|{comment}", blank, text, flags=re.DOTALL)


_FIXED = re.compile(
    r"\s*(?:import|from|use|using|require|include|package|module(?!\.)|#\s*include|@import|export\s+\*|library\()\b"
    r"|.*(?:\bversion\b|__version__|copyright|license|\d{4}-\d\d-\d\d)",
    re.IGNORECASE,
)


def _lines(text: str, masked: str) -> list[_Line]:
    lines, start = [], 0
    for number, line in enumerate(re.findall(r"[^\n]*\n|[^\n]+", text), start=1):
        code = masked[start : start + len(line)]
        fixed = len(line) > LONGEST_LINE or not code.strip() or _FIXED.match(line) is not None
        lines.append(_Line(number, start, line, code, fixed))
        start += len(line)
    return lines


# Tokens: what stands within a line ----------------------------------------------------------------------------------

TOKENS = (Kind.NUMBER, Kind.SWITCH, Kind.OPERATOR)
_Found = tuple[Kind, int, int, str, tuple[str, ...]]
"""Kind, start, end, label, alternatives."""

_NUMBER = re.compile(
    r"(?<![\w.$#@\"])(?<![A-Za-z]-)(?P<number>(?:\d[\d_]*\.\d[\d_]*|\d[\d_]*\.|\.\d+|\d[\d_]*)(?:[eE][+-]?\d+)?)"
    r"(?:[fFlLuUnjkKMGsmhd%]|ul|UL|ll|LL|[iuf](?:8|16|32|64|128)|[iu]size|px|r?em|v[hw]|ms|us|ns"
    r"|[kKMG]i?[bB]|deg|fr|pt)?(?![\w.])"
)
_NEGATIVE = re.compile(r"(?:^|[=(\[{,:<>*/]|\breturn)\s*-$")
_NAMED = re.compile(r"([A-Za-z_][\w.\-]*)[\"']?\s*(?::[^=,()]*)?[=:(]=?\s*[-+(\[{\s]*$|([A-Za-z_][\w\-]*)\s+-?$")
_NO_QUANTITY = re.compile(
    r"(?:^|[_.\-])(?:seeds?|version|port|year|random_state|default_rng|random|randomstate|srand|prngkey)$",
    re.IGNORECASE,
)
_SWAPS = [
    ("True", "False"), ("true", "false"), ("TRUE", "FALSE"), ("and", "or"), ("&&", "||"), ("min", "max"),
    ("<", "<="), (">", ">="), ("==", "!="), ("+", "-"), ("*", "/"), ("+=", "-="), ("*=", "/="), ("<<", ">>"),
    ("minimum", "maximum"), ("floor", "ceil"),
]  # fmt: skip
_OTHER: dict[str, tuple[str, ...]] = {
    **{a: (b,) for a, b in _SWAPS},
    **{b: (a,) for a, b in _SWAPS},
    **{"<": ("<=", ">"), ">": (">=", "<"), "//": ("/",), "break": ("continue",), "continue": ("break",)},
}
_WORD = re.compile(r"(?<![\w.\-\"])(?:True|False|TRUE|FALSE|true|false|and|or|break|continue)(?![\w\-\"])")
_CALL = re.compile(r"(?<!\w)(?:min|max|minimum|maximum|floor|ceil)(?=\s*\()")
_SYMBOL = re.compile(r"(?<=\s)(?:&&|\|\||<=|>=|==|!=|\+=|-=|\*=|/=|<<|>>|//|[<>+\-*/])(?=\s+\S)")


def _tokens(line: _Line) -> Iterator[_Found]:
    found = [*_numbers(line)]
    for pattern in (_WORD, _CALL, _SYMBOL):
        for match in pattern.finditer(line.code):
            token = match.group()
            if pattern is _SYMBOL and not line.code[: match.start()].strip():
                continue  # A list's bullet, a pointer, a continued flag.
            kind = Kind.SWITCH if token.lower() in ("true", "false") else Kind.OPERATOR
            label = _label(line, match.start()) if kind is Kind.SWITCH else ""
            found.append((kind, line.start + match.start(), line.start + match.end(), label, _OTHER[token]))
    return iter(sorted(found, key=lambda token: token[1]))


def _numbers(line: _Line) -> Iterator[_Found]:
    for match in _NUMBER.finditer(line.code):
        number = match.group("number")
        if re.match(r"0\d", number):
            continue  # A file mode, a date, an identifier.
        start = match.start("number")
        label = _label(line, start)
        if _NO_QUANTITY.search(label):
            continue
        if _NEGATIVE.search(line.code[:start]):
            start -= 1
        token = line.code[start : match.end("number")]
        yield Kind.NUMBER, line.start + start, line.start + match.end("number"), label, _jumps(token)


def _jumps(token: str) -> tuple[str, ...]:
    """Values that no multiplication reaches: the other sign of a fraction, zero."""
    if float(token.replace("_", "")) == 0:
        return ()
    if whole(token) and not token.startswith("-"):
        return ("0",)
    other = token[1:] if token.startswith("-") else f"-{token}"
    return (other, "0" if whole(token) else "0.0")


def _label(line: _Line, offset: int) -> str:
    match = _NAMED.search(line.text[:offset])
    return next((group for group in match.groups() if group), "") if match else ""


def _skeleton(line: _Line, tokens: Sequence[_Found]) -> str:
    """The line without what can change in it."""
    parts, last = [], 0
    for _, start, end, _, _ in tokens:
        parts += [line.text[last : start - line.start], "#"]
        last = end - line.start
    return "".join([*parts, line.text[last:]]).strip()


# Structures: lists and lines ----------------------------------------------------------------------------------------

_FLAT_LIST = re.compile(r"\[([^\[\](){}\n]*,[^\[\](){}\n]*)\]")
_KEPT = re.compile(r"seed|random_state|\bversion\b|__version__|copyright|license", re.IGNORECASE)
_BOUND = re.compile(
    r"\s*(?:def|class|fn|func|function|public|private|static|if|elif|else|for|while|return|try|except|finally|with|case"
    r"|default|switch|match|struct|enum|impl|end|fi|done|then|do|esac|begin|@)\b|\s*[@})\]]|.*[:{(\[\\,]\s*$"
)


def _structures(line: _Line, after: _Line | None) -> Iterator[_Found]:
    if len(line.text) > LONGEST_LINE:
        return
    for match in _FLAT_LIST.finditer(line.code):
        start, end = line.start + match.start(1), line.start + match.end(1)
        others = tuple(_rearranged(line.text[match.start(1) : match.end(1)], match.group(1)))
        if others:
            yield Kind.LIST, start, end, _label(line, match.start()), others
            break
    if not _plain(line):
        return
    end = line.start + len(line.text)
    yield Kind.DELETION, line.start, end, "", ("",)
    if not line.text.endswith("\n"):
        return
    # Two lines that call nothing rarely mind their order.
    calls = after is not None and "(" in line.code + after.code
    if after is not None and calls and _plain(after) and _indent(after) == _indent(line) and after.text.endswith("\n"):
        yield Kind.SWAP, line.start, end + len(after.text), "", (after.text + line.text,)
    if re.search(r"[-+*/]=|\w\(|\+\+", line.code):
        yield Kind.DUPLICATION, line.start, end, "", (line.text * 2,)


def _rearranged(text: str, code: str) -> Iterator[str]:
    """A list's elements with two neighbours swapped, or one left out."""
    cuts = [-1, *(index for index, character in enumerate(code) if character == ","), len(code)]
    items = [text[a + 1 : b].strip() for a, b in pairwise(cuts)]
    if not all(items) or len(items) > 16:
        return
    for index in range(len(items) - 1):
        yield ", ".join([*items[:index], items[index + 1], items[index], *items[index + 2 :]])
    for index in range(len(items)):
        yield ", ".join(items[:index] + items[index + 1 :])


def _plain(line: _Line) -> bool:
    """A line that can be taken out: a whole statement, or one element of a list that has a line for each."""
    code = line.code.strip()
    if not code.strip('",; ') or _KEPT.search(line.text):
        return False  # Nothing, text alone, or what makes a run repeatable.
    balanced = all(code.count(a) == code.count(b) for a, b in ("()", "[]", "{}"))
    element = code.endswith(",") and balanced
    return balanced and (element or _BOUND.match(line.code) is None)


def _indent(line: _Line) -> str:
    return line.text[: len(line.text) - len(line.text.lstrip())]


def whole(token: str) -> bool:
    """Whether a number is written as a whole one."""
    return not re.search(r"[.eE]", token)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "..."
