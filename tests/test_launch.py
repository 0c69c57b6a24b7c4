"""Runs in this process: real git, real processes, a console that remembers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch import demo, history, launch
from autoresearch.config import RunConfig
from autoresearch.errors import BaselineFailed, UsageError
from autoresearch.testing import FakeProposer, MemoryConsole
from autoresearch.trial import Change, Edit, Outcome

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "x.txt").write_text("LOSS = 100\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-q", "-m", "first")
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


CONFIG = RunConfig(objective="minimize loss", measure="cat x.txt", scope=("x.txt",), workers=2, max_trials=3)
SHORT = replace(CONFIG, max_trials=1, repeats=1)


def smaller() -> FakeProposer:
    def choose(brief: object, files: object) -> Change:
        number = brief.trial  # type: ignore[attr-defined]
        return Change(f"loss {100 - number}", (Edit("x.txt", content=f"LOSS = {100 - number}\n"),))

    return FakeProposer(choose)


async def test_a_run_asks_one_question_and_leaves_a_summary(checkout: Path) -> None:
    console = MemoryConsole(["y"])
    assert await launch.run(CONFIG, folder=checkout, console=console, proposer=smaller()) == 0
    assert len(console.asked) == len(console.plans) == 1
    assert console.closed
    rows = dict(console.plans[0].rows)
    assert rows["Scope"] == "1 file: x.txt"
    assert rows["Canary"] == "noticed (no metric)"
    assert rows["Stops"] == "after 3 trials"
    assert "Experiments run: 3\n" in console.summaries[0]
    tag = history.runs(checkout)[0].tag
    assert git(checkout, "show", f"autoresearch/{tag}:x.txt") == "LOSS = 97\n"
    assert git(checkout, "status", "--porcelain") == ""


async def test_a_limit_below_what_has_begun_is_refused(checkout: Path) -> None:
    config = replace(CONFIG, tag="t", repeats=1)
    await launch.run(config, folder=checkout, console=MemoryConsole(["y"]), proposer=smaller())
    with pytest.raises(UsageError, match="--max-trials 2: 3 trials of this run have begun; name at least 3"):
        await launch.resume("t", {"max_trials": 2}, folder=checkout, console=MemoryConsole())


async def test_resume_of_a_run_that_reached_its_limit_says_so(checkout: Path) -> None:
    await launch.run(replace(SHORT, tag="t"), folder=checkout, console=MemoryConsole(["y"]), proposer=smaller())
    console = MemoryConsole()
    assert await launch.resume("t", {"proposer": "mutate"}, folder=checkout, console=console) == 0
    assert "No trial was left to run (--max-trials reached): name a higher limit to go on." in console.said


async def test_without_anybody_to_ask_nothing_is_measured(checkout: Path, cache: Path) -> None:
    config = replace(CONFIG, measure=f"touch {cache.parent}/measured; cat x.txt")
    with pytest.raises(UsageError, match="--yes"):
        await launch.run(config, folder=checkout, console=MemoryConsole(), proposer=smaller())
    assert "measured" not in {path.name for path in files_below(cache.parent)}


async def test_a_direction_that_the_words_do_not_tell_is_asked_for(checkout: Path) -> None:
    config = replace(SHORT, objective="the loss")
    console = MemoryConsole(["less", "min", "y"])
    assert await launch.run(config, folder=checkout, console=console, proposer=smaller()) == 0
    assert console.asked[0] == "the loss: minimize or maximize? "
    assert dict(console.plans[0].rows)["Metric"].startswith("LOSS, minimize")
    assert "Best metric: 99 (" in console.summaries[0]


async def test_with_yes_a_direction_has_to_be_given(checkout: Path) -> None:
    config = replace(CONFIG, objective="the loss", yes=True)
    with pytest.raises(UsageError, match="--minimize or --maximize"):
        await launch.run(config, folder=checkout, console=MemoryConsole(["min"]), proposer=smaller())
    with pytest.raises(UsageError, match="--minimize or --maximize"):
        await launch.check(config, folder=checkout, console=MemoryConsole())
    assert git(checkout, "for-each-ref", "--format=%(refname)") == "refs/heads/main\n"


async def test_a_no_leaves_nothing_behind(checkout: Path, cache: Path) -> None:
    with pytest.raises(UsageError, match="not started"):
        await launch.run(CONFIG, folder=checkout, console=MemoryConsole(["n"]), proposer=smaller())
    assert git(checkout, "for-each-ref", "--format=%(refname)") == "refs/heads/main\n"
    assert not (checkout / ".autoresearch").exists()
    assert files_below(cache) == []


async def test_an_ended_run_is_extended_by_resume(checkout: Path) -> None:
    config = replace(SHORT, yes=True, proposer="mutate")
    console = MemoryConsole()
    assert await launch.run(config, folder=checkout, console=console) == 0
    assert await launch.resume(None, {"max_trials": 3}, folder=checkout, console=console) == 0
    assert "Experiments run: 3\n" in console.summaries[1]
    (run,) = history.runs(checkout)
    assert [trial.number for trial in history.trials(run.run_dir)].count(0) == 1
    assert sorted(trial.number for trial in history.trials(run.run_dir)) == list(range(4))


async def test_a_dirty_file_is_shown_and_not_part_of_the_run(checkout: Path) -> None:
    (checkout / "x.txt").write_text("LOSS = 1\n")
    console = MemoryConsole(["y"])
    await launch.run(SHORT, folder=checkout, console=console, proposer=smaller())
    assert "not committed, so not part of the run: x.txt" in console.plans[0].notes
    assert "Baseline metric: 100\n" in console.summaries[0]
    assert (checkout / "x.txt").read_text() == "LOSS = 1\n"


async def test_check_measures_and_leaves_nothing(checkout: Path) -> None:
    console = MemoryConsole()
    assert await launch.check(CONFIG, folder=checkout, console=console) == 0
    rows = dict(console.plans[0].rows)
    assert rows["Baseline"] == "100, measured 3 times, all equal"
    assert rows["Proposer"].startswith("no proposer: set ANTHROPIC_API_KEY")
    assert git(checkout, "for-each-ref", "--format=%(refname)") == "refs/heads/main\n"
    assert not (checkout / ".autoresearch").exists()


async def test_clean_removes_everything_but_the_branch(checkout: Path, cache: Path) -> None:
    console = MemoryConsole(["y"])
    await launch.run(SHORT, folder=checkout, console=console, proposer=smaller())
    (run,) = history.runs(checkout)
    assert await launch.clean(None, False, folder=checkout, console=console) == 0
    refs = git(checkout, "for-each-ref", "--format=%(refname)").split()
    assert refs == [f"refs/heads/autoresearch/{run.tag}", "refs/heads/main"]
    assert not run.run_dir.exists()
    assert files_below(cache) == []


async def test_diff_shows_what_a_trial_changed(checkout: Path) -> None:
    await launch.run(SHORT, folder=checkout, console=MemoryConsole(["y"]), proposer=smaller())
    assert "+LOSS = 99\n" in await launch.diff(1, None, folder=checkout)
    assert await launch.diff(0, None, folder=checkout) == ""


async def test_the_demo_improves_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    console = MemoryConsole()
    assert await demo.demo(RunConfig(max_trials=10), console=console) == 0
    (database,) = (path for path in files_below(tmp_path) if path.name == "run.db")
    (run,) = history.runs(database.parents[2])
    kept = [trial for trial in history.trials(run.run_dir) if trial.number and trial.outcome is Outcome.KEEP]
    assert kept
    assert "Experiments run: 10\n" in console.summaries[0]


async def test_memory_bounds_the_default_number_of_workers(checkout: Path) -> None:
    measure = f"{sys.executable} -c 'print(open(\"x.txt\").read())'"
    config = RunConfig(objective="minimize loss", measure=measure, scope=("x.txt",), max_trials=1, workers=1, repeats=1)
    console = MemoryConsole(["y"])
    await launch.run(config, folder=checkout, console=console, proposer=smaller())
    assert dict(console.plans[0].rows)["Workers"].startswith("1, ")


async def test_a_baseline_that_fails_names_what_was_withheld(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "x")
    config = replace(SHORT, measure='test -n "$DEPLOY_TOKEN" && cat x.txt', yes=True)
    with pytest.raises(BaselineFailed, match=r"withheld from it.*DEPLOY_TOKEN.*--env"):
        await launch.run(config, folder=checkout, console=MemoryConsole(), proposer=smaller())
    passed = replace(config, env=("DEPLOY_TOKEN",))
    assert await launch.run(passed, folder=checkout, console=MemoryConsole(), proposer=smaller()) == 0
