"""The command proposer with real processes: small programs that edit, commit, hang, fork, print JSON or do nothing."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import psutil
import pytest

from autoresearch.brief import Brief, Repair
from autoresearch.config import RunConfig
from autoresearch.errors import ProposalDeferred, ProposalFailed, ProposerLost, UsageError
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.proposers.agents import Said, command_of, cost_bound, hypothesis, retry_after_seconds
from autoresearch.proposers.command import CommandProposer
from autoresearch.protocols import FileEntry, Tree
from autoresearch.repository import GitRepository, inspect
from autoresearch.scope import resolve
from autoresearch.trial import Change, Edit, Operator, Proposal, Reason

pytestmark = pytest.mark.anyio

FILES = {"train.py": "LR = 1\n", "README.md": "read me\n"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class MemoryTree:
    commit = "c0ffee"

    async def files(self) -> Sequence[FileEntry]:
        return [FileEntry(path, len(text)) for path, text in FILES.items()]

    async def read(self, path: str) -> bytes | None:
        return FILES[path].encode() if path in FILES else None

    async def search(self, pattern: str, limit: int = 100) -> list[str]:
        return []


def texts_of(folder: Path) -> dict[str, str]:
    names = {path: path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name.as_posix(): path.read_text() for path, name in names.items() if ".git" not in name.parts}


class FolderWorktrees:
    """Plain folders, each a git repository of its own, compared file by file."""

    @asynccontextmanager
    async def checkout(self, commit: str) -> AsyncIterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            for path, text in FILES.items():
                (Path(folder) / path).write_text(text)
            await anyio.run_process(["git", "init", "-q"], cwd=folder)
            yield Path(folder)

    async def difference(self, worktree: Path, parent: str) -> tuple[Edit, ...]:
        found = await anyio.to_thread.run_sync(texts_of, worktree)
        written = [Edit(path, content=text) for path, text in found.items() if FILES.get(path) != text]
        return (*written, *(Edit(path, delete=True) for path in FILES if path not in found))


def brief(repair: Repair | None = None) -> Brief:
    metric = Metric("loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "loss"))
    return Brief(1, 0, Operator.IMPROVE, RunConfig(), metric, 1.0, 1.0, 0, repair=repair)


async def build_prompt(brief: Brief, tree: Tree) -> str:
    return f"Make the number smaller, {brief.operator}. " + "x" * 200_000


def proposer_of(command: str | Sequence[str], **options: Any) -> CommandProposer:
    options = {"timeout_seconds": 20.0} | options
    return CommandProposer(command, FolderWorktrees(), build_prompt, **options)


async def propose(command: str | Sequence[str], repair: Repair | None = None, **options: Any) -> Proposal:
    return await proposer_of(command, **options).propose(brief(repair), MemoryTree())


def says(document: Any) -> str:
    return f"echo {shlex.quote(json.dumps(document))}"


async def test_the_change_is_what_the_files_differ_in() -> None:
    proposal = await propose("echo thinking; echo 'LR = 2' > train.py; rm README.md; echo 'Hypothesis: a larger LR'")
    assert proposal.change == Change(
        "a larger LR", (Edit("train.py", content="LR = 2\n"), Edit("README.md", delete=True))
    )
    assert proposal.reply.text.startswith("thinking")
    assert proposal.reply.model == "command"
    assert proposal.parent is None


async def test_a_commit_of_the_agent_changes_nothing_about_that() -> None:
    commit = "git -c user.name=a -c user.email=a@b commit -qam done"
    proposal = await propose(f"echo 'LR = 2' > train.py; git add -A; {commit}; echo done it")
    assert proposal.change.edits == (Edit("train.py", content="LR = 2\n"),)
    assert proposal.change.hypothesis == "done it"


async def test_the_prompt_comes_on_stdin_and_in_a_file() -> None:
    proposal = await propose('cmp - "$AUTORESEARCH_PROMPT" && head -c 21 "$AUTORESEARCH_PROMPT" > train.py')
    assert proposal.change.edits == (Edit("train.py", content="Make the number small"),)
    assert proposal.change.hypothesis == "edit train.py"
    assert proposal.reply.prompt == (await build_prompt(brief(), MemoryTree()),)


async def test_an_agent_that_reads_no_prompt_is_fine() -> None:
    proposal = await propose(["sh", "-c", "exec <&-; echo 'LR = 3' > train.py"])
    assert proposal.change.edits == (Edit("train.py", content="LR = 3\n"),)


async def test_the_agent_has_the_users_environment_but_no_way_into_the_users_repository(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "MY_LOGIN": "me",
        "GIT_DIR": str(tmp_path / "theirs"),
        "GIT_INDEX_FILE": str(tmp_path / "index"),
    }
    command = "git config core.hooksPath mine; echo $MY_LOGIN $HUSKY $LEFTHOOK $GIT_INDEX_FILE > train.py"
    proposal = await propose(command, environment=environment)
    assert proposal.change.edits == (Edit("train.py", content="me 0 0\n"),)
    assert os.listdir(tmp_path) == []


async def test_a_json_result_names_the_change_and_its_cost() -> None:
    usage = {"input_tokens": 3, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 4, "output_tokens": 9}
    result = {"result": "Well.\n**Hypothesis:** warm up", "is_error": False, "total_cost_usd": 0.07, "usage": usage}
    proposal = await propose(f"echo 'LR = 2' > train.py; {says(result)}", cost_bound_usd=0.5)
    assert proposal.change.hypothesis == "warm up"
    spent = proposal.reply.usage
    assert (spent.cost_usd, spent.input, spent.cached, spent.written, spent.output) == (0.07, 27, 20, 4, 9)


async def test_a_call_that_does_not_say_its_cost_has_cost_its_bound() -> None:
    proposal = await propose("echo 'LR = 2' > train.py", cost_bound_usd=0.25)
    assert proposal.reply.usage.cost_usd == 0.25


async def test_a_change_counts_whatever_the_exit_status() -> None:
    proposal = await propose(
        f"echo 'LR = 2' > train.py; {says({'is_error': True, 'result': 'too many turns'})}; exit 3"
    )
    assert proposal.change.hypothesis == "too many turns"


@pytest.mark.parametrize(
    ("command", "error", "what"),
    [
        ("echo all good already", ProposalFailed, "changed nothing"),
        ("echo oh dear >&2; exit 3", ProposalFailed, "exit 3 and changed nothing: oh dear"),
        (says({"is_error": True, "subtype": "success", "result": "I broke"}), ProposalFailed, "I broke"),
        (says({"is_error": True, "subtype": "success", "result": "Usage limit reached"}), ProposalDeferred, "limit"),
        ("echo 'Claude AI usage limit reached|4102444800'", ProposalDeferred, "limit"),
        ('echo \'{"type":"error","message":"Overloaded"}\'; exit 1', ProposalDeferred, "Overloaded"),
        ("echo 'connect ECONNREFUSED 127.0.0.1:1' >&2; exit 1", ProposalDeferred, "ECONNREFUSED"),
        ("echo 'Invalid API key · Please run /login'; exit 1", ProposerLost, "Invalid API key"),
        ("no-such-agent-anywhere --go", ProposerLost, "exit 127"),
        (f"echo '{'long talk of a rate limit. ' * 20}'", ProposalFailed, "changed nothing"),
    ],
)
async def test_no_change_is_told_apart(command: str, error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        await propose(command)


async def test_a_failed_proposal_keeps_its_reply_and_the_cost_of_both_calls() -> None:
    with pytest.raises(ProposalFailed) as raised:
        await propose(says({"result": "nothing to do", "total_cost_usd": 0.02}))
    assert raised.value.reply is not None
    assert raised.value.reply.usage.cost_usd == 0.04


async def test_a_useless_answer_is_sent_back_once_with_the_reason() -> None:
    stubborn = 'grep -q "of no use: the agent changed nothing" "$AUTORESEARCH_PROMPT" && echo "LR = 2" > train.py; true'
    proposal = await propose(stubborn, cost_bound_usd=0.25)
    assert proposal.change.edits == (Edit("train.py", content="LR = 2\n"),)
    assert proposal.reply.usage.cost_usd == 0.5


@pytest.mark.parametrize(("limit_usd", "calls"), [(0.25, 1), (0.5, 2)])
async def test_a_useless_answer_is_sent_back_only_where_the_money_covers_it(
    tmp_path: Path, limit_usd: float, calls: int
) -> None:
    proposer = proposer_of(f'echo x >> "{tmp_path}/calls"', cost_bound_usd=0.25)
    assert (proposer.cost_bound_usd, proposer.cost_least_usd) == (0.5, 0.25)
    with pytest.raises(ProposalFailed):
        await proposer.propose(replace(brief(), spend_limit_usd=limit_usd), MemoryTree())
    assert (tmp_path / "calls").read_text() == "x\n" * calls


async def test_an_agent_that_hangs_dies_with_its_whole_tree(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    told = f"sh -c 'echo $$ >> \"{pids}\"; exec sleep 600'"
    with pytest.raises(ProposalDeferred, match="after 4 s") as raised:
        await propose(f"echo 'LR = 2' > train.py; setsid {told} & {told}", timeout_seconds=4.0, cost_bound_usd=0.5)
    assert raised.value.cost_usd == 0.5
    assert len(pids.read_text().split()) == 2
    assert not any(psutil.pid_exists(int(pid)) for pid in pids.read_text().split())


async def test_a_cancelled_proposal_leaves_no_process(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    async with anyio.create_task_group() as group:
        group.start_soon(propose, f'echo $$ > "{begun}"; sleep 600')
        with anyio.fail_after(30):
            while not (begun.exists() and begun.read_text()):  # noqa: ASYNC110  # another process tells
                await anyio.sleep(0.01)
        pid = int(begun.read_text())
        assert psutil.pid_exists(pid)
        group.cancel_scope.cancel()
    assert not psutil.pid_exists(pid)


async def test_a_repair_goes_on_from_the_failed_change() -> None:
    failed = Change("more", (Edit("train.py", old="LR = 1", new="LR = 5"), Edit("lib/new.py", content="N = 1\n")))
    repair = Repair(failed, Reason.EXIT, "boom")
    proposal = await propose('echo "# ok" >> train.py; tail -2 "$AUTORESEARCH_PROMPT" > note', repair)
    assert Edit("train.py", content="LR = 5\n# ok\n") in proposal.change.edits
    assert Edit("lib/new.py", content="N = 1\n") in proposal.change.edits
    assert Edit("note", content="\nYour earlier change is in this folder already: go on from it.\n") in (
        proposal.change.edits
    )
    with pytest.raises(ProposalFailed, match="changed nothing"):
        await propose("true", repair)


@pytest.mark.parametrize("path", ["../out.py", ".git/config", "/etc/x", "a/../../out.py"])
async def test_a_repair_never_writes_outside_the_worktree(path: str) -> None:
    repair = Repair(Change("more", (Edit(path, content="x"),)), Reason.EXIT, "boom")
    proposal = await propose("ls .. > /dev/null; git config --get x.y; echo 'LR = 2' > train.py", repair)
    assert proposal.change.edits == (Edit("train.py", content="LR = 2\n"),)


async def test_a_repair_that_no_longer_applies_starts_from_the_parent() -> None:
    repair = Repair(Change("more", (Edit("train.py", old="gone", new="x"),)), Reason.CONFLICT, "moved")
    proposal = await propose("echo '# ok' >> train.py", repair)
    assert proposal.change.edits == (Edit("train.py", content="LR = 1\n# ok\n"),)


async def test_proposals_run_side_by_side() -> None:
    """Each waits for the other: one after the other they would hang."""
    with tempfile.TemporaryDirectory() as folder:
        proposer = proposer_of(
            f'mktemp "{folder}/XXXXXX"; until [ $(ls "{folder}" | wc -l) = 2 ]; do sleep 0.02; done; rm train.py'
        )
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(proposer.propose, brief(), MemoryTree())


async def test_a_worktree_of_the_run_shields_the_users_repository(tmp_path: Path) -> None:
    """With real git: commits, branches and settings of the agent stay out of the user's repository."""
    user = tmp_path / "user"
    user.mkdir()
    for path, text in FILES.items():
        (user / path).write_text(text)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "base"]):
        await anyio.run_process(["git", *words], cwd=user)
    checkout = await inspect(user)
    config = (user / ".git/config").read_bytes()
    base = (await anyio.run_process(["git", "rev-parse", "HEAD"], cwd=user)).stdout.decode().strip()
    agent = f"git config core.hooksPath mine; git {' '.join(who)} commit --allow-empty -qm x; git branch mine"
    async with GitRepository(checkout, resolve(["train.py"], FILES), "t", tmp_path / "cache") as repository:
        proposer = CommandProposer(f"{agent}; echo 'LR = 2' > train.py", repository, build_prompt, timeout_seconds=20)
        proposal = await proposer.propose(brief(), repository.tree(base))
        linked = CommandProposer("ln -s /etc/passwd out", repository, build_prompt, timeout_seconds=20)
        with pytest.raises(ProposalFailed, match="out"):
            await linked.propose(brief(), repository.tree(base))
    assert {edit.path for edit in proposal.change.edits} == {"train.py"}
    assert (user / ".git/config").read_bytes() == config
    assert (user / "train.py").read_text() == FILES["train.py"]
    assert b"mine" not in (await anyio.run_process(["git", "branch", "-a"], cwd=user)).stdout


