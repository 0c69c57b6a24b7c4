"""Coding agents as programs: their command lines, what they may cost, what their output says (pure but for PATH)."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoresearch.errors import UsageError
from autoresearch.trial import Edit, Usage

MAX_HYPOTHESIS_CHARS = 200
CLAUDE_CODE_CAP_USD = 0.5
"""What one call of claude-code may cost where `--agent-cost` names nothing else."""

_DO_IT = "Do what the text on standard input asks, in this folder."
_SHELL_WORDS = ("cd", "command", "eval", "exec", "export", "for", "if", "set", "source", "test", "time", "while")
_PRESETS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # name: (program, package, arguments); the prompt comes on stdin: an argument has room for 128 KiB only
    "claude-code": (
        "claude",
        "npm install -g @anthropic-ai/claude-code",
        ("-p", _DO_IT, "--output-format", "json", "--permission-mode", "acceptEdits", "--allowedTools",
         "Read,Edit,Write,Grep,Glob", "--no-session-persistence"),
    ),
    "codex": (
        "codex",
        "npm install -g @openai/codex",
        ("exec", "--json", "-s", "workspace-write", "--ephemeral", "-C", ".", "-"),
    ),
    "gemini": (
        "gemini",
        "npm install -g @google/gemini-cli",
        ("-p", _DO_IT, "-o", "json", "--approval-mode", "auto_edit"),
    ),
    "opencode": (
        "opencode",
        "npm install -g opencode-ai",
        ("run", "--format", "json", "--dir", ".", "--auto", _DO_IT),
    ),
}  # fmt: skip
_OWN_CAP = re.compile(r"--max-budget-usd[ =]+[\"']?(\d+(?:\.\d+)?)")


def command_of(
    agent: str,
    cost_usd: float | None = None,
    *,
    environment: Mapping[str, str],
    find: Callable[[str], str | None] = shutil.which,
) -> str | tuple[str, ...]:
    """The words that run a known agent, or `agent` itself, a shell command. `cost_usd` caps claude-code.

    Raises:
        UsageError: a known agent is not installed, or there is no command.
    """
    if not agent.strip():
        raise UsageError(f"--agent names no command; known agents: {', '.join(_PRESETS)}")
    if agent not in _PRESETS:
        word = agent.split()[0]
        if re.fullmatch(r"[\w.+-]+", word) and word not in _SHELL_WORDS and find(word) is None:
            known = ", ".join(_PRESETS)
            raise UsageError(f"--agent {agent}: no `{word}` on PATH; known agents are {known}, or name any program")
        return agent
    program, install, arguments = _PRESETS[agent]
    path = find(program)
    if path is None:
        raise UsageError(f"--agent {agent}: no `{program}` on PATH; install it (`{install}`) and log in")
    if agent == "claude-code":
        cap = CLAUDE_CODE_CAP_USD if cost_usd is None else cost_usd
        arguments = (*arguments, "--max-budget-usd", f"{cap:g}")
        if environment.get("ANTHROPIC_API_KEY"):
            arguments = ("--bare", *arguments)  # Without it, the user's subscription is used.
    return (path, *arguments)


def cost_bound(agent: str, agent_cost_usd: float | None, max_cost_usd: float | None) -> float:
    """What is reserved for one call: its own cap or `--agent-cost`; 0 where neither is named.

    Raises:
        UsageError: a ceiling was named, and nothing bounds a call.
    """
    if agent_cost_usd is not None:
        return agent_cost_usd
    if agent == "claude-code":
        return CLAUDE_CODE_CAP_USD
    own = _OWN_CAP.search(agent)
    if own:
        return float(own.group(1))
    if max_cost_usd is not None and math.isfinite(max_cost_usd):
        raise UsageError(
            "--max-cost needs to know what one call of the agent can cost: name it with --agent-cost USD "
            "(0 for an agent that is free)"
        )
    return 0.0


@dataclass(frozen=True, slots=True)
class Said:
    """What an agent's standard output says."""

    texts: tuple[str, ...]
    """What it said in words: the text of its JSON results, else the output itself."""
    errors: tuple[str, ...] = ()
    """What it reported as an error."""
    cost_usd: float | None = None
    """None: it did not say."""
    usage: Usage = Usage()
    """Tokens alone."""

    @classmethod
    def read(cls, stdout: str) -> Said:
        """Read plain text, one JSON result, or JSON lines of events."""
        documents = list(_documents(stdout))
        if not documents:
            return cls((stdout,) if stdout.strip() else ())
        costs = [cost for each in documents if (cost := _number(each.get("total_cost_usd"))) is not None]
        usages = [each["usage"] for each in documents if isinstance(each.get("usage"), dict)]
        return cls(
            texts=tuple(text for each in documents for text in _texts(each)),
            errors=tuple(error for each in documents for error in _errors(each)),
            cost_usd=max(costs, default=None),
            usage=_usage(usages[-1]) if usages else Usage(),
        )


