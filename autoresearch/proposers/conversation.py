"""One proposal's exchange with a model: the messages, what was said, and what it cost. No I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from autoresearch.edits import decode, nearest_lines
from autoresearch.errors import ChangeRejected, ProposalFailed
from autoresearch.prompt import CHARS_PER_TOKEN, EDIT_RULES, Prompt, cap, clean, fence
from autoresearch.proposers.lookups import SUBMIT
from autoresearch.proposers.pricing import cost_usd
from autoresearch.reply import from_submission, parse
from autoresearch.trial import Change, Reply, Usage

MAX_REPLY_CHARS = 200_000
"""Of what is kept of a model's words."""
WORST_CHARS_PER_TOKEN = 2.5
"""For bounds on money: few texts have more tokens than this gives."""
MAX_NEAR = 3
"""Places of a file that are shown where edits do not apply."""
OVERHEAD_TOKENS = 2_000
"""The tools and the instructions around a prompt."""

_WHOLE = frozenset({"end_turn", "tool_use", "stop_sequence"})
_UNUSABLE = {
    "max_tokens": "the answer was cut off at its token limit",
    "model_context_window_exceeded": "the answer was cut off at the end of the model's context",
    "refusal": "the model refused",
    "endless": "the answer had no end",
    "unreadable": "the answer could not be read (a tool call that is not JSON?)",
}

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """One message of the model, as its content blocks."""

    blocks: tuple[Block, ...]
    stop_reason: str

    @property
    def text(self) -> str:
        return "\n".join(str(block.get("text", "")) for block in self.blocks if block.get("type") == "text")

    @property
    def calls(self) -> tuple[Block, ...]:
        """All tool calls."""
        return tuple(block for block in self.blocks if block.get("type") == "tool_use")

    @property
    def asks(self) -> bool:
        """Whether it only looks things up: whole, with calls, none of them the submission."""
        names = [call.get("name") for call in self.calls]
        return self.stop_reason in _WHOLE and bool(names) and SUBMIT not in names

    def change(self) -> Change:
        """The change that it submits, by tool call or in text.

        Raises:
            ProposalFailed: it holds none; the message says why.
        """
        if self.stop_reason in _UNUSABLE:
            raise ProposalFailed(_UNUSABLE[self.stop_reason])
        submitted = [call.get("input") for call in self.calls if call.get("name") == SUBMIT]
        if not submitted:
            if self.calls:
                raise ProposalFailed("the model looked things up and submitted no change")
            return parse(self.text)
        changes = [from_submission(given if isinstance(given, Mapping) else {}) for given in submitted]
        return Change(changes[0].hypothesis, tuple(edit for change in changes for edit in change.edits))


