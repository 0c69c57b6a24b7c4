"""Proposes what a program makes of a worktree: a coding agent, or any command that edits files."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anyio import to_thread

from autoresearch.brief import Brief
from autoresearch.edits import apply_edits
from autoresearch.errors import ChangeRejected, ProposalDeferred, ProposalFailed, ProposerLost, SlotLost
from autoresearch.proposers.agents import Said, hopeless_named, hypothesis, limit_named, retry_after_seconds
from autoresearch.protocols import EditWorktrees, Tree
from autoresearch.sandbox import Execution, execute
from autoresearch.trial import Change, Edit, Proposal, Reply, Trial, Usage

_OUTPUT_BYTES = 4 << 20
_STORED_CHARS = 100_000
_WITHHELD = (
    # Set in a git hook: they would lead the agent's git to the user's repository.
    "GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_CONFIG",
    # Claude Code refuses to start inside of itself.
    "CLAUDECODE",
)  # fmt: skip
_SENT_BACK = "\n\nYour answer was of no use: {why}. Make one change by editing files in this folder.\n"
_CONTINUED = "\n\nYour earlier change is in this folder already: go on from it.\n"


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of the program, and what it left."""

    execution: Execution
    stdout: str
    stderr: str


class CommandProposer:
    """Runs a program in a worktree of the parent; the change is what its files differ in, whatever HEAD says.

    The prompt comes on stdin and in the file named by AUTORESEARCH_PROMPT. The program has the user's environment and
    network, and dies with all its processes at its end, at the timeout and when the proposal is cancelled.
    """

    repairs = True
    ordered = False

    def __init__(
        self,
        command: str | Sequence[str],
        worktrees: EditWorktrees,
        build_prompt: Callable[[Brief, Tree], Awaitable[str]],
        *,
        timeout_seconds: float,
        cost_bound_usd: float = 0.0,
        name: str = "command",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`command` is a shell command or the words of one; `name` is shown as the model's; `environment` replaces
        the coordinator's. A call that does not say what it cost has cost `cost_bound_usd`; a proposal is two calls
        at most."""
        self.cost_bound_usd = 2 * cost_bound_usd  # a useless answer is sent back once
        self.cost_least_usd = self._call_usd = cost_bound_usd
        self._command = command
        self._worktrees = worktrees
        self._build_prompt = build_prompt
        self._timeout_seconds = timeout_seconds
        self._name = name
        self._environment = _environment(os.environ if environment is None else environment)

    async def propose(self, brief: Brief, tree: Tree) -> Proposal:
        prompt = await self._build_prompt(brief, tree)
        try:
            return await self._ask(brief, tree, prompt)
        except ProposalFailed as error:
            useless = error
        spent = useless.reply.usage if useless.reply else Usage()
        if brief.spend_limit_usd is not None and spent.cost_usd + self._call_usd > brief.spend_limit_usd:
            raise useless
        try:
            proposal = await self._ask(brief, tree, prompt + _SENT_BACK.format(why=useless.why))
        except ProposalFailed as error:
            raise ProposalFailed(error.why, error.reply and _with(error.reply, spent)) from error
        except ProposalDeferred as error:
            raise ProposalDeferred(error.why, error.retry_after_seconds, error.cost_usd + spent.cost_usd) from error
        return replace(proposal, reply=_with(proposal.reply, spent))

    def tell(self, trial: Trial) -> None:
        """Nothing to learn: the prompt holds the history."""

    async def _ask(self, brief: Brief, tree: Tree, prompt: str) -> Proposal:
        async with self._worktrees.checkout(tree.commit) as worktree:
            before: tuple[Edit, ...] = ()
            if brief.repair is not None and await to_thread.run_sync(_redo, worktree, brief.repair.change.edits):
                before = await self._worktrees.difference(worktree, tree.commit)
                prompt += _CONTINUED
            run = await self._run(worktree, prompt)
            said = Said.read(run.stdout)
            reply = self._reply(run, said, prompt)
            if run.execution.timed_out:
                why = f"the agent was stopped after {self._timeout_seconds:g} s (--agent-timeout)"
                raise ProposalDeferred(why, cost_usd=reply.usage.cost_usd)
            try:
                edits = await self._worktrees.difference(worktree, tree.commit)
            except ChangeRejected as error:
                raise ProposalFailed(f"the agent left {error}", reply) from error
        if not edits or edits == before:
            raise _no_change(run, said, reply)
        return Proposal(Change(hypothesis(run.stdout, said, edits), edits), reply)

    async def _run(self, worktree: Path, prompt: str) -> _Run:
        """Raises ProposalDeferred where the machine could not run it."""
        text = prompt.encode("utf-8", "replace")
        with tempfile.TemporaryDirectory(prefix="autoresearch-agent-", ignore_cleanup_errors=True) as folder:
            asked, stdout, stderr = (Path(folder) / name for name in ("prompt.md", "stdout", "stderr"))
            await to_thread.run_sync(asked.write_bytes, text)
            try:
                execution = await execute(
                    self._command,
                    cwd=worktree,
                    env={**self._environment, "AUTORESEARCH_PROMPT": str(asked)},
                    timeout_seconds=self._timeout_seconds,
                    stdout=stdout,
                    stderr=stderr,
                    limit_bytes=_OUTPUT_BYTES,
                    stdin=text,
                )
            except SlotLost as error:
                raise ProposalDeferred(f"the agent could not be run: {error}") from error
            return _Run(execution, await to_thread.run_sync(_read, stdout), await to_thread.run_sync(_read, stderr))

    def _reply(self, run: _Run, said: Said, prompt: str) -> Reply:
        cost = self._call_usd if said.cost_usd is None else said.cost_usd
        usage = replace(said.usage, cost_usd=cost, seconds=run.execution.wall_seconds)
        text = run.stdout if run.stdout.strip() else run.stderr
        return Reply(text=text[-_STORED_CHARS:], prompt=(prompt,), model=self._name, usage=usage)


def _with(reply: Reply, spent: Usage) -> Reply:
    """The reply, and what was spent before it."""
    return replace(reply, usage=spent + reply.usage)


def _no_change(run: _Run, said: Said, reply: Reply) -> Exception:
    """Why there is no change: not now, never, or the agent's own fault."""
    code = run.execution.exit_code
    if line := limit_named(said, run.stderr, failed=code != 0):
        # Charging the bound for each refusal would use up the budget overnight.
        return ProposalDeferred(line, retry_after_seconds(line, time.time()), said.cost_usd or 0.0)
    if line := hopeless_named(said, run.stderr, failed=code != 0):
        return ProposerLost(f"the agent says: {line}")
    last = next((line.strip() for line in reversed(run.stderr.splitlines()) if line.strip()), "")[:200]
    if code in (126, 127):
        return ProposerLost(f"the agent's command cannot be run (exit {code}): {last}")
    if said.errors:
        return ProposalFailed(f"the agent reported an error: {said.errors[0][:200]}", reply)
    if code != 0:
        return ProposalFailed(f"the agent ended with exit {code} and changed nothing: {last}", reply)
    return ProposalFailed("the agent changed nothing", reply)


def _environment(user: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in user.items() if name not in _WITHHELD}
    return {**kept, "HUSKY": "0", "LEFTHOOK": "0", "GIT_TERMINAL_PROMPT": "0"}


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace") if path.exists() else ""


def _redo(worktree: Path, edits: Sequence[Edit]) -> bool:
    """Make an earlier change's edits in the worktree, all or none; whether they were made."""
    root = worktree.resolve()
    paths = {edit.path: root / edit.path for edit in edits}
    if any(_leaves(root, path) for path in paths.values()):
        return False
    try:
        changed = apply_edits(
            edits, {name: path.read_bytes() if path.is_file() else None for name, path in paths.items()}
        )
        for name, data in changed.items():
            if data is None:
                paths[name].unlink(missing_ok=True)
            else:
                paths[name].parent.mkdir(parents=True, exist_ok=True)
                paths[name].write_bytes(data)
    except (ChangeRejected, OSError):
        return False
    return True


def _leaves(root: Path, path: Path) -> bool:
    """Whether a path leads out of the worktree, through a link, or into git's own files."""
    return path.resolve() != path or root not in path.parents or ".git" in path.relative_to(root).parts
