"""Bad input through the real command line: one clear message, nothing left behind, never a traceback."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from autoresearch import cli
from tests.ground import Act, Ground, Said, in_process, loss, picture, until

MOST_LINES = 12
RUN = ("minimize loss", "cat loss.txt", "loss.txt")
YES = ("--yes", "--workers", "1", "--max-trials", "1", "--plain")
ONE_BY_ONE = ("--tag", "t", "--yes", "--workers", "1", "--proposers", "1")
MUTATE = (*YES, "--proposer", "mutate")


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


@pytest.fixture
def act(ground: Ground, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Act]:
    with in_process(ground, monkeypatch, capfd) as act:
        yield act


@contextmanager
def nothing_left(ground: Ground) -> Iterator[None]:
    """Whatever is done in here leaves every file as it was: refs, exclude file, cache and temporary folder included."""
    before = picture(ground.folder)
    yield
    after = picture(ground.folder)
    empty = {str(ground.cache), str(ground.cache / "autoresearch-worktrees")}
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} <= empty
    assert not any(path.is_file() for path in ground.cache.rglob("*"))
    assert not ground.processes()


def refused(ground: Ground, act: Act, words: tuple[str, ...], code: int = 2) -> str:
    """The message of a mistake that left nothing behind."""
    with nothing_left(ground):
        said = act(*words)
    assert said.code == code
    return message(said)


def message(said: Said) -> str:
    assert said.err.startswith("error: ")
    assert len(said.err.splitlines()) <= MOST_LINES
    assert "Traceback" not in said.out + said.err
    return said.err.removeprefix("error: ")


# What the repository is.


def test_no_repository(ground: Ground, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ground.folder / "home")
    assert "is in no git repository: run `git init`" in refused(ground, act, (*RUN, *MUTATE))
    for command in (("status",), ("log",), ("show", "1"), ("diff", "1"), ("resume",), ("clean",)):
        assert "no git repository" in refused(ground, act, command)


def test_no_commit_yet(ground: Ground, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = ground.folder / "fresh"
    ground.git("init", "-q", str(fresh))
    (fresh / "loss.txt").write_text("loss: 1\n")
    monkeypatch.chdir(fresh)
    assert "the repository has no commit yet: `git add` and `git commit`" in refused(ground, act, (*RUN, *MUTATE))


def test_a_bare_repository(ground: Ground, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.git("clone", "-q", "--bare", ".", str(ground.folder / "bare.git"))
    monkeypatch.chdir(ground.folder / "bare.git")
    assert "is a bare repository: start in a checkout of it" in refused(ground, act, (*RUN, *MUTATE))


@pytest.mark.parametrize(
    ("git", "options", "said"),
    [
        ("checkout -q --orphan new", "", "the branch that is checked out has no commit yet"),
        ("branch autoresearch", "", "rename it with `git branch -m autoresearch autoresearch-old`"),
        ("branch autoresearch/t", "--tag t", "the branch autoresearch/t of an earlier run exists: choose another name"),
        ("status", "--base nope", "--base nope: no such commit"),
        ("status", "--tag a..b", "--tag: `a..b` cannot be part of a branch name"),
        ("status", "--tag a/b", "--tag: `a/b` cannot be part of a branch name"),
        ("status", "--tag x.lock", "--tag: `x.lock` cannot be part of a branch name"),
        ("status", "--tag=-x", "--tag: `-x` cannot be part of a branch name"),
        ("status", "--tag=", "--tag: it is empty"),
    ],
)
def test_branches_and_tags(ground: Ground, act: Act, git: str, options: str, said: str) -> None:
    ground.git(*git.split())
    assert said in refused(ground, act, (*RUN, *MUTATE, *options.split()))


def test_git_is_missing_or_old(ground: Ground) -> None:
    programs = ground.folder / "programs"
    programs.mkdir()
    with nothing_left(ground):
        missing = _process(ground, PATH=str(programs))
    assert (missing.returncode, missing.stderr[:29]) == (2, "error: git is not installed: ")
    (programs / "git").write_text("#!/bin/sh\necho git version 2.37.1\n")
    (programs / "git").chmod(0o755)
    with nothing_left(ground):
        old = _process(ground, PATH=str(programs))
    assert (old.returncode, len(old.stderr.splitlines())) == (2, 1)
    assert "needs git 2.38 or newer, and this is `git version 2.37.1`" in old.stderr


def _process(ground: Ground, **more: str) -> subprocess.CompletedProcess[str]:
    """A run in a process that has not imported anything before."""
    words = [sys.executable, "-m", "autoresearch", *RUN, *MUTATE]
    return subprocess.run(
        words, cwd=ground.root, env=ground.environment | more, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def test_a_folder_that_is_gone(ground: Ground) -> None:
    gone = ground.folder / "gone"
    gone.mkdir()
    leave = f"rmdir {shlex.quote(str(gone))}; exec {shlex.quote(sys.executable)} -m autoresearch status"
    package = str(Path(cli.__file__).parent.parent)
    done = subprocess.run(
        ["sh", "-c", leave],
        cwd=gone,
        env=ground.environment | {"PYTHONPATH": package},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("error: the folder that you are in is gone")


# Scope.


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ("nope.py", "SCOPE nope.py: matches nothing"),
        ("new.py", "SCOPE new.py: not committed; run `git add` and `git commit`"),
        ("src/", "SCOPE src/: not committed"),
        ("*.log", "SCOPE *.log: not committed"),
        ("link", "symbolic links and submodules cannot be edited"),
        ("../other", "SCOPE ../other: leaves the repository"),
        ("/etc/passwd", "SCOPE /etc/passwd: leaves the repository"),
        ("", "SCOPE: it is empty"),
    ],
)
def test_a_scope_that_holds_nothing(ground: Ground, act: Act, scope: str, said: str) -> None:
    (ground.root / "link").symlink_to("loss.txt")
    ground.git("add", "-A")
    ground.git("commit", "-q", "-m", "a link")
    for name in ("new.py", "src/new.py", "x.log"):
        ground.write(name, "x = 1\n")
    assert said in refused(ground, act, (*RUN[:2], scope, *MUTATE))


def test_a_scope_without_anything_to_change(ground: Ground, act: Act) -> None:
    ground.write("empty.txt", "")
    ground.git("add", "-A")
    ground.git("commit", "-q", "-m", "nothing")
    assert "mutate" in refused(ground, act, (*RUN[:2], "empty.txt", *MUTATE))


# The baseline.


@pytest.mark.parametrize(
    ("measure", "options", "said"),
    [
        ("mesure.py --fast", "", "exited with status 127 and printed no number|mesure.py: command not found"),
        ("echo warming up; echo no GPU >&2; exit 3", "", "status 3 and printed no number; make it work|no GPU"),
        ("true", "", "printed no number; print one to stdout|it printed nothing"),
        ("echo all fine", "", "printed no number; print one to stdout|  all fine"),
        ("echo loss: nan", "", "the baseline's metric is nan, not a finite number"),
        ("kill -9 $$", "", "the baseline was killed by signal 9"),
        ("echo begun; sleep 60", "--timeout 2", "did not end within its time limit; raise --timeout|  begun"),
        ("echo train loss: 1, val loss: 2", "", "2 readings; say which one is the metric|--metric "),
        ("cat loss.txt", "--metric accuracy", "nothing that --metric accuracy reads; it names loss"),
        ("cat loss.txt", "--metric loss:(*)", "--metric 'loss:(*)' is no regular expression"),
        ("cat loss.txt", "--setup false", "slot 0: setup failed (exit 1): false"),
        ("cat loss.txt", "--check false", "a check fails on the unchanged code"),
        ("cat loss.txt", "--build false", "the build command fails on the unchanged code"),
    ],
)
def test_a_baseline_that_cannot_be_used(ground: Ground, act: Act, measure: str, options: str, said: str) -> None:
    told = refused(ground, act, (RUN[0], measure, RUN[2], *MUTATE, *options.split()))
    for part in said.split("|"):
        assert part in told


def test_a_setup_that_fails_in_every_slot_says_so_once(ground: Ground, act: Act) -> None:
    setup = "echo collecting torch; echo no such package >&2; exit 3"
    with nothing_left(ground):
        said = act(*RUN, *MUTATE, "--workers", "4", "--setup", setup)
    assert "setup failed (exit 3)" in message(said) and "no such package" in said.err
    assert (said.code, said.out) == (2, "")


def test_an_objective_without_a_direction(ground: Ground, act: Act) -> None:
    assert "add --minimize or --maximize" in refused(ground, act, ("loss", *RUN[1:], *MUTATE))


# Who proposes, and who answers.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "no proposer: set ANTHROPIC_API_KEY, or choose one with --proposer: claude"),
        ("--proposer claude", "no key for the model: set ANTHROPIC_API_KEY"),
        ("--proposer mutat", "--proposer: `mutat` is not one of claude, mutate, command, replay:FILE"),
        ("--proposer command", "--proposer: `command` needs --agent"),
        ("--agent claud-code", "no `claud-code` on PATH; known agents are claude-code"),
        ("--proposer replay:nope.jsonl", "replay file nope.jsonl: No such file or directory"),
        ("--proposer mutate --program nope.md", "--program nope.md: there is no such file"),
        ("--proposer mutate --context nope.md", "--context nope.md: there is no such file"),
    ],
)
def test_nobody_proposes(ground: Ground, act: Act, options: str, said: str) -> None:
    assert said in refused(ground, act, (*RUN, *YES, *options.split()))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", ":2: not JSON"),
        ("[]", ":2: a line is an object"),
        ('{"edits": []}', ':2: "hypothesis" is missing'),
        ('{"hypothesis": "x"}', ':2: "edits" is missing'),
        ('{"hypothesis": "x", "edits": [{"path": "a"}]}', ":2: edit 1: "),
        ('{"hypothesis": "x", "edits": [], "parent": 2}', ":2: its parent, trial 2, does not come before it"),
    ],
)
def test_a_wrong_replay_line(ground: Ground, act: Act, line: str, said: str) -> None:
    (ground.folder / "lines.jsonl").write_text(f"{json.dumps(loss(1))}\n{line}\n")
    assert said in refused(ground, act, (*RUN, *YES, "--proposer", f"replay:{ground.folder}/lines.jsonl"))


def test_no_terminal_is_said_before_anything_is_measured(ground: Ground, act: Act) -> None:
    told = refused(ground, act, (RUN[0], ground.measure, RUN[2], "--proposer", "mutate"))
    assert told == "there is no terminal to ask at: pass --yes to start without asking\n"
    assert ground.started() == 0


# Flags and files.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wrokers = 2", "autoresearch.toml: wrokers: "),
        ("wrokers = 2", "did you mean `workers`?"),
        ('workers = "two"', "autoresearch.toml: workers: "),
        ("workers = 0", "autoresearch.toml: workers: "),
        ('timeout = "5 parsecs"', "autoresearch.toml: timeout: `5 parsecs` is not a duration"),
        ("workers = = 2", "autoresearch.toml: line 1: not TOML"),
        ("[run]\nworkers = 2", "autoresearch.toml: run: "),
        ("lessons = 5", "not available yet"),
    ],
)
def test_wrong_keys_and_values(ground: Ground, act: Act, text: str, said: str) -> None:
    ground.write("autoresearch.toml", f"{text}\n")
    assert said in refused(ground, act, (*RUN, *MUTATE))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*RUN, "--wrokers", "2"), "unknown option --wrokers; did you mean `--workers`?"),
        ((*RUN, "--workers", "0"), "--workers: `0` is too small"),
        ((*RUN, "--max-trials", "ten"), "--max-trials: `ten` is not a whole number"),
        ((*RUN, "--minimize", "--maximize"), "--maximize: not allowed with argument --minimize"),
        ((*RUN, "--lessons", "5"), "--lessons: not available yet"),
        ((*RUN, "--sandbox", "strict"), "--sandbox: not available yet"),
        ((*RUN, "--link", "nope"), "--link: nope (does not exist)"),
        ((RUN[0], "", RUN[2]), "MEASURE is missing"),
        (("rseume", "t"), "did you mean `resume`?"),
        (("resume", "t"), "there is no run in"),
        (("finish",), "finish: not available yet"),
    ],
)
def test_wrong_words(ground: Ground, act: Act, words: tuple[str, ...], said: str) -> None:
    assert said in refused(ground, act, (*words[:3], *MUTATE, *words[3:]) if words[0] == RUN[0] else words)


# Tags that exist, and places that cannot be written.


def test_a_tag_that_exists_names_resume(ground: Ground, act: Act) -> None:
    options = ("--tag", "t", *YES, "--proposer", ground.replay(90))
    assert act(*RUN, *options).code == 0
    before = picture(ground.folder)
    again = act(*RUN, *options)
    assert again.code == 2
    assert "a run `t` exists: go on with `autoresearch resume t`" in message(again)
    assert picture(ground.folder) == before


@pytest.mark.parametrize("place", ["cache", "checkout/.autoresearch"])
def test_a_place_that_is_a_file(ground: Ground, act: Act, place: str) -> None:
    """What a folder without permissions is to a user; permissions do not stop root."""
    path = ground.folder / place
    path.write_text("in the way\n")
    before = picture(ground.folder)
    said = act(*RUN, *MUTATE)
    assert said.code == 2
    assert str(path) in message(said)
    assert picture(ground.folder) == before


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[None]:
    place.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        place.rmdir()
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        place.rmdir()


def test_folders_that_cannot_be_written(ground: Ground, act: Act) -> None:
    with small_disk(ground.root / ".autoresearch", "ro"):
        said = act(*RUN, *MUTATE)
        assert (said.code, "ead-only" in message(said)) == (2, True)
    with small_disk(ground.cache, "ro"):
        said = act(*RUN, *MUTATE)
        assert (said.code, "ead-only" in message(said)) == (2, True)
    assert not (ground.root / ".autoresearch").exists()
    assert "autoresearch" not in (ground.root / ".git/info/exclude").read_text()


@pytest.mark.parametrize("place", ["cache", "checkout/.autoresearch"])
def test_a_full_disk_before_the_run(ground: Ground, act: Act, place: str) -> None:
    with small_disk(ground.folder / place, "size=16k"):
        said = act(*RUN, *MUTATE)
    assert said.code == 2 and ("has room" in message(said) or "No space left" in said.err), said.err
    assert not [name for name in ground.refs() if "autoresearch" in name]
    assert "autoresearch" not in (ground.root / ".git/info/exclude").read_text()


def test_a_disk_that_fills_up_ends_the_run_and_resume_goes_on(ground: Ground) -> None:
    lines = ground.replay(90, 80, 70)
    with small_disk(ground.root / ".autoresearch", "size=2m"):
        with ground.held(after=4):
            process = ground.start(*ground.words, *ONE_BY_ONE, "--proposer", lines)
            until(lambda: ground.started() > 4, process)
            big = ground.root / ".autoresearch" / "big"
            with big.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
                while True:
                    file.write(b"x" * 4096)
        out, err = process.communicate()
        assert process.returncode == 1
        assert "then go on" in message(Said(1, out, err))
        big.unlink()
        done = ground.do("resume")
        assert done.returncode == 0, done.stderr
        assert [row["loss"] for row in ground.rows()] == ["100.0", "90.0", "80.0", "70.0"]
