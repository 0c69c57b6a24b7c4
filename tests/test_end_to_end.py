"""Whole runs with real git and real processes: killed, stopped, resumed, extended. Ordered by events, never by time."""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ground import Act, Ground, in_process, kill, picture, until

TAG = ("--tag", "t", "--yes", "--plain")
ONE = (*TAG, "--workers", "1", "--proposers", "1")
BRIEF = (*ONE, "--repeats", "1")
LINES = (
    90,
    95,
    {"hypothesis": "no number", "edits": [{"path": "loss.txt", "content": "oops\n"}]},
    {"hypothesis": "the same again", "edits": [{"path": "loss.txt", "old": "90", "new": "95"}]},
    80,
    {"hypothesis": "not ours", "edits": [{"path": "measure.sh", "content": "echo loss: 0\n"}]},
    {"hypothesis": "not there", "edits": [{"path": "loss.txt", "old": "1000", "new": "1"}]},
    85,
    70,
)
ENDS = (
    ("keep", "baseline", "100.0"),
    ("keep", "improved", "90.0"),
    ("discard", "worse", "95.0"),
    ("crash", "no_metric", "ERR"),
    ("discard", "duplicate", "95.0"),
    ("keep", "improved", "80.0"),
    ("crash", "out_of_scope", "ERR"),
    ("crash", "does_not_apply", "ERR"),
    ("discard", "worse", "85.0"),
    ("keep", "improved", "70.0"),
)
FEW = (90, 95, 80)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


@pytest.fixture
def act(ground: Ground, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Act]:
    with in_process(ground, monkeypatch, capfd) as act:
        yield act


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """The run of LINES that nothing disturbed."""
    return undisturbed(tmp_path_factory, *LINES)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """The run of FEW that nothing disturbed."""
    return undisturbed(tmp_path_factory, *FEW)


def undisturbed(tmp_path_factory: pytest.TempPathFactory, *lines: dict[str, Any] | float) -> Ground:
    ground = Ground(tmp_path_factory.mktemp("undisturbed"))
    done = ground.do(*ground.words, *ONE, "--proposer", ground.replay(*lines))
    assert done.returncode == 0, done.stderr
    return ground


def test_every_end_of_a_trial_is_a_row(unkilled: Ground) -> None:
    assert [(row["status"], row["reason"], row["loss"]) for row in unkilled.rows()] == list(ENDS)
    assert [row["trial"] for row in unkilled.rows()] == [str(number) for number in range(10)]
    assert unkilled.git("show", "autoresearch/t:loss.txt") == "loss: 70\n"
    assert unkilled.git("rev-list", "--count", "main..autoresearch/t") == "3\n"


# Killed.


def test_a_run_that_is_killed_again_and_again_is_the_run_that_was_not(ground: Ground, unkilled: Ground) -> None:
    moments: tuple[Callable[[], bool], ...] = (
        lambda: len(ground.rows()) >= 1,
        lambda: ground.events("Proposed") >= 3,
        lambda: ground.events("Landed") >= 2,
        lambda: len(ground.rows()) >= 8,
        lambda: ground.events("Applied") >= 7,
    )
    process = ground.start(*ground.words, *ONE, "--proposer", ground.replay(*LINES))
    for moment in moments:
        until(moment, process)
        kill(process)
        process = ground.start("resume", "t", "--plain")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.endswith("Take it: git merge autoresearch/t\n")
    assert ground.told() == unkilled.told()
    assert ground.tree() == unkilled.tree()


def test_no_measured_process_survives_its_coordinator(ground: Ground, few: Ground) -> None:
    with ground.held(after=4):
        process = ground.start(*ground.words, *ONE, "--proposer", ground.replay(*FEW))
        until(lambda: ground.started() > 4, process)
        assert len(ground.processes()) > 1
        kill(process)
        until(lambda: not ground.processes())
    assert ground.do("resume").returncode == 0
    assert ground.told() == few.told()


def test_a_start_that_is_killed_before_it_was_agreed_to_left_nothing(ground: Ground, few: Ground) -> None:
    words = (*ground.words, *ONE, "--proposer", ground.replay(*FEW))
    with ground.held():
        process = ground.start(*words)
        until(ground.started, process)
        kill(process)
        until(lambda: not ground.processes())
    assert not [name for name in ground.refs() if "autoresearch" in name]
    assert ground.do("resume", "t").stderr.startswith("error: there is no run in")
    assert ground.git("status", "--porcelain") == ""
    assert ground.do(*words).returncode == 0
    assert ground.told() == few.told()


