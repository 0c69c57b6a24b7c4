"""A small repository, and the program as a user runs it there: a process with an environment of its own. Tests only.

The measure command prints the file that is edited, so that a test knows every value. While the file `hold` lies beside
the repository, measurements after the first so many do not end: tests wait for what happens, never for time. A canary
counts for none of them, and ends at once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import psutil
import pytest

from autoresearch import cli
from tests.forked import Forked

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
"""How long what must happen may take on a slow machine; no test waits that long on purpose."""
SCRIPT = """\
cat loss.txt
if grep -q rubbish loss.txt; then exit 1; fi
echo $$ >> "$1/started"
number=$(wc -l < "$1/started")
while [ "$number" -gt "$(cat "$1/hold" 2> /dev/null || echo 999999)" ]; do sleep 0.02; done
"""
COMMIT = ("-c", "user.name=A User", "-c", "user.email=user@example.org")
SHOWN = ("loss", "status", "description", "reason", "trial", "parent", "delta", "n", "stdev", "lines", "model")
"""The columns in which two equal runs agree."""


class Ground:
    """`root` is the repository; home, cache, temporary files and the gate of measurements lie beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "checkout"
        self.cache = folder / "cache"
        for name in ("checkout", "home", "tmp"):
            (folder / name).mkdir()
        self.write("loss.txt", "loss: 100\n")
        self.write("measure.sh", SCRIPT)
        self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "start")

    @property
    def measure(self) -> str:
        return f"sh measure.sh {shlex.quote(str(self.folder))}"

    @property
    def words(self) -> list[str]:
        """Objective, measure and scope."""
        return ["minimize loss", self.measure, "loss.txt"]

    @property
    def environment(self) -> dict[str, str]:
        """Ours, without keys, the user's git settings and whatever else could lead a run elsewhere."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "GIT_"))}
        places = {"HOME": "home", "XDG_CACHE_HOME": "cache", "TMPDIR": "tmp"}
        return kept | {name: str(self.folder / place) for name, place in places.items()}

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def git(self, *words: str, folder: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *COMMIT, *words],
            cwd=folder or self.root,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def start(self, *words: str, folder: Path | None = None, **more: str) -> Forked:
        """The program, not waited for."""
        return Forked(words, folder or self.root, self.environment | more)

    def do(self, *words: str, folder: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """The program, to its end, in this process."""
        return act_in(folder or self.root, self.environment | more, *words)

    def replay(self, *lines: dict[str, Any] | float) -> str:
        """A proposer that sets the loss to each number in turn; a line may also be given whole."""
        path = self.folder / "replay.jsonl"
        whole = [line if isinstance(line, dict) else loss(line) for line in lines]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in whole))
        return f"replay:{path}"

    # What a run leaves.

    def rows(self, tag: str = "t") -> list[dict[str, str]]:
        """results.tsv as it stands; nothing where there is none yet."""
        try:
            with (self.root / ".autoresearch" / tag / "results.tsv").open(newline="") as file:
                return list(csv.DictReader(file, dialect="excel-tab"))
        except FileNotFoundError:
            return []

    def kept(self, tag: str = "t") -> int:
        return sum(row["status"] == "keep" for row in self.rows(tag)) - 1

    def events(self, kind: str, tag: str = "t") -> int:
        """How many events of a kind are stored."""
        path = self.root / ".autoresearch" / tag / "run.db"
        try:
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
                ((count,),) = connection.execute("SELECT count(*) FROM events WHERE kind = ?", (kind,))
        except sqlite3.OperationalError:  # not there yet, or not whole
            return 0
        return int(count)

    def told(self, tag: str = "t") -> list[tuple[str, ...]]:
        """The rows, without what differs between two equal runs."""
        return [tuple(row[name] for name in SHOWN) for row in self.rows(tag)]

    def tree(self, tag: str = "t") -> str:
        return self.git("rev-parse", f"autoresearch/{tag}^{{tree}}")

    def refs(self) -> dict[str, str]:
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict(line.split(" ") for line in lines)

    def processes(self) -> list[int]:
        """Those that run for this repository, but for this one: their command line or working folder names it."""
        mark, found = str(self.folder), []
        for process in psutil.process_iter():
            try:
                named = any(mark in word for word in [*process.cmdline(), process.cwd()])
                if named and process.pid != os.getpid():
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found

    # The gate.

    @contextmanager
    def held(self, after: int = 0) -> Iterator[None]:
        """Measurements after the first `after` of this ground don't end before this block does."""
        gate = self.folder / "hold"
        gate.write_text(str(after))
        try:
            yield
        finally:
            gate.unlink()

    def started(self) -> int:
        """How many measurements have begun."""
        try:
            return len((self.folder / "started").read_text().splitlines())
        except FileNotFoundError:
            return 0


@contextmanager
def standing(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """This process stands in the place of a shell without a terminal."""
    outer, place, temporary = dict(os.environ), os.getcwd(), tempfile.tempdir
    try:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        tempfile.tempdir = None
        with open(os.devnull) as nobody, patch("sys.stdin", nobody):
            yield
    finally:
        tempfile.tempdir = temporary
        os.chdir(place)
        os.environ.clear()
        os.environ.update(outer)


def act_in(folder: Path, environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """The command line in this process: what starts in a fraction of a process's time."""
    out, err = io.StringIO(), io.StringIO()
    with standing(folder, environment), redirect_stdout(out), redirect_stderr(err):
        code = cli.main(words)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str


Act = Callable[..., Said]


@contextmanager
def in_process(ground: Ground, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Act]:
    """The command line in this process, without a terminal: what starts in half the time of a process."""
    environment = ground.environment
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", None)

    def act(*words: str, folder: Path | None = None) -> Said:
        if folder is not None:
            monkeypatch.chdir(folder)
        capfd.readouterr()
        return Said(cli.main(words), *capfd.readouterr())

    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        monkeypatch.chdir(ground.root)
        yield act


def loss(value: float, path: str = "loss.txt") -> dict[str, Any]:
    """A line of a replay file."""
    return {"hypothesis": f"loss {value:g}", "edits": [{"path": path, "content": f"loss: {value:g}\n"}]}


def until(what: Callable[[], T], process: Forked | None = None) -> T:
    """Wait until something is so; a process that should bring it about must live meanwhile."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (value := what()):
        if process is not None and process.poll() is not None:
            raise AssertionError(f"it ended ({process.returncode}): {process.communicate()}")
        if time.monotonic() > end:
            raise AssertionError("it did not happen")
        time.sleep(0.005)
    return value


def kill(process: Forked) -> None:
    """End it as a power cut would."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def picture(*folders: Path) -> dict[str, str]:
    """Every path below some folders with its kind, mode and content; git's objects are left out."""
    return {
        str(path): _face(path)
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if "objects" not in path.relative_to(folder).parts
    }


def _face(path: Path) -> str:
    mode = path.lstat().st_mode
    if path.is_symlink():
        return f"{mode:o} -> {os.readlink(path)}"
    return f"{mode:o} {hashlib.sha1(path.read_bytes()).hexdigest()}" if path.is_file() else f"{mode:o}"