def nowhere(program: str) -> str | None:
    return None


def somewhere(program: str) -> str | None:
    return f"/opt/{program}"


@pytest.mark.parametrize("agent", ["claude-code", "codex", "gemini", "opencode"])
def test_a_known_agent_is_found_on_path_or_says_what_to_install(agent: str) -> None:
    words = command_of(agent, environment={}, find=somewhere)
    assert words[0].startswith("/opt/")
    with pytest.raises(UsageError, match="install"):
        command_of(agent, environment={}, find=nowhere)


@pytest.mark.parametrize(("key", "bare"), [({}, False), ({"ANTHROPIC_API_KEY": "k"}, True)])
def test_claude_code_is_capped_and_uses_the_subscription_where_there_is_no_key(
    key: Mapping[str, str], bare: bool
) -> None:
    words = command_of("claude-code", 0.2, environment=key, find=somewhere)
    assert words[-2:] == ("--max-budget-usd", "0.2")
    assert ("--bare" in words) is bare


def test_other_words_are_a_shell_command() -> None:
    assert command_of("./edit.sh | tee log", environment={}, find=nowhere) == "./edit.sh | tee log"
    assert command_of("cd tools && ./edit", environment={}, find=nowhere) == "cd tools && ./edit"
    with pytest.raises(UsageError, match="no `claud` on PATH; known agents are claude-code"):
        command_of("claud -p fix", environment={}, find=nowhere)
    with pytest.raises(UsageError):
        command_of("  ", environment={})


