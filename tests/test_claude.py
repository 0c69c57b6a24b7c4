from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from autoresearch.brief import Brief, InFlight
from autoresearch.config import RunConfig
from autoresearch.errors import (
    ConfigError,
    MoneySpent,
    ProposalDeferred,
    ProposalFailed,
    ProposerLost,
    UsageError,
)
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.proposers.claude import ClaudeProposer, available
from autoresearch.proposers.faults import MAX_RETRY_AFTER_SECONDS
from autoresearch.protocols import FileEntry
from autoresearch.scope import resolve
from autoresearch.trial import Edit, Operator, Proposal
from tests.messages_server import Cut, Fault, MessagesServer, Raw, Say, Stall, Step, StreamFault, text, thinking, tool

pytestmark = pytest.mark.anyio

MODEL = "claude-opus-5-5"
KEY = "sk-ant-secret-of-the-user"
FILES = {
    "train.py": b"lr = 0.1\nlayers = 2\nprint(lr * layers)",
    "prepare.py": b"DATA = 1\n",
    "README.md": b"# Train\n",
}
CONFIG = RunConfig(
    objective="minimize loss", measure="python train.py", scope=("train.py",), model=("claude-opus-5-5",)
)
SUBMISSION = {"hypothesis": "learn faster", "edits": [{"path": "train.py", "old": "lr = 0.1", "new": "lr = 0.2"}]}
EDIT = Edit("train.py", old="lr = 0.1", new="lr = 0.2")
SUBMIT = Say(tool("submit_change", SUBMISSION))
IN_TEXT = """hypothesis: more layers
train.py
<<<<<<< SEARCH
layers = 2
=======
layers = 3
>>>>>>> REPLACE"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class DictTree:
    """A tree of files in memory."""

    contents: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    commit: str = "c0ffee"

    async def files(self) -> Sequence[FileEntry]:
        return [FileEntry(path, len(data)) for path, data in sorted(self.contents.items())]

    async def read(self, path: str) -> bytes | None:
        return self.contents.get(path)

    async def search(self, pattern: str, limit: int = 100) -> list[str]:
        try:
            found = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        lines = [
            f"{path}:{number}:{line}"
            for path, data in sorted(self.contents.items())
            for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1)
            if found.search(line)
        ]
        return lines[:limit]


def brief(config: RunConfig = CONFIG, **changed: Any) -> Brief:
    metric = Metric("loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "loss"))
    known: dict[str, Any] = {"trial": 1, "parent": 0, "operator": Operator.IMPROVE, "config": config, "metric": metric}
    return Brief(**(known | {"baseline": 1.0, "best": 1.0, "incumbent": 0} | changed))


def proposer(url: str, config: RunConfig = CONFIG, root: str = "/nonexistent") -> ClaudeProposer:
    environ = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": KEY}
    return ClaudeProposer(config, resolve(config.scope, tuple(FILES)), root, environ)


async def ask(
    script: Iterable[Step], config: RunConfig = CONFIG, *, tree: DictTree | None = None, **changed: Any
) -> tuple[Proposal, MessagesServer]:
    """One proposal against a server that follows the script."""
    with MessagesServer(script) as server:
        async with proposer(server.url, config) as asked:
            return await asked.propose(brief(config, **changed), tree or DictTree()), server


async def failing(script: Iterable[Step], kind: type[Exception], config: RunConfig = CONFIG, **changed: Any) -> Any:
    """The error that one proposal ends with, and the server."""
    with MessagesServer(script) as server:
        async with proposer(server.url, config) as asked:
            with pytest.raises(kind) as raised:
                await asked.propose(brief(config, **changed), DictTree())
    return raised.value, server


def said_to_the_model(server: MessagesServer, request: int = -1) -> str:
    return json.dumps(server.requests[request].body["messages"][-1])


async def test_a_tool_call_is_a_proposal() -> None:
    proposal, server = await ask([Say(thinking("hm"), tool("submit_change", SUBMISSION))])
    assert proposal.change.hypothesis == "learn faster"
    assert proposal.change.edits == (EDIT,)
    assert proposal.reply.model == "claude-opus-5-5"
    assert "lr = 0.2" in proposal.reply.text
    request = server.requests[0]
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body["stream"] is True
    assert request.body["output_config"] == {"effort": "medium"}
    assert not {"temperature", "top_p", "top_k", "tool_choice", "thinking"} & set(request.body)
    assert [offered["name"] for offered in request.body["tools"]] == [
        "submit_change",
        "list_files",
        "read_file",
        "search",
    ]


async def test_the_mark_for_the_cache_stands_at_the_end_of_what_is_shared() -> None:
    proposal, server = await ask([SUBMIT])
    content = server.requests[0].body["messages"][0]["content"]
    assert [("cache_control" in block) for block in content] == [False, True, False]
    assert "layers = 2" in content[1]["text"]
    shown = [server.requests[0].body["system"], *(block["text"] for block in content)]
    assert list(proposal.reply.prompt) == shown


async def test_usage_counts_the_cached_part_and_is_priced() -> None:
    cache = {"cache_read_input_tokens": 3000, "cache_creation_input_tokens": 500}
    counted = {"input_tokens": 500, "output_tokens": 1000} | cache
    proposal, _ = await ask([Say(tool("submit_change", SUBMISSION), usage=counted)])
    usage = proposal.reply.usage
    assert (usage.input, usage.cached, usage.written, usage.output) == (4000, 3000, 500, 1000)
    assert 0.02 < usage.cost_usd < 0.03
    assert usage.seconds > 0


@pytest.mark.parametrize("fenced", [IN_TEXT, f"Sure.\n```python\n{IN_TEXT}\n```"])
async def test_a_change_in_text_is_a_proposal(fenced: str) -> None:
    proposal, _ = await ask([Say(thinking("hm"), text(fenced))])
    assert proposal.change.hypothesis == "more layers"
    assert proposal.change.edits == (Edit("train.py", old="layers = 2\n", new="layers = 3\n"),)


async def test_a_block_at_the_end_of_a_file_without_a_newline_applies() -> None:
    block = "train.py\n<<<<<<< SEARCH\nprint(lr * layers)\n=======\nprint(lr)\n>>>>>>> REPLACE"
    proposal, _ = await ask([Say(text(block))])
    assert proposal.change.edits == (Edit("train.py", old="print(lr * layers)", new="print(lr)"),)


async def test_the_model_may_look_things_up() -> None:
    look = Say(
        thinking("first", "signed"),
        tool("list_files", {}, "t1"),
        tool("read_file", {"path": "prepare.py"}, "t2"),
        tool("search", {"pattern": "lay+ers"}, "t3"),
        tool("search", {"pattern": "("}, "t4"),
        tool("read_file", {"path": "../x"}, "t5"),
    )
    proposal, server = await ask([look, SUBMIT])
    assistant, results = server.requests[1].body["messages"][1:]
    assert assistant["content"][0] == thinking("first", "signed")
    assert [block["tool_use_id"] for block in results["content"]] == ["t1", "t2", "t3", "t4", "t5"]
    shown = [block["content"] for block in results["content"]]
    assert "prepare.py (9 bytes)" in shown[0]
    assert shown[1] == "DATA = 1\n"
    assert "train.py:2:layers = 2" in shown[2]
    assert shown[3].startswith("error: not a regular expression")
    assert shown[4] == "error: there is no file '../x'"
    assert proposal.reply.usage.output == 100


async def test_look_ups_are_bounded() -> None:
    look = Say(tool("list_files", {}))
    error, server = await failing([look] * 20, ProposalFailed)
    assert "submitted no change" in error.why
    assert "last look-up" in said_to_the_model(server, 6)
    assert len(server.requests) == 8


async def test_an_edit_that_does_not_apply_is_sent_back_once_with_the_nearest_lines() -> None:
    wrong = {"hypothesis": "x", "edits": [{"path": "train.py", "old": "lr  =  0.1", "new": "lr = 0.2"}]}
    proposal, server = await ask([Say(thinking("hm"), tool("submit_change", wrong)), SUBMIT])
    assert proposal.change.edits == (EDIT,)
    assert "exactly once" in said_to_the_model(server)
    assert "layers = 2" in said_to_the_model(server)
    assert server.requests[1].body["messages"][-1]["content"][0]["type"] == "tool_result"
    assert proposal.reply.usage.input == 200


async def test_an_edit_that_never_applies_is_a_failed_proposal() -> None:
    wrong = {"hypothesis": "x", "edits": [{"path": "train.py", "old": "lr  =  0.1", "new": "lr = 0.2"}]}
    error, server = await failing([Say(tool("submit_change", wrong))] * 3, ProposalFailed)
    assert len(server.requests) == 2
    assert "exactly once" in error.why
    assert error.reply.usage.input == 200


async def test_an_edit_out_of_scope_is_sent_back() -> None:
    outside = {"hypothesis": "x", "edits": [{"path": "prepare.py", "old": "DATA = 1", "new": "DATA = 2"}]}
    proposal, server = await ask([Say(tool("submit_change", outside)), SUBMIT])
    assert proposal.change.edits == (EDIT,)
    assert "prepare.py: outside the scope" in said_to_the_model(server)


@pytest.mark.parametrize(
    ("useless", "why"),
    [
        (Say(text("I would rather not.")), "no change"),
        (Say(text("Half a \ud83d pair.")), "no change"),
        (Say(text("")), "no change"),
        (Say(text(""), stop_reason="refusal"), "refused"),
        (Say(stop_reason="refusal"), "refused"),
        (Say(tool("submit_change", SUBMISSION), stop_reason="max_tokens"), "cut off at its token limit"),
        (Say(thinking("and so on"), stop_reason="max_tokens"), "cut off at its token limit"),
        (Say(tool("submit_change", {"hypothesis": "x", "edits": []})), 'needs "edits"'),
        (Say(tool("submit_change", '{"hypothesis": nonsense}')), "could not be read"),
        (Say(tool("submit_change", "[1, 2]")), 'needs "edits"'),
    ],
)
async def test_a_useless_answer_is_asked_once_more(useless: Say, why: str) -> None:
    proposal, server = await ask([useless, SUBMIT])
    assert proposal.change.edits == (EDIT,)
    assert why in json.loads(said_to_the_model(server))["content"][-1]["text"]
    roles = [message["role"] for message in server.requests[1].body["messages"]]
    assert all(one != other for one, other in itertools.pairwise(roles))
    error, server = await failing([useless, useless, SUBMIT], ProposalFailed)
    assert why in error.why
    assert len(server.requests) == 2
    assert error.reply.usage.output > 2
    error.reply.text.encode()
    assert error.reply.prompt


@pytest.mark.parametrize(
    ("step", "why", "retry_after"),
    [
        (Fault(429, "rate_limit_error", retry_after="7"), "429 rate limit: scripted", 7.0),
        (Fault(429, "rate_limit_error", retry_after="3600"), "429", MAX_RETRY_AFTER_SECONDS),
        (Fault(429, "rate_limit_error", retry_after="soon"), "429", None),
        (Fault(408, "timeout_error"), "408", None),
        (Fault(409, "conflict_error"), "409", None),
        (Fault(500), "500", None),
        (Fault(503), "503", None),
        (Fault(529, "overloaded_error"), "529 overloaded", None),
        (StreamFault("overloaded_error"), "overloaded: scripted", None),
        (StreamFault("api_error"), "api: scripted", None),
        (Cut(chunked=True), "no answer", None),
        (Cut(chunked=False), "cut off", None),
        (Raw(""), "cut off", None),
        (Raw("{}", "application/json"), "cut off", None),
    ],
)
async def test_a_server_that_cannot_answer_now_defers_the_proposal(
    step: Step, why: str, retry_after: float | None
) -> None:
    error, server = await failing([step], ProposalDeferred)
    assert why in error.why
    assert error.retry_after_seconds == retry_after
    assert len(server.requests) == 1


async def test_what_was_spent_before_a_cut_is_said() -> None:
    error, _ = await failing([Say(tool("list_files", {}), usage={"input_tokens": 10_000}), Cut()], ProposalDeferred)
    assert error.cost_usd > 0.04


async def test_a_stall_ends_at_the_deadline() -> None:
    error, _ = await failing([Stall()], ProposalDeferred, replace(CONFIG, proposal_timeout=0.5))
    assert "0.5 s" in error.why or "ReadTimeout" in error.why


async def test_look_ups_without_end_end_at_the_deadline() -> None:
    class SlowTree(DictTree):
        async def files(self) -> Sequence[FileEntry]:
            if self.contents.pop("slow", None) is None:
                await anyio.sleep_forever()
            return await super().files()

    with MessagesServer([Say(tool("list_files", {}))]) as server:
        config = replace(CONFIG, proposal_timeout=0.5)
        async with proposer(server.url, config) as asked:
            with pytest.raises(ProposalDeferred, match=r"within 0\.5 s"):
                await asked.propose(brief(config), SlowTree(dict(FILES) | {"slow": b""}))


async def test_a_server_that_is_not_there_defers_the_proposal() -> None:
    with MessagesServer() as server:
        url = server.url
    async with proposer(url) as asked:
        with pytest.raises(ProposalDeferred, match="no answer from http"):
            await asked.propose(brief(), DictTree())


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (Fault(401, "authentication_error", f"invalid key {KEY}"), r"refuses the key \(invalid key \[key\]\)"),
        (Fault(402, "billing_error"), "wants payment"),
        (Fault(403, "permission_error"), "refuses the key"),
        (Fault(404, "not_found_error", "model: x"), "does not know model claude-opus-5-5"),
        (Fault(400, "invalid_request_error", "Your credit balance is too low"), "wants payment"),
        (Fault(400, "invalid_request_error", "tools: not allowed"), "does not take our requests: tools: not allowed"),
        (Fault(501), "answers 501"),
        (StreamFault("authentication_error"), "refuses the key"),
    ],
)
async def test_asking_again_in_vain_stops_the_run(step: Step, why: str) -> None:
    error, server = await failing([step, SUBMIT], ProposerLost)
    assert re.search(why, str(error))
    assert "\n" not in str(error)
    assert len(server.requests) == 1


async def test_one_refused_request_is_a_failed_proposal_and_three_in_a_row_stop_the_run() -> None:
    refused = Fault(400, "invalid_request_error", "unsafe content")
    with MessagesServer([SUBMIT, refused, SUBMIT, refused, refused, refused]) as server:
        async with proposer(server.url) as asked:
            await asked.propose(brief(), DictTree())
            with pytest.raises(ProposalFailed, match="unsafe content"):
                await asked.propose(brief(), DictTree())
            await asked.propose(brief(), DictTree())
            for kind in (ProposalFailed, ProposalFailed, ProposerLost):
                with pytest.raises(kind, match="unsafe content"):
                    await asked.propose(brief(), DictTree())


@pytest.mark.parametrize("status", [400, 413])
async def test_a_prompt_that_is_too_large_is_made_smaller(status: int) -> None:
    too_large = Fault(status, "invalid_request_error", "prompt is too long: 9 tokens > 5 maximum")
    tree = DictTree(dict(FILES) | {"train.py": FILES["train.py"] + b"\n# long" * 6000})
    with MessagesServer([too_large, too_large, SUBMIT, SUBMIT]) as server:
        async with proposer(server.url) as asked:
            await asked.propose(brief(), tree)
            await asked.propose(brief(), tree)
    sizes = [len(json.dumps(request.body)) for request in server.requests]
    assert sizes[0] > 40_000 > sizes[2] > sizes[3] - 1000


async def test_a_model_without_effort_is_asked_without() -> None:
    refused = Fault(400, "invalid_request_error", "This model does not support output_config.effort")
    proposal, server = await ask([refused, SUBMIT])
    assert proposal.change.edits == (EDIT,)
    assert "output_config" not in server.requests[1].body


async def test_a_request_that_is_cancelled_leaves_nothing_behind() -> None:
    with MessagesServer([Stall(), SUBMIT]) as server:
        async with proposer(server.url) as asked:
            with anyio.move_on_after(0.3) as scope:
                await asked.propose(brief(), DictTree())
            assert scope.cancelled_caught
            assert (await asked.propose(brief(), DictTree())).change.edits == (EDIT,)


async def test_eight_at_once_get_their_own_answers() -> None:
    def answer(request: Any) -> Step:
        number = re.search(r"trial (\d+): tried by", json.dumps(request.body))
        assert number
        return Say(tool("submit_change", SUBMISSION | {"hypothesis": f"for {number[1]}"}))

    answers: dict[int, str] = {}

    async def one(asked: ClaudeProposer, number: int) -> None:
        other = InFlight(number, Operator.IMPROVE, "tried by another")
        answers[number] = (await asked.propose(brief(in_flight=(other,)), DictTree())).change.hypothesis

    with MessagesServer(answer) as server:
        async with proposer(server.url) as asked, anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(one, asked, number)
    assert answers == {number: f"for {number}" for number in range(8)}


async def test_no_further_request_is_made_that_the_limit_does_not_cover() -> None:
    look = Say(tool("list_files", {}), usage={"output_tokens": 2000})
    error, server = await failing([look, look, look, SUBMIT], ProposalFailed, spend_limit_usd=0.1)
    assert "$0.10" in error.why
    assert 0 < error.reply.usage.cost_usd < 0.1
    lengths = [request.body["max_tokens"] for request in server.requests]
    assert lengths[0] < 16_000 and lengths == sorted(lengths, reverse=True)


async def test_money_that_does_not_pay_for_an_answer_ends_proposing() -> None:
    error, server = await failing([SUBMIT], MoneySpent, spend_limit_usd=0.01)
    assert error.stop_reason == "--max-cost reached"
    assert "$0.01" in str(error)
    assert not server.requests


async def test_models_are_chosen_by_weight_and_trial() -> None:
    config = replace(CONFIG, model=("claude-opus-5-5=1", "claude-haiku-5-5=3"))
    asked = []
    with MessagesServer(lambda request: SUBMIT) as server:
        async with proposer(server.url, config) as two:
            assert two.models == ("claude-opus-5-5", "claude-haiku-5-5")
            for trial in (*range(1, 13), 1, 2, 3):
                asked.append((await two.propose(brief(config, trial=trial), DictTree())).reply.model)
    assert asked[:3] == asked[12:]
    assert set(asked) == set(two.models)
    assert asked[:12].count("claude-haiku-5-5") > 6


async def test_the_only_model_of_a_local_server_is_taken_and_has_no_price() -> None:
    config = replace(CONFIG, model=())
    with MessagesServer([SUBMIT], models=("SmolLM2-135M.gguf",)) as server:
        environ = {"ANTHROPIC_BASE_URL": server.url}
        scope = resolve(config.scope, tuple(FILES))
        async with ClaudeProposer(config, scope, "/nonexistent", environ) as asked:
            await asked.prepare()
            assert asked.models == ("SmolLM2-135M.gguf",)
            assert not asked.priced
            assert asked.cost_bound_usd == 0
            proposal = await asked.propose(brief(config, spend_limit_usd=0.0), DictTree())
    assert proposal.reply.usage.cost_usd == 0
    assert server.requests[0].body["model"] == "SmolLM2-135M.gguf"


@pytest.mark.parametrize(("models", "why"), [(("a", "b"), "several models.*: a, b"), ((), "lists no model")])
async def test_several_models_of_a_local_server_are_listed(models: tuple[str, ...], why: str) -> None:
    with MessagesServer(models=models) as server:
        async with proposer(server.url, replace(CONFIG, model=())) as asked:
            with pytest.raises(UsageError, match=why):
                await asked.prepare()


async def test_a_server_that_lists_no_models_is_said() -> None:
    with MessagesServer() as server:
        async with proposer(f"{server.url}/elsewhere", replace(CONFIG, model=())) as asked:
            with pytest.raises(UsageError, match=r"does not list its models .* --model"):
                await asked.prepare()


def test_the_default_model_has_a_price_and_a_bound() -> None:
    config = replace(CONFIG, model=())
    scope = resolve(config.scope, tuple(FILES))
    asked = ClaudeProposer(config, scope, "/nonexistent", {"ANTHROPIC_API_KEY": KEY})
    assert asked.models == ("claude-opus-5-5",)
    assert asked.priced
    assert 0.5 < asked.cost_bound_usd < 2
    assert asked.repairs and not asked.ordered


@pytest.mark.parametrize(
    ("environ", "there"),
    [
        ({}, False),
        ({"ANTHROPIC_API_KEY": " "}, False),
        ({"ANTHROPIC_API_KEY": KEY}, True),
        ({"ANTHROPIC_AUTH_TOKEN": "x"}, True),
        ({"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}, True),
        ({"ANTHROPIC_BASE_URL": "https://api.anthropic.com"}, False),
    ],
)
def test_a_key_or_another_server_makes_it_available(environ: dict[str, str], there: bool) -> None:
    assert available(environ) is there
    if not there:
        with pytest.raises(UsageError, match="ANTHROPIC_API_KEY"):
            ClaudeProposer(CONFIG, resolve(CONFIG.scope, tuple(FILES)), "/nonexistent", environ)


@pytest.mark.parametrize(
    ("changed", "environ", "why"),
    [
        ({"model": ("a=0",)}, {}, "model: 'a=0'"),
        ({"model": ("a=x",)}, {}, "model: 'a=x'"),
        ({"model": ("=1",)}, {}, "model: '=1'"),
        ({"effort": "huge"}, {}, "effort: 'huge' is none of low"),
        ({}, {"ANTHROPIC_BASE_URL": "127.0.0.1:8080"}, "ANTHROPIC_BASE_URL"),
        ({}, {"ANTHROPIC_BASE_URL": "http://[x"}, "ANTHROPIC_BASE_URL"),
        ({}, {"ANTHROPIC_API_KEY": "a\nb"}, "no key has"),
    ],
)
def test_wrong_settings_are_said_before_anything_else(
    changed: dict[str, Any], environ: dict[str, str], why: str
) -> None:
    config = replace(CONFIG, **changed)
    with pytest.raises(UsageError, match=re.escape(why)) as raised:
        ClaudeProposer(
            config, resolve(config.scope, tuple(FILES)), "/nonexistent", {"ANTHROPIC_API_KEY": KEY} | environ
        )
    assert isinstance(raised.value, ConfigError) is bool(changed)


async def test_keys_are_neither_sent_nor_kept() -> None:
    other = "sk-ant-api03-of-someone-else"
    proposal, server = await ask([Say(text(f"{KEY}\n{IN_TEXT}"))], incumbent_tail=f"env: KEY={KEY} and {other}")
    kept = "\n".join([proposal.reply.text, *proposal.reply.prompt])
    assert KEY not in kept and other not in kept
    assert KEY not in json.dumps(server.requests[0].body)


async def test_guidance_and_context_come_from_the_checkout(tmp_path: Path) -> None:
    (tmp_path / "program.md").write_text("Set up a branch, then loop forever.")
    (tmp_path / "notes.txt").write_text("The data is small.")
    config = replace(CONFIG, context=("notes.txt",))
    with MessagesServer([SUBMIT]) as server:
        async with proposer(server.url, config, str(tmp_path)) as asked:
            await asked.prepare()
            await asked.propose(brief(config), DictTree())
    shown = server.requests[0].body["messages"][0]["content"][0]["text"]
    assert "all of that is done for you; return one change" in shown
    assert "loop forever" in shown and "The data is small." in shown and "# Train" in shown
    assert "DATA = 1" not in shown


async def test_without_context_small_files_beside_the_scope_are_shown() -> None:
    _, server = await ask([SUBMIT])
    shown = server.requests[0].body["messages"][0]["content"][0]["text"]
    assert "# Train" in shown and "DATA = 1" in shown


@pytest.mark.parametrize("changed", [{"context": ("gone.txt",)}, {"program": "gone.md"}])
async def test_a_named_file_that_is_missing_is_said(changed: dict[str, Any], tmp_path: Path) -> None:
    config = replace(CONFIG, **changed)
    async with proposer("http://127.0.0.1:1", config, str(tmp_path)) as asked:
        with pytest.raises(UsageError, match="there is no such file"):
            await asked.prepare()
