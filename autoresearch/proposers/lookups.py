"""The tools that a model may call: read-only look-ups in the parent's tree, and the submission."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoresearch.prompt import cap, clean
from autoresearch.protocols import Tree

SUBMIT = "submit_change"
MAX_RESULT_CHARS = 20_000
MAX_LISTED = 400
MAX_HITS = 60
MAX_HIT_CHARS = 300
MAX_PATTERN_CHARS = 300


def _tool(name: str, description: str, properties: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": dict(properties), "required": required}
    return {"name": name, "description": description, "input_schema": schema}


_TEXT = {"type": "string"}
_EDIT = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "description": "relative to the repository's root"},
        "old": {"type": "string", "description": "text that occurs exactly once in the file; goes with `new`"},
        "new": {"type": "string", "description": "what stands there instead"},
        "content": {"type": "string", "description": "the whole file, instead of `old` and `new`"},
        "delete": {"type": "boolean", "description": "true removes the file"},
    },
    "required": ["path"],
}
TOOLS = [
    _tool(
        SUBMIT,
        "Submit the one change. Applied all or none.",
        {
            "hypothesis": {"type": "string", "description": "one line: what is changed and why it should help"},
            "edits": {"type": "array", "items": _EDIT},
        },
        ["hypothesis", "edits"],
    ),
    _tool("list_files", "List the repository's files with their sizes.", {"folder": _TEXT}, []),
    _tool(
        "read_file",
        "Read a file of the repository, or some of its lines (from 1).",
        {"path": _TEXT, "first_line": {"type": "integer"}, "last_line": {"type": "integer"}},
        ["path"],
    ),
    _tool(
        "search", "Search the repository's files for an extended regular expression.", {"pattern": _TEXT}, ["pattern"]
    ),
]
"""In an order that never changes: it is the beginning of what a server caches."""


async def look_up(tree: Tree, name: str, given: Any, limit: int = MAX_RESULT_CHARS) -> str:
    """The answer to one call, at most `limit` characters; a call that is wrong is answered with what is wrong."""
    arguments = given if isinstance(given, Mapping) else {}
    match name:
        case "list_files":
            text = await _list(tree, _text(arguments, "folder"))
        case "read_file":
            text = await _read(tree, arguments)
        case "search":
            text = await _search(tree, _text(arguments, "pattern"))
        case _:
            text = f"error: there is no tool {name!r}"
    return cap(clean(text), min(limit, MAX_RESULT_CHARS))


def _text(arguments: Mapping[str, Any], key: str) -> str:
    value = arguments.get(key)
    return value if isinstance(value, str) else ""


def _path(arguments: Mapping[str, Any], key: str) -> str:
    return _text(arguments, key).strip().removeprefix("./").rstrip("/")


async def _list(tree: Tree, folder: str) -> str:
    start = folder.strip().removeprefix("./").rstrip("/")
    start = "" if start in ("", ".") else f"{start}/"
    entries = [entry for entry in await tree.files() if entry.path.startswith(start)]
    if not entries:
        return f"error: no files in {folder!r}"
    lines = [f"{entry.path} ({entry.size:,} bytes)" for entry in entries[:MAX_LISTED]]
    if len(entries) > MAX_LISTED:
        lines.append(f"... and {len(entries) - MAX_LISTED:,} more; name a folder")
    return "\n".join(lines)


async def _read(tree: Tree, arguments: Mapping[str, Any]) -> str:
    path = _path(arguments, "path")
    data = await tree.read(path) if path else None
    if data is None:
        return f"error: there is no file {path!r}"
    if b"\0" in data[:8000]:
        return f"error: {path} is not text"
    text = data.decode("utf-8", "surrogateescape")
    first, last = arguments.get("first_line"), arguments.get("last_line")
    start = first - 1 if isinstance(first, int) and first > 0 else 0
    end = last if isinstance(last, int) and last > 0 else None
    return "".join(text.splitlines(keepends=True)[start:end]) or "(empty)"


async def _search(tree: Tree, pattern: str) -> str:
    if not pattern or len(pattern) > MAX_PATTERN_CHARS:
        return f"error: a pattern has 1 to {MAX_PATTERN_CHARS} characters"
    try:
        hits = await tree.search(pattern, limit=MAX_HITS)
    except ValueError as error:
        return f"error: {error}"
    return "\n".join(hit[:MAX_HIT_CHARS] for hit in hits) or "no line matches"