def test_eight_workers_that_are_killed_lose_and_repeat_nothing(ground: Ground) -> None:
    lines = ground.replay(*range(99, 79, -1))
    words = (*ground.words, *TAG, "--workers", "8", "--max-trials", "12", "--proposer", lines)
    process = ground.start(*words)
    for rows in (3, 7):
        until(lambda rows=rows: len(ground.rows()) >= rows, process)
        kill(process)
        process = ground.start("resume")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "Stopped: --max-trials reached\n" in out
    assert sorted(int(row["trial"]) for row in ground.rows()) == list(range(13))
    best = min(float(row["loss"]) for row in ground.rows() if row["status"] == "keep")
    assert ground.git("show", "autoresearch/t:loss.txt") == f"loss: {best:g}\n"
    assert ground.git("rev-list", "--count", "main..autoresearch/t") == f"{ground.kept()}\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workers", [1, 8])
def test_random_kills(tmp_path: Path, unkilled: Ground, workers: int) -> None:
    dice = random.Random(workers)
    for attempt in range(12):
        (tmp_path / str(attempt)).mkdir()
        ground = Ground(tmp_path / str(attempt))
        words = (*ONE[:-3], str(workers), *ONE[-2:]) if workers == 1 else (*TAG, "--workers", str(workers))
        start = (*ground.words, *words, "--proposer", ground.replay(*LINES))
        process = ground.start(*start)
        while True:
            try:
                process.communicate(timeout=dice.uniform(0.3, 2.5))
                break
            except subprocess.TimeoutExpired:
                kill(process)
                until(lambda ground=ground: not ground.processes())
            begun = ground.events("Approved") > 0
            process = ground.start(*("resume", "--plain") if begun else start)
        assert process.returncode == 0
        assert sorted(int(row["trial"]) for row in ground.rows()) == list(range(10))
        if workers == 1:
            assert (ground.told(), ground.tree()) == (unkilled.told(), unkilled.tree())


# Twice, and again.


def test_a_run_has_one_coordinator(ground: Ground) -> None:
    words = (*ground.words, *ONE, "--proposer", ground.replay(90))
    with ground.held(after=3):
        process = ground.start(*words)
        until(lambda: ground.started() > 3, process)
        for others in (("resume", "t", "--max-trials", "9"), ("clean", "--all")):
            second = ground.do(*others)
            assert (second.returncode, second.stderr) == (2, f"error: already running (pid {process.pid})\n")
        third = ground.do(*words)
        assert (third.returncode, "go on with `autoresearch resume t`" in third.stderr) == (2, True)
        assert "Stopped: not yet, it is running" in ground.do("status").stdout
    assert process.communicate()[1] == ""
    assert [row["loss"] for row in ground.rows()] == ["100.0", "90.0"]


def test_an_ended_run_can_be_extended(ground: Ground, act: Act) -> None:
    lines = ground.replay(99, 98, 97, 96)
    assert act(*ground.words, *BRIEF, "--max-trials", "1", "--proposer", lines).code == 0
    again = act("resume")
    assert (again.code, len(ground.rows())) == (0, 2)
    assert "Stopped: --max-trials reached" in again.out
    assert act("resume", "t", "--max-trials", "3").code == 0
    assert [row["loss"] for row in ground.rows()] == ["100.0", "99.0", "98.0", "97.0"]
    assert "Experiments run: 3\n" in act("status").out


# Stop conditions.


@pytest.mark.parametrize(
    ("options", "ended", "rows"),
    [
        ("--max-trials 1", "--max-trials reached", 2),
        ("--target 98", "--target reached", 3),
        ("--max-time 0.001", "--max-time reached", 1),
        ("", "proposals exhausted", 4),
    ],
)
def test_what_ends_a_run(ground: Ground, act: Act, options: str, ended: str, rows: int) -> None:
    lines = ground.replay(99, 98, 97)
    done = act(*ground.words, *BRIEF, *options.split(), "--proposer", lines)
    assert (done.code, done.err) == (0, "")
    assert f"Stopped: {ended}\n" in done.out
    assert len(ground.rows()) == rows


def test_patience_ends_a_run(ground: Ground, act: Act) -> None:
    done = act(*ground.words, *BRIEF, "--patience", "2", "--proposer", ground.replay(99, 101, 102, 103, 98))
    assert "Stopped: --patience: 2 trials without a keep\n" in done.out
    assert [row["loss"] for row in ground.rows()] == ["100.0", "99.0", "101.0", "102.0"]


def test_a_metric_at_its_bound_ends_a_run(ground: Ground, act: Act) -> None:
    ground.write("tests.txt", "1 failed, 4 passed in 0.10s\n")
    ground.git("add", "-A")
    ground.git("commit", "-q", "-m", "tests")
    fixed = {"hypothesis": "mend it", "edits": [{"path": "tests.txt", "content": "5 passed in 0.10s\n"}]}
    more = {"hypothesis": "add one", "edits": [{"path": "tests.txt", "content": "6 passed in 0.10s\n"}]}
    words = ("maximize pytest pass rate", "tail -1 tests.txt", "tests.txt")
    done = act(*words, *BRIEF, "--proposer", ground.replay(fixed, more))
    assert "Stopped: nothing left to gain: the metric is at its bound\n" in done.out
    assert [row["status"] for row in ground.rows()] == ["keep", "keep"]