@pytest.mark.parametrize(
    ("agent", "agent_cost", "max_cost", "bound"),
    [
        ("claude-code", None, 10.0, 0.5),
        ("claude-code", 0.2, 10.0, 0.2),
        ("claude -p x --max-budget-usd 2.5", None, 10.0, 2.5),
        ("./mine", 0.0, 10.0, 0.0),
        ("./mine", None, None, 0.0),
        ("./mine", None, float("inf"), 0.0),
    ],
)
def test_a_call_is_bounded(agent: str, agent_cost: float | None, max_cost: float | None, bound: float) -> None:
    assert cost_bound(agent, agent_cost, max_cost) == bound


def test_a_ceiling_without_a_bound_is_refused() -> None:
    with pytest.raises(UsageError, match="--agent-cost"):
        cost_bound("codex", None, 10.0)


@pytest.mark.parametrize(
    ("stdout", "line"),
    [
        ("first\nsecond\n", "first"),
        ("first\n- hypothesis: **named**\nhypothesis: later\n", "named"),
        ('{"item": {"type": "agent_message", "text": "Did it.\\nhypothesis: lower"}}\n', "lower"),
        ('{"item": {"type": "reasoning", "text": "hmm"}}\n{"part": {"type": "text", "text": "go"}}\n', "go"),
        ('{"response": "from gemini", "stats": {}}', "from gemini"),
        ('[{"type": "system"}, {"type": "result", "result": "in a list"}]', "in a list"),
        ('{"type": "thread.started"}\n', "edit a.py"),
        ("", "edit a.py"),
        ("\x1b[1mbold\tthing\x1b[0m", "[1mbold thing [0m"),
        ("x" * 500, "x" * 199 + "…"),
    ],
)
def test_the_hypothesis_is_one_short_line(stdout: str, line: str) -> None:
    assert hypothesis(stdout, Said.read(stdout), (Edit("a.py", delete=True),)) == line


@pytest.mark.parametrize("cost", ["NaN", "-1", '"3"', "true", "1e999", "null", "[]"])
def test_a_cost_that_is_none_is_not_believed(cost: str) -> None:
    assert (
        Said.read(f'{{"result": "x", "total_cost_usd": {cost}, "usage": {{"input_tokens": {cost}}}}}').cost_usd is None
    )


def test_a_wait_is_read_from_the_message() -> None:
    assert retry_after_seconds("429, retry after 30 seconds", 0.0) == 30.0
    assert retry_after_seconds("usage limit reached|1700000060", 1_700_000_000.0) == 60.0
    assert retry_after_seconds("overloaded", 0.0) is None
