"""One process of a run: how it ends where it cannot go on, and what signals do to it."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from autoresearch import history, launch
from autoresearch.brief import Brief
from autoresearch.config import RunConfig
from autoresearch.errors import NoSlotLeft, ProposerLost, UsageError
from autoresearch.protocols import Tree
from autoresearch.testing import FakeProposer, MemoryConsole
from autoresearch.trial import Change, Edit, Proposal

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "x.txt").write_text("LOSS = 100\n")
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *words], cwd=folder, check=True)
    return folder


CONFIG = RunConfig(
    objective="minimize loss", measure="cat x.txt", scope=("x.txt",), workers=1, max_trials=3, yes=True, tag="t"
)


class Failing:
    """A proposer whose server will never answer."""

    repairs = False
    ordered = False
    cost_bound_usd = cost_least_usd = 0.0

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def propose(self, brief: Brief, tree: Tree) -> Proposal:
        raise self._error

    def tell(self, trial: object) -> None:
        return None


def put(number: int) -> Change:
    return Change(f"loss {number}", (Edit("x.txt", content=f"LOSS = {number}\n"),))


async def test_a_run_that_cannot_go_on_says_why_as_itself_and_in_the_summary(checkout: Path) -> None:
    console = MemoryConsole()
    with pytest.raises(ProposerLost, match="no credit"):
        await launch.run(CONFIG, folder=checkout, console=console, proposer=Failing(ProposerLost("no credit")))
    assert "Stopped: no credit\n" in console.summaries[0]
    (run,) = history.runs(checkout)
    assert history.read_run(run.run_dir).stop_reason == "no credit"
    assert await launch.resume(None, {"proposer": "mutate"}, folder=checkout, console=console) == 0
    assert "Experiments run: 3\n" in console.summaries[1]


async def test_a_run_whose_last_slot_is_lost_says_so_in_the_summary(checkout: Path, tmp_path: Path) -> None:
    """The first candidate's measurement takes the slot's folder away, twice."""
    states = tmp_path / "cache" / "autoresearch-worktrees"
    slots = f'"{states}"/*/t/slots/slot-0'
    lose = f'cat x.txt; grep -q 100 x.txt || for slot in {slots}; do rm -r "$slot"; touch "$slot"; done'
    console = MemoryConsole()
    with pytest.raises(NoSlotLeft):
        await launch.run(
            replace(CONFIG, measure=lose, metric="LOSS", canary=False),
            folder=checkout,
            console=console,
            proposer=FakeProposer(lambda brief, files: put(99 - brief.trial)),
        )
    assert "Stopped: no slot left: " in console.summaries[0]


async def test_a_no_is_said_as_it_is(checkout: Path) -> None:
    config = replace(CONFIG, yes=False)
    with pytest.raises(UsageError, match="not started"):
        await launch.run(config, folder=checkout, console=MemoryConsole(["n"]), proposer=Failing(ProposerLost("")))


async def test_an_unexpected_error_keeps_its_group(checkout: Path) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        await launch.run(CONFIG, folder=checkout, console=MemoryConsole(), proposer=Failing(ZeroDivisionError()))
    assert caught.group_contains(ZeroDivisionError)


async def test_two_signals_at_once_stop_at_once(checkout: Path) -> None:
    """The second comes before the first was taken in."""

    def twice(brief: Brief, files: object) -> Change:
        if brief.trial == 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return put(99)

    config = replace(CONFIG, measure="grep -q 100 x.txt || sleep 60; cat x.txt", metric="LOSS", canary=False)
    console = MemoryConsole()
    assert await launch.run(config, folder=checkout, console=console, proposer=FakeProposer(twice)) == 130
    assert "Stopped: at once, by a second signal\n" in console.summaries[0]


async def test_a_check_leaves_a_run_that_is_starting_alone(checkout: Path) -> None:
    class Asking(MemoryConsole):
        async def ask(self, question: str) -> str | None:
            assert await launch.check(replace(CONFIG, tag=None), folder=checkout, console=MemoryConsole()) == 0
            return await super().ask(question)

    console = Asking(["y"])
    config = replace(CONFIG, tag=None, yes=False)
    proposer = FakeProposer(lambda brief, files: put(99 - brief.trial))
    assert await launch.run(config, folder=checkout, console=console, proposer=proposer) == 0
    assert "Experiments run: 3\n" in console.summaries[0]


async def test_a_check_that_is_stopped_says_so(checkout: Path) -> None:
    config = replace(CONFIG, measure=f"kill -INT {os.getpid()}; sleep 60")
    console = MemoryConsole()
    assert await launch.check(config, folder=checkout, console=console) == 130
    assert console.plans == []


async def test_resume_spends_nothing_that_nobody_has_bounded(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run needed no bound while it cost nothing; a model that does is not asked before there is one."""
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"hypothesis": "less", "edits": [{"path": "x.txt", "content": "LOSS = 99\\n"}]}\n')
    config = replace(CONFIG, max_trials=None, proposer=f"replay:{lines}")
    assert await launch.run(config, folder=checkout, console=MemoryConsole()) == 0
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-not-used")
    with pytest.raises(UsageError, match="--max-cost"), anyio.fail_after(30):
        await launch.resume(None, {"proposer": "claude"}, folder=checkout, console=MemoryConsole())