# Signals.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_lets_what_runs_end_and_count(ground: Ground, number: signal.Signals) -> None:
    with ground.held(after=4):
        process = ground.start(*ground.words, *ONE, "--proposer", ground.replay(*FEW))
        until(lambda: ground.started() > 4, process)
        process.send_signal(number)
        until(lambda: ground.events("StopAsked"), process)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert f"Stopped: {'Ctrl-C' if number == signal.SIGINT else number.name}\n" in out
    assert "=== Autoresearch Summary ===\n" in out
    assert [row["loss"] for row in ground.rows()] == ["100.0", "90.0"]


def test_while_it_drains_no_confirmation_begins(ground: Ground, few: Ground) -> None:
    with ground.held(after=3):
        process = ground.start(*ground.words, *ONE, "--proposer", ground.replay(*FEW))
        until(lambda: ground.started() > 3, process)
        process.send_signal(signal.SIGINT)
        until(lambda: ground.events("StopAsked"), process)
    assert process.communicate()[1] == ""
    assert (process.returncode, ground.started(), len(ground.rows())) == (0, 4, 1)
    assert ground.do("resume").returncode == 0
    assert (ground.told(), ground.tree()) == (few.told(), few.tree())


def test_the_second_ctrl_c_stops_at_once(ground: Ground, few: Ground) -> None:
    with ground.held(after=4):
        process = ground.start(*ground.words, *ONE, "--proposer", ground.replay(*FEW))
        until(lambda: ground.started() > 4, process)
        process.send_signal(signal.SIGINT)
        until(lambda: ground.events("StopAsked"), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert (process.returncode, err) == (130, "")
        assert "Stopped: at once, by a second signal\n" in out
        assert ground.processes() == []
    assert ground.do("resume").returncode == 0
    assert (ground.told(), ground.tree()) == (few.told(), few.tree())


def test_ctrl_c_during_the_baseline_leaves_nothing(ground: Ground) -> None:
    before = picture(ground.root)
    with ground.held():
        process = ground.start(*ground.words, *TAG, "--workers", "2", "--proposer", ground.replay(90))
        until(lambda: ground.started() >= 2, process)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert ground.processes() == []
    process.communicate()
    assert picture(ground.root) == before
    assert not any(path.is_file() for path in ground.cache.rglob("*"))


class Terminal:
    """The program at a terminal of its own; everything that it shows is kept."""

    def __init__(self, ground: Ground, *words: str) -> None:
        self.shown = b""
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(ground.root)
            os.execve(sys.executable, [sys.executable, "-m", "autoresearch", *words], ground.environment)

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def until(self, text: str) -> None:
        while text.encode() not in self.shown:
            self.shown += os.read(self._descriptor, 4096)

    def end(self) -> int:
        """Read until it leaves, and return its exit code."""
        while True:
            try:
                data = os.read(self._descriptor, 4096)
            except OSError:  # nobody holds the terminal any more
                break
            if not data:
                break
            self.shown += data
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ("n\n", 2, b"error: not started; nothing was left behind"),
        ("\x03", 130, b"Stopped before the run began; nothing was left behind."),
        ("\x04", 2, b"pass --yes"),
    ],
)
def test_a_question_that_is_not_answered_with_yes_leaves_nothing(
    ground: Ground, answer: str, code: int, said: bytes
) -> None:
    words = (*ground.words, *ONE, "--proposer", ground.replay(90))
    before = picture(ground.root)
    terminal = Terminal(ground, *(word for word in words if word != "--yes"))
    terminal.until("Start? [Y/n]")
    terminal.type(answer)
    assert terminal.end() == code
    assert said in terminal.shown
    assert b"Scope          1 file: loss.txt" in terminal.shown
    assert picture(ground.root) == before
    assert not any(path.is_file() for path in ground.cache.rglob("*"))


def test_at_a_terminal_enter_starts_and_ctrl_c_drains(ground: Ground) -> None:
    with ground.held(after=4):
        terminal = Terminal(ground, *ground.words, "--tag", "t", "--workers", "1", "--proposer", ground.replay(90, 80))
        terminal.until("Start? [Y/n]")
        terminal.type("\n")
        until(lambda: ground.started() > 4)
        terminal.type("\x03")
        until(lambda: ground.events("StopAsked"))
    assert terminal.end() == 0
    assert b"=== Autoresearch Summary ===" in terminal.shown
    assert b"Stopped: Ctrl-C" in terminal.shown
    assert ground.processes() == []