class Conversation:
    """The messages of one proposal, from its first request to its end.

    `redact` takes secrets out of a text; it is applied to everything that is sent or kept.
    """

    def __init__(self, model: str, redact: Callable[[str], str]) -> None:
        self.model = model
        self.usage = Usage()
        self.answered = 0
        """Messages that the model ended."""
        self._redact = redact
        self._prompt: tuple[str, ...] = ()
        self._said: list[str] = []
        self._messages: list[Block] = []
        self._last_tokens = 0
        """Input and output of the last answer: they are the beginning of the next request."""
        self._new_chars = 0
        """Characters said since."""

    def begin(self, prompt: Prompt) -> None:
        """Start with this prompt, whatever was said before; what it cost stays."""
        system = f"{prompt.system}\n\n{EDIT_RULES}"
        self._prompt = tuple(self._redact(part) for part in (system, *prompt.shared, prompt.varying))
        content: list[Block] = [{"type": "text", "text": part} for part in self._prompt[1:] if part]
        # everything up to here is the same for all workers: the server may keep it
        content[len(content) - 2]["cache_control"] = {"type": "ephemeral"}
        self._messages = [{"role": "user", "content": content}]
        self._last_tokens, self._new_chars = 0, sum(map(len, self._prompt))

    @property
    def request(self) -> dict[str, Any]:
        """System text and messages, as the API takes them."""
        return {"system": self._prompt[0], "messages": self._messages}

    @property
    def next_input_tokens(self) -> int:
        """At most about how many tokens the next request sends."""
        overhead = 0 if self._last_tokens else OVERHEAD_TOKENS
        return self._last_tokens + int(self._new_chars / WORST_CHARS_PER_TOKEN) + overhead

    def meter(self, usage: Usage) -> None:
        """Count what a request used, whether it ended well or not."""
        self.usage += replace(usage, cost_usd=cost_usd(self.model, usage))
        self._last_tokens, self._new_chars = usage.tokens, 0

    def hear(self, answer: Answer) -> None:
        """Keep what the model said, for `reply`."""
        self.answered += 1
        calls = (json.dumps({call.get("name"): call.get("input")}, ensure_ascii=False) for call in answer.calls)
        said = [answer.text, *calls, "" if answer.stop_reason in _WHOLE else f"[{answer.stop_reason}]"]
        self._said.append("\n".join(text for text in said if text.strip()))

    def answer_calls(self, answer: Answer, results: Sequence[str], then: str = "") -> None:
        """Go on after `answer`: a result for each of its calls, then a text."""
        said = [block for block in answer.blocks if block.get("type") != "text" or str(block.get("text")).strip()]
        if said:
            self._messages.append({"role": "assistant", "content": said})
        texts = [self._redact(result) for result in results]
        content: list[Block] = [
            {"type": "tool_result", "tool_use_id": call.get("id"), "content": text}
            for call, text in zip(answer.calls, texts, strict=True)
        ]
        self._say(content, texts, then)

    def object(self, answer: Answer, why: str) -> None:
        """Go on after an answer that cannot be used."""
        if answer.stop_reason in _WHOLE and answer.blocks:
            self.answer_calls(answer, ["Not accepted."] * len(answer.calls), why)
            return
        # a message that was cut off holds half blocks, which the server would not take back: its text alone is
        if answer.text.strip():
            self._messages.append({"role": "assistant", "content": [{"type": "text", "text": answer.text.rstrip()}]})
        self._say([], [], why)

    def reply(self) -> Reply:
        """What was shown and said so far."""
        text = cap(self._redact("\n\n".join(said for said in self._said if said)), MAX_REPLY_CHARS)
        return Reply(text, self._prompt, self.model, self.usage)

    def _say(self, content: list[Block], texts: Sequence[str], then: str) -> None:
        if then:
            content.append({"type": "text", "text": self._redact(then)})
        if self._messages[-1]["role"] == "user":
            self._messages[-1]["content"].extend(content)  # some servers insist that roles alternate
        else:
            self._messages.append({"role": "user", "content": content})
        self._new_chars += sum(map(len, texts)) + len(then)


def answer_usd(model: str, prompt_tokens: int, output_tokens: int) -> float:
    """The most that one answer of that length to a prompt of that budget costs; 0 where the model has no price."""
    sent = int(prompt_tokens * CHARS_PER_TOKEN / WORST_CHARS_PER_TOKEN) + OVERHEAD_TOKENS
    return cost_usd(model, Usage(input=sent, written=sent, output=output_tokens))


def affordable_tokens(talk: Conversation, left_usd: float, most: int) -> int:
    """How long the next answer may be for the money that is left, its input paid; at most `most`."""
    if math.isinf(left_usd):
        return most
    sent = talk.next_input_tokens
    least, full = (cost_usd(talk.model, Usage(input=sent, written=sent, output=count)) for count in (0, most))
    return most if full <= left_usd else max(0, int(most * (left_usd - least) / (full - least)))


def objection(error: ProposalFailed | ChangeRejected, change: Change | None, data: bytes | None) -> str:
    """What a model is told whose answer cannot be used; `data` is the file where an edit of `change` does not apply."""
    if change is None or not isinstance(error, ChangeRejected):
        return f"That cannot be used: {error}. Submit one complete change, by `submit_change` or in text as described."
    parts = [f"Nothing was applied: {error}. Submit the whole change again, corrected."]
    text = clean(decode(data or b""))
    for edit in change.edits:
        if edit.path == error.path and edit.old and text.count(edit.old) != 1 and len(parts) <= MAX_NEAR:
            near = nearest_lines(text, edit.old)
            if near:
                parts.append(f"{edit.path} holds, nearest to what you wanted to replace:\n{fence(cap(near, 4000))}")
    return "\n\n".join(parts)
