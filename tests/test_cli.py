from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

import autoresearch
from autoresearch import cli, views
from autoresearch.config import RunConfig
from autoresearch.errors import NoSlotLeft, UsageError
from autoresearch.events import Approved, Began, Ended, Stamped
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.store import SQLiteStore
from autoresearch.trial import Edit, Outcome, Reason, Trial


class FakeLaunch:
    """Stands where runs are started; remembers what it was asked, and raises or returns what it was told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.result: int | BaseException = 0

    async def run(self, config: RunConfig, *, folder: Path, console: object) -> int:
        return self._answer("run", config, folder, console)

    async def check(self, config: RunConfig, *, folder: Path, console: object) -> int:
        return self._answer("check", config, folder, console)

    async def demo(self, config: RunConfig, *, console: object) -> int:
        return self._answer("demo", config, console)

    async def resume(self, tag: str | None, changes: Mapping[str, Any], *, folder: Path, console: object) -> int:
        return self._answer("resume", tag, changes)

    async def clean(self, tag: str | None, every: bool, *, folder: Path, console: object) -> int:
        return self._answer("clean", tag, every)

    async def diff(self, trial: int, tag: str | None, *, folder: Path) -> str:
        self._answer("diff", trial, tag)
        return "-old\n+new\n"

    def _answer(self, *asked: Any) -> int:
        self.asked.append(asked)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeLaunch:
    """A fake of everything below the command line, in an empty repository."""
    fake = FakeLaunch()
    consoles = {f"{kind}Console": lambda kind=kind, **how: (kind, how) for kind in ("Json", "Plain", "Live")}
    seen = SimpleNamespace(**consoles)
    fakes = (autoresearch, "launch", fake), (autoresearch, "demo", fake), (views, "console", seen)
    for package, name, module in fakes:
        monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", module)
        monkeypatch.setattr(package, name, module, raising=False)
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return fake


WHOLE = ["minimize x", "pytest -q", "src/"]


def test_words_and_flags_become_the_settings_of_a_run(launch: FakeLaunch, tmp_path: Path) -> None:
    assert cli.main(["-w", "2", *WHOLE, "tests/", "--minimize"]) == 0
    ((command, config, folder, console),) = launch.asked
    assert (command, folder) == ("run", tmp_path)
    assert config == RunConfig(
        objective="minimize x",
        measure="pytest -q",
        scope=("src/", "tests/"),
        workers=2,
        direction=Direction.MINIMIZE,
    )
    assert console == ("Plain", {"quiet": False, "verbose": False})


def test_a_file_gives_what_the_command_line_does_not(launch: FakeLaunch, tmp_path: Path) -> None:
    (tmp_path / "autoresearch.toml").write_text('objective = "min x"\nmeasure = "m"\nscope = "a b"\nworkers = 3\n')
    assert cli.main(["--workers", "8", "--json"]) == 0
    ((_, config, _, console),) = launch.asked
    assert (config.objective, config.scope, config.workers) == ("min x", ("a b",), 8)
    assert console == ("Json", {})


def test_a_run_that_takes_its_words_from_a_file_starts_beside_it(
    launch: FakeLaunch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "autoresearch.toml").write_text('objective = "min x"\nmeasure = "m"\nscope = "a"\n')
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert cli.main([]) == 0
    assert cli.main(WHOLE) == 0
    assert [asked[2] for asked in launch.asked] == [tmp_path, tmp_path / "sub"]


def test_other_commands_are_handed_on(launch: FakeLaunch, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", *WHOLE]) == 0
    assert cli.main(["demo", "--workers", "2"]) == 0
    assert cli.main(["resume", "nov22", "--max-trials", "50", "--max-cost", "none"]) == 0
    assert cli.main(["clean", "--all"]) == 0
    assert cli.main(["diff", "7", "--tag", "nov22"]) == 0
    assert [asked[0] for asked in launch.asked] == ["check", "demo", "resume", "clean", "diff"]
    assert launch.asked[2] == ("resume", "nov22", {"max_trials": 50, "max_cost": float("inf")})
    assert launch.asked[3:] == [("clean", None, True), ("diff", 7, "nov22")]
    assert capsys.readouterr().out == "-old\n+new\n"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "OBJECTIVE is missing"),
        (["minimize x"], "MEASURE is missing: the command that prints the number\nSCOPE is missing"),
        (["minimize x", "pytest -q"], "SCOPE is missing: the files that may be edited\ngive it as in\n  autoresearch "),
        (["run", *WHOLE], "leave the word `run` out"),
        (["chekc"], "unknown command chekc; did you mean `check`?"),
        (["minimize x", "npm", "run", "build"], "MEASURE is `npm` and SCOPE begins with `run`, which does not exist"),
        ([*WHOLE, "--max-time", "5x"], "--max-time: `5x` is not a duration; write 300, 90s, 5m, 1h or 1h30m\n"),
        ([*WHOLE, "--lessons", "5"], "--lessons: not available yet\n"),
        ([*WHOLE, "--sandbox", "auto"], "--sandbox: not available yet\n"),
        ([*WHOLE, "--wrokers", "2"], "unknown option --wrokers; did you mean `--workers`?\n"),
        (["minimize x", "pytest -q", ""], "SCOPE: it is empty\n"),
        (["report"], "report: not available yet\n"),
        (["resume", "--metric", "x"], "--metric: a run that goes on keeps its own; start a new run for another\n"),
        (["clean", "nov22", "--all"], "clean takes a TAG or --all, not both\n"),
        (["diff", "first"], "TRIAL is a number, not `first`"),
        (["log", "--status", "good"], "there is no run in"),
        (["status"], "there is no run in"),
    ],
)
def test_a_mistake_exits_2_with_one_clear_message(
    launch: FakeLaunch, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"error: {said}")
    assert len(err.splitlines()) <= 12 and not out and not launch.asked


def test_a_measure_of_one_word_is_fine_where_the_scope_exists(launch: FakeLaunch, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert cli.main(["minimize x", "./bench", "a b"]) == 0
    assert cli.main(["minimize x", "./bench", "**/*.py"]) == 0


@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        (0, 0, ""),
        (130, 130, ""),
        (UsageError("no commit yet"), 2, "error: no commit yet\n"),
        (NoSlotLeft("the disk is full"), 1, "error: the disk is full\n"),
        (ExceptionGroup("", [ExceptionGroup("", [UsageError("no key")])]), 2, "error: no key\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: [Errno 28] No space left on device\n"),
        (KeyboardInterrupt(), 130, ""),
        (BaseExceptionGroup("", [KeyboardInterrupt(), NoSlotLeft("gone")]), 130, ""),
        (UsageError("\n".join("many lines")), 2, "error: m\n"),
    ],
)
def test_how_a_run_ends_is_the_exit_code(
    launch: FakeLaunch, capsys: pytest.CaptureFixture[str], result: int | BaseException, code: int, said: str
) -> None:
    launch.result = result
    assert cli.main(WHOLE) == code
    err = capsys.readouterr().err
    assert err.startswith(said) and bool(err) == bool(said)
    assert len(err.splitlines()) <= 12


def test_what_nobody_expected_is_one_line_and_a_file(
    launch: FakeLaunch, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    launch.result = ExceptionGroup("", [ZeroDivisionError("division by zero\nand more")])
    assert cli.main(WHOLE) == 1
    (details,) = tmp_path.glob("autoresearch-*.txt")
    assert capsys.readouterr().err == f"internal error: ZeroDivisionError: division by zero (details in {details})\n"
    assert "Traceback" in details.read_text()


def test_init_writes_once(launch: FakeLaunch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.py").touch()
    assert cli.main(["init"]) == 0
    written = (tmp_path / "autoresearch.toml").read_text()
    assert 'scope = ["train.py"]' in written
    assert cli.main(["init"]) == 2
    assert "is here already" in capsys.readouterr().err
    assert (tmp_path / "autoresearch.toml").read_text() == written
    assert cli.main(["--max-trials", "1"]) == 0


def test_help_and_version_are_no_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert cli.main(["resume", "--help"]) == 0
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.endswith("autoresearch 0.1.0\n")


@pytest.fixture
def run_of_two(launch: FakeLaunch, tmp_path: Path) -> Path:
    """A checkout with an ended run called `nov22`: the baseline and one trial."""

    async def write() -> None:
        async with SQLiteStore.open(tmp_path / ".autoresearch" / "nov22") as store:
            await store.append(Stamped(1.0, Began({"objective": "minimize x"}, "ba5e", "7ree")))
            reader = Reader(ReaderKind.NAME, "x")
            await store.append(Stamped(1.5, Approved(Metric("x", Direction.MINIMIZE, reader))))
            await store.record(Trial(0, Outcome.KEEP, Reason.BASELINE, "baseline", value=2.0, n=3))
            edits = (Edit("a.py", old="1", new="2"),)
            await store.record(
                Trial(1, Outcome.DISCARD, Reason.WORSE, "try two", 0, edits=edits, commit="c0", value=3.0)
            )
            await store.append(Stamped(2.0, Ended("all 1 trials ended")))

    anyio.run(write)
    return tmp_path


def test_a_run_can_be_looked_at(run_of_two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status"]) == 0
    assert "Experiments run: 1\n" in capsys.readouterr().out
    assert cli.main(["status", "nov22", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["discarded"] == 1
    assert cli.main(["log"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["trial", "0", "1"]
    assert cli.main(["log", "--json", "--status", "discard", "--reason", "worse"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["trial"], line["edits"]) == (1, [{"path": "a.py", "old": "1", "new": "2"}])
    assert cli.main(["show", "1"]) == 0
    shown = capsys.readouterr().out
    assert "try two" in shown and "+new" in shown


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["log", "--status", "good"], "--status: `good` is not one of keep, discard, crash\n"),
        (["log", "--reason", "bad"], "--reason: `bad` is not one of baseline, improved, "),
        (["log", "mar26"], "there is no run called mar26"),
        (["show", "5"], "there is no trial 5 in the run nov22"),
    ],
)
def test_looking_for_what_is_not_there(
    run_of_two: Path, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    assert cli.main(argv) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


@pytest.mark.parametrize("argv", [["--help"], ["status"], ["log"]], ids=str)
def test_looking_does_not_import_what_running_needs(argv: list[str], run_of_two: Path) -> None:
    slow = "{'anyio', 'rich', 'git', 'aiosqlite', 'anthropic', 'pydantic'}"
    code = (
        f"import sys; from autoresearch.cli import main; assert main({argv}) == 0; assert not {slow} & set(sys.modules)"
    )
    ended = python("-c", code, folder=run_of_two)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("argv", ["--help", "init"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_early_is_no_error(argv: str, unbuffered: str, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as pipe:
        ended = python("-m", "autoresearch", argv, folder=tmp_path, stdout=pipe, PYTHONUNBUFFERED=unbuffered)
    assert (ended.returncode, ended.stderr) == (0, b"")


def python(
    *arguments: str, folder: Path, stdout: Any = subprocess.PIPE, **more: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a fresh interpreter that finds the package, in a folder."""
    env = {**os.environ, "PYTHONPATH": str(Path(autoresearch.__file__).parent.parent), **more}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=env, stdout=stdout, stderr=subprocess.PIPE, check=False
    )
