"""The proposer that asks a model over the Messages API: Anthropic's, or any server that speaks it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.to_thread

from autoresearch.brief import Brief
from autoresearch.config import RunConfig
from autoresearch.edits import apply_edits
from autoresearch.errors import (
    ChangeRejected,
    ConfigError,
    MoneySpent,
    ProposalDeferred,
    ProposalFailed,
    ProposerLost,
    UsageError,
)
from autoresearch.prompt import CHARS_PER_TOKEN, build
from autoresearch.proposers.conversation import Answer, Conversation, affordable_tokens, answer_usd, objection
from autoresearch.proposers.endpoint import Endpoint, available, endpoint, only, weights
from autoresearch.proposers.faults import RequestRefused, fault
from autoresearch.proposers.lookups import MAX_RESULT_CHARS, TOOLS, look_up
from autoresearch.proposers.material import MaterialReader
from autoresearch.proposers.pricing import priced
from autoresearch.protocols import Tree
from autoresearch.reply import one_line, settle
from autoresearch.scope import Scope
from autoresearch.trial import Change, Proposal, Reason, Trial, Usage

if TYPE_CHECKING:
    import anthropic

DEFAULT_MODEL = "claude-opus-5-5"
EFFORTS = ("low", "medium", "high", "xhigh", "max")

OUTPUT_TOKENS = {"low": 8_000, "medium": 16_000, "high": 32_000, "xhigh": 48_000, "max": 64_000}
"""Most tokens of one answer by effort; thinking counts. Other servers' models get LOCAL_OUTPUT_TOKENS."""
LOCAL_OUTPUT_TOKENS = 8_000
MIN_OUTPUT_TOKENS = 1_000
"""An answer that could be no longer than this is not asked for."""
PROMPT_TOKENS, LOCAL_PROMPT_TOKENS = 50_000, 12_000
MIN_PROMPT_TOKENS = 1_500
MAX_LOOK_UPS = 6
"""Answers of one proposal in which the model may look things up."""
LOOK_UP_CHARS = 80_000
"""Of all results of one proposal's look-ups."""
LEAST_OUTPUT_TOKENS = 4_000
"""Of an answer under a small ceiling."""
COVERED_ANSWERS = 2
"""Answers of the largest size that one proposal's cost is bounded by; smaller ones may be more."""
REFUSALS_IN_A_ROW = 3
"""Requests that the server did not take, after which none will be."""
LIST_SECONDS = 15.0
"""For a server's list of models."""
MAX_ANSWER_CHARS = 2_000_000
"""A stream that is longer is left."""
STALL_SECONDS = 120.0
"""Silence of Anthropic's server, which sends pings, after which a stream counts as stalled."""