def hypothesis(stdout: str, said: Said, edits: Sequence[Edit]) -> str:
    """One line: what begins with `hypothesis:`, else the first line, else the files that changed."""
    lines = [line for text in (stdout, *said.texts) for line in text.splitlines()]
    for line in lines:
        named = re.match(r"[\s*_#>`-]*hypothesis[*_`]*:[*_`]*(.*\w.*)", line, re.IGNORECASE)
        if named:
            return _one_line(named.group(1))
    first = next((line for text in said.texts for line in text.splitlines() if _one_line(line)), "")
    return _one_line(first) or _one_line("edit " + ", ".join(dict.fromkeys(edit.path for edit in edits)))


_LIMIT = re.compile(
    r"(?:usage|rate|session|weekly).?limit|limit (?:reached|exceeded)|hit your .{0,20}limit|too many requests"
    r"|overloaded|quota|resource.?exhausted|\b(?:429|503|529)\b|try again later|service unavailable"
    r"|request timed out|ECONN|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|connection (?:refused|reset|error)|network error",
    re.IGNORECASE,
)
_HOPELESS = re.compile(
    r"invalid (?:x-)?api.?key|not logged in|please (?:run )?/?log.?in|authentication_error|unauthorized"
    r"|payment required|credit balance|model_not_found",
    re.IGNORECASE,
)
_RETRY_AFTER = re.compile(r"retry.?after\D{0,5}(\d{1,6})\b|\|(\d{10})\b", re.IGNORECASE)
_SHORT_CHARS = 200


def limit_named(said: Said, stderr: str, failed: bool) -> str | None:
    """The line that speaks of a limit, an overload or a lost connection; None where nothing does.

    Without a failure only a short answer is believed: a long one may be about limits.
    """
    return _line_with(_LIMIT, _complaints(said, stderr, failed))


def hopeless_named(said: Said, stderr: str, failed: bool) -> str | None:
    """The line that says that asking again cannot help: no login, no credit."""
    return _line_with(_HOPELESS, _complaints(said, stderr, failed))


def retry_after_seconds(line: str, now: float) -> float | None:
    """How long to wait, where the line says it; `now` in seconds since the epoch."""
    match = _RETRY_AFTER.search(line)
    if match is None:
        return None
    return float(match.group(1)) if match.group(1) else max(0.0, float(match.group(2)) - now)


def _complaints(said: Said, stderr: str, failed: bool) -> Iterator[str]:
    yield from said.errors
    if failed or said.errors:
        yield from (text[-2000:] for text in said.texts)
        yield stderr[-2000:]
    elif sum(map(len, said.texts)) <= _SHORT_CHARS:
        yield from said.texts


def _line_with(pattern: re.Pattern[str], texts: Iterator[str]) -> str | None:
    return next((_one_line(line) for text in texts for line in text.splitlines() if pattern.search(line)), None)


def _documents(stdout: str) -> Iterator[dict[str, Any]]:
    whole = _parsed(stdout)
    if isinstance(whole, dict | list):
        documents = whole if isinstance(whole, list) else [whole]
    else:
        documents = [_parsed(line) for line in stdout.splitlines() if line.lstrip().startswith("{")]
    return (each for each in documents if isinstance(each, dict))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _texts(document: Mapping[str, Any]) -> Iterator[str]:
    """Claude's `result`, Gemini's `response`, Codex' `item` (its reasoning left out), opencode's `part`."""
    inner = [document]
    for name in ("item", "part"):
        part = document.get(name)
        if isinstance(part, dict) and part.get("type") in ("agent_message", "text"):
            inner.append(part)
    for each in inner:
        for name in ("result", "response", "text"):
            if isinstance(each.get(name), str):
                yield each[name]


def _errors(document: Mapping[str, Any]) -> Iterator[str]:
    error = document.get("error")
    if isinstance(error, dict):
        error = error.get("message") or json.dumps(error)
    if isinstance(error, str) and error:
        yield error
    failed = document.get("is_error") is True or document.get("type") == "error"
    message = document.get("result") or document.get("message")
    if failed:
        yield message if isinstance(message, str) and message else "it reported an error"


def _usage(row: Mapping[str, Any]) -> Usage:
    """Claude counts cached input apart, Codex (`cached_input_tokens`) within the input."""
    count = {name: int(_number(value) or 0) for name, value in row.items()}
    apart, written = count.get("cache_read_input_tokens", 0), count.get("cache_creation_input_tokens", 0)
    return Usage(
        input=count.get("input_tokens", 0) + apart + written,
        cached=apart + count.get("cached_input_tokens", 0),
        written=written,
        output=count.get("output_tokens", 0),
    )


def _number(value: Any) -> float | None:
    """A number from 0; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        return None
    return float(value)


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split()).strip("*_#`> ")
    return line if len(line) <= MAX_HYPOTHESIS_CHARS else line[: MAX_HYPOTHESIS_CHARS - 1] + "…"