class ClaudeProposer:
    """Asks a model for changes. Implements `Proposer`; used as an async context manager, or closed by `aclose`.

    Streams always, never retries by itself, and leaves a request when it is cancelled.
    """

    repairs = True
    ordered = False

    def __init__(
        self, config: RunConfig, scope: Scope, root: str, environ: Mapping[str, str], *, prefix: str = ""
    ) -> None:
        """`root` is the checkout, `prefix` the folder in it where the run was started.

        Raises:
            UsageError: no key and no server; a wrong effort, model weight or URL.
        """
        if config.effort not in EFFORTS:
            raise ConfigError("configuration", "effort", f"{config.effort!r} is none of {', '.join(EFFORTS)}")
        self._config, self._scope = config, scope
        self._where = endpoint(environ)
        self._server = _Server(self._where, config.proposal_timeout)
        self._material = MaterialReader(config, scope, root, prefix)
        self._weights = weights(config.model) or ({DEFAULT_MODEL: 1.0} if self._where.anthropic else {})
        self._budgets: dict[str, int] = {}
        """Token budgets of prompts that were found by asking, by model."""
        self._plain: set[str] = set()
        """Models that do not take an effort."""
        self._refused_in_a_row: int | None = None
        """Requests that the server did not take since the last one that it did; None before the first."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close connections."""
        await self._server.aclose()

    async def prepare(self) -> None:
        """Read guidance and context, and find the model where none was named.

        Raises:
            UsageError: a file that the user named is missing; the server has no model, or several.
        """
        await self._material.prepare()
        if not self._weights:
            self._weights = {only(await self._server.models(), self._where.url): 1.0}

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are asked; empty before `prepare` where the server's list decides."""
        return tuple(self._weights)

    @property
    def priced(self) -> bool:
        """Whether all models have a known price. Others count as $0."""
        return bool(self._weights) and all(priced(model) for model in self._weights)

    @property
    def cost_bound_usd(self) -> float:
        """The most that one proposal can cost: no further request is made that could cost more."""
        return max((self._bound_usd(model) for model in self._weights), default=0.0)

    @property
    def cost_least_usd(self) -> float:
        """What one short answer to a full prompt can cost."""
        least = (answer_usd(model, self._prompt_tokens(model), LEAST_OUTPUT_TOKENS) for model in self._weights)
        return max(least, default=0.0)

    def tell(self, trial: Trial) -> None:
        """Nothing to learn: each brief carries the history."""

    async def propose(self, brief: Brief, tree: Tree) -> Proposal:
        """See `Proposer.propose`. A change that is returned applies to `tree` and stays in scope."""
        if not self._weights:
            await self.prepare()
        talk = Conversation(self._model(brief), self._where.redact)
        started = anyio.current_time()
        try:
            with anyio.fail_after(self._config.proposal_timeout):
                change = await self._from_prompt(talk, brief, tree)
        except TimeoutError:
            why = f"the model gave no change within {self._config.proposal_timeout:g} s"
            raise ProposalDeferred(why, None, talk.usage.cost_usd) from None
        except ProposalDeferred as error:
            raise ProposalDeferred(error.why, error.retry_after_seconds, talk.usage.cost_usd) from error
        except ProposalFailed as error:
            talk.usage += Usage(seconds=anyio.current_time() - started)
            raise ProposalFailed(error.why, talk.reply()) from error
        talk.usage += Usage(seconds=anyio.current_time() - started)
        return Proposal(change, talk.reply())

    def _model(self, brief: Brief) -> str:
        """One of the models by weight; the same for the same seed and trial."""
        dice = random.Random(f"{self._config.seed}:{brief.trial}")
        return dice.choices(list(self._weights), list(self._weights.values()))[0]

    async def _from_prompt(self, talk: Conversation, brief: Brief, tree: Tree) -> Change:
        """Build a prompt and talk; again with a smaller one where the server says that it is too large."""
        while True:
            budget = self._prompt_tokens(talk.model)
            material = await self._material.read(tree, budget)
            talk.begin(build(brief, material, budget))
            try:
                return await self._talk(talk, tree, self._limit_usd(talk.model, brief))
            except RequestRefused as refused:
                self._adapt(talk, refused, budget)

    def _adapt(self, talk: Conversation, refused: RequestRefused, budget: int) -> None:
        """Make the next request one that the server may take.

        Raises:
            ProposalFailed: this request alone is at fault, as far as can be known.
            ProposerLost: no request will be taken.
        """
        if refused.too_large and not talk.answered and budget // 2 >= MIN_PROMPT_TOKENS:
            self._budgets[talk.model] = min(budget // 2, self._prompt_tokens(talk.model))
            return
        if refused.about_effort and talk.model not in self._plain:
            self._plain.add(talk.model)
            return
        before, self._refused_in_a_row = self._refused_in_a_row, (self._refused_in_a_row or 0) + 1
        if before is None or self._refused_in_a_row >= REFUSALS_IN_A_ROW:
            raise ProposerLost(f"the model's server does not take our requests: {refused.why}")
        raise ProposalFailed(f"the model's server did not take the request: {refused.why}")

    async def _talk(self, talk: Conversation, tree: Tree, limit_usd: float) -> Change:
        """Ask until a change fits; one answer of each kind, useless and not applying, may be corrected."""
        corrected: set[type] = set()
        look_ups, chars_left = MAX_LOOK_UPS, LOOK_UP_CHARS
        while True:
            answer = await self._ask(talk, limit_usd)
            if answer.asks and look_ups > 0:
                look_ups -= 1
                results = []
                for call in answer.calls:
                    results.append(await look_up(tree, str(call.get("name")), call.get("input"), chars_left))
                    chars_left -= len(results[-1])
                look_ups = look_ups if chars_left > MAX_RESULT_CHARS // 4 else 0
                talk.answer_calls(answer, results, "" if look_ups else "That was the last look-up: submit your change.")
                continue
            change = None
            try:
                change = answer.change()
                return await self._fitting(change, tree)
            except (ProposalFailed, ChangeRejected) as error:
                if type(error) in corrected:
                    raise ProposalFailed(str(error)) from error
                corrected.add(type(error))
                data = await tree.read(error.path) if isinstance(error, ChangeRejected) else None
                talk.object(answer, objection(error, change, data))

    async def _fitting(self, change: Change, tree: Tree) -> Change:
        """The change as it applies to the tree.

        Raises:
            ChangeRejected: it leaves the scope or does not apply.
        """
        for edit in change.edits:
            if why := self._scope.why_not(edit.path):
                raise ChangeRejected(edit.path, why, Reason.OUT_OF_SCOPE)
        files = {edit.path: await tree.read(edit.path) for edit in change.edits}
        settled = settle(change, files)
        apply_edits(settled.edits, files)
        return settled

    async def _ask(self, talk: Conversation, limit_usd: float) -> Answer:
        """One request, no longer than the money allows."""
        most = affordable_tokens(talk, limit_usd - talk.usage.cost_usd, self._output_tokens(talk.model))
        if most < MIN_OUTPUT_TOKENS:
            if not talk.answered:
                raise MoneySpent(f"${limit_usd:.2f}, what is left to spend, does not pay for an answer")
            raise ProposalFailed(f"no change for the ${limit_usd:.2f} that one proposal may cost")
        request = talk.request | {"model": talk.model, "max_tokens": most, "tools": TOOLS}
        if talk.model not in self._plain:
            request["output_config"] = {"effort": self._config.effort}
        answer = await self._server.ask(request, talk.meter)
        self._refused_in_a_row = 0
        talk.hear(answer)
        return answer

    def _prompt_tokens(self, model: str) -> int:
        default = PROMPT_TOKENS if model.startswith("claude-") else LOCAL_PROMPT_TOKENS
        return self._budgets.get(model) or self._config.prompt_tokens or default

    def _output_tokens(self, model: str) -> int:
        return OUTPUT_TOKENS[self._config.effort] if model.startswith("claude-") else LOCAL_OUTPUT_TOKENS

    def _bound_usd(self, model: str) -> float:
        return COVERED_ANSWERS * answer_usd(model, self._prompt_tokens(model), self._output_tokens(model))

    def _limit_usd(self, model: str, brief: Brief) -> float:
        """What this proposal may cost; infinite where the model has no price."""
        if not priced(model):
            return math.inf
        bound = self._bound_usd(model)
        return bound if brief.spend_limit_usd is None else min(bound, brief.spend_limit_usd)


class _Server:
    """The SDK's client, made at the first call: importing it takes seconds. Turns its errors into ours."""

    def __init__(self, where: Endpoint, timeout_seconds: float) -> None:
        self._where = where
        self._timeout_seconds = min(STALL_SECONDS, timeout_seconds) if where.anthropic else timeout_seconds
        self._client: anthropic.AsyncAnthropic | None = None
        self._lock = anyio.Lock()

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def models(self) -> list[str]:
        """The names of the models that the server lists.

        Raises:
            UsageError: it does not list any.
        """
        client = await self._connected()
        import anthropic  # noqa: PLC0415
        import httpx2  # noqa: PLC0415

        try:
            page = await client.models.list(timeout=LIST_SECONDS)
        except (anthropic.AnthropicError, httpx2.HTTPError, ValueError) as error:
            why = one_line(self._where.redact(str(error)), 200)
            raise UsageError(f"{self._where.url} does not list its models ({why}); name one with --model") from None
        rows = getattr(page, "data", None)
        return [model.id for model in rows if getattr(model, "id", None)] if isinstance(rows, list) else []

    async def ask(self, request: Mapping[str, Any], meter: Callable[[Usage], None]) -> Answer:
        """Send one request and read its stream to the end; `meter` is told what it used, also where it fails.

        Raises:
            ProposalDeferred, ProposerLost: see `faults`.
            RequestRefused: the server does not take this request.
        """
        client = await self._connected()
        import anthropic  # noqa: PLC0415
        import httpx2  # noqa: PLC0415

        try:
            async with client.messages.stream(**request) as stream:
                return await self._read(stream, meter)
        except anthropic.APIStatusError as error:
            said = self._where.redact(error.api_message or error.message)
            retry_after = error.response.headers.get("retry-after")
            raise fault(error.status_code, error.type or "", said, retry_after, str(request["model"])) from None
        except (anthropic.APIError, httpx2.HTTPError, httpx2.StreamError) as error:
            cause = error.__cause__ or error
            why = one_line(self._where.redact(str(cause) or type(cause).__name__), 200)
            raise ProposalDeferred(f"no answer from {self._where.url}: {type(cause).__name__}: {why}") from None

    async def _read(self, stream: Any, meter: Callable[[Usage], None]) -> Answer:
        """The whole message; an unreadable stream is an answer that says so."""
        begun, received = False, 0
        try:
            async for event in stream:
                begun = begun or event.type == "message_start"
                received = 0 if event.type == "message_delta" else received + _chars(event)
                if received > MAX_ANSWER_CHARS:
                    return Answer((), "endless")
        except (ValueError, RuntimeError, LookupError, AttributeError, TypeError):
            # the SDK accumulates what the server sends without checking it: a tool call that is no JSON ends here
            return Answer((), "unreadable")
        finally:
            if begun:
                meter(_usage(stream.current_message_snapshot.usage, received))
        message = stream.current_message_snapshot if begun else None
        if message is None or message.stop_reason is None:
            raise ProposalDeferred(f"the answer of {self._where.url} was cut off")
        return Answer(tuple(_block(block) for block in message.content), str(message.stop_reason))

    async def _connected(self) -> anthropic.AsyncAnthropic:
        async with self._lock:
            if self._client is None:
                self._client = await anyio.to_thread.run_sync(self._connect)
            return self._client

    def _connect(self) -> anthropic.AsyncAnthropic:
        import anthropic  # noqa: PLC0415
        import httpx2  # noqa: PLC0415

        timeout = httpx2.Timeout(self._timeout_seconds, connect=10.0)
        return anthropic.AsyncAnthropic(
            api_key=self._where.key, base_url=self._where.url, max_retries=0, timeout=timeout
        )


def _block(block: Any) -> dict[str, Any]:
    """A content block as the server sent it, but for what it would not take back: half surrogate pairs, and a tool
    call's input that is no object."""
    sent = json.dumps(block.to_dict(warnings=False), ensure_ascii=False)
    row: dict[str, Any] = json.loads(sent.encode("utf-8", "replace"))
    if row.get("type") == "tool_use" and not isinstance(row.get("input"), dict):
        row["input"] = {}
    return row


def _chars(event: Any) -> int:
    """How many characters a stream's event adds to the answer."""
    delta = event.delta if event.type == "content_block_delta" else None
    return sum(len(getattr(delta, key, None) or "") for key in ("text", "thinking", "partial_json"))


def _usage(counted: Any, received_chars: int) -> Usage:
    """Token counts as totals: the API's `input_tokens` is the uncached rest only.

    The output's count comes with the end of a stream: of one that was cut, the characters since are counted instead.
    """
    cached, written = counted.cache_read_input_tokens or 0, counted.cache_creation_input_tokens or 0
    total = (counted.input_tokens or 0) + cached + written
    output = max(counted.output_tokens or 0, int(received_chars / CHARS_PER_TOKEN))
    return Usage(input=total, cached=cached, written=written, output=output)


__all__ = ["DEFAULT_MODEL", "ClaudeProposer", "available"]
