"""A small repository whose number can be made better knob by knob, and a model that does so. For tests only.

    valley = Valley(tmp_path)
    with MessagesServer(Model()) as server:
        done = valley.run("--proposer", "claude", server=server)

The measure command is a shell script: the loss is the sum of the squared distances of all knobs from their goals. A
knob that is no number crashes it, with the reason in the file that its output is redirected to.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any

from tests.ground import act_in
from tests.messages_server import Fault, MessagesServer, Request, Say, Step, text, tool

KNOBS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
GOAL, START = 3.0, 11.0
MEASURE = "sh measure.sh > run.log 2>&1 && grep '^loss:' run.log"
SCRIPT = f"""\
echo "reading the knobs"
awk -F' = ' '
$2 !~ /^-?[0-9.]+$/ {{ print $1 " is no number: " $2; bad = 1; exit }}
{{ loss += ($2 - {GOAL}) ^ 2; knobs += 1 }}
END {{ if (bad) exit 3; printf "loss: %.9f\\nknobs_read: %d\\n", loss, knobs }}
' knobs/*.txt
"""
PROGRAM = "# How to work\n\nTurn one knob at a time. LOOP FOREVER and log to results.tsv.\n"
GIT = ("git", "-c", "user.name=A User", "-c", "user.email=user@example.org")


class Valley:
    """The repository, an environment of its own, and the command."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "valley"
        self.home = folder / "home"
        for each in (self.root / "knobs", self.home):
            each.mkdir(parents=True)
        for knob in KNOBS:
            (self.root / "knobs" / f"{knob}.txt").write_text(f"{knob} = {START}\n")
        (self.root / "measure.sh").write_text(SCRIPT)
        (self.root / "program.md").write_text(PROGRAM)
        (self.root / "README.md").write_text("A valley of knobs, lowest where all stand right.\n")
        (self.root / "notes.txt").write_text("Knobs were set by hand.\n")
        self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "start")

    def git(self, *words: str) -> str:
        return subprocess.run([*GIT, *words], cwd=self.root, check=True, capture_output=True, text=True).stdout

    def environment(self, server: MessagesServer | None = None, **more: str) -> dict[str, str]:
        """Without any key; with one and the server's address where there is a server."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "GIT_"))}
        ours = {"HOME": str(self.home), "XDG_CACHE_HOME": str(self.home / "cache"), "GIT_CONFIG_NOSYSTEM": "1"}
        asked = {"ANTHROPIC_BASE_URL": server.url, "ANTHROPIC_API_KEY": "sk-dummy-key"} if server else {}
        return {**kept, **ours, **asked, **more}

    @staticmethod
    def words(*options: str) -> list[str]:
        return ["minimize loss", MEASURE, "knobs/", "--tag", "t", *options]

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "autoresearch", *self.words(*options)]

    def start(self, *options: str, server: MessagesServer | None = None, **more: str) -> subprocess.Popen[str]:
        """Start a run and don't wait for it; the caller does."""
        return subprocess.Popen(
            self.command(*options),
            cwd=self.root,
            env=self.environment(server, **more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str, server: MessagesServer | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """A run to its end, in this process: importing what speaks to a model takes longer than most runs here."""
        return act_in(self.root, self.environment(server, **more), *self.words(*options))

    def autoresearch(self, *words: str, server: MessagesServer | None = None) -> subprocess.CompletedProcess[str]:
        """Another command of the program."""
        return act_in(self.root, self.environment(server), *words)

    @property
    def rows(self) -> list[dict[str, str]]:
        """results.tsv."""
        with (self.root / ".autoresearch/t/results.tsv").open(newline="") as file:
            return list(csv.DictReader(file, dialect="excel-tab"))

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The bodies of all events of that kind, in order, as stored."""
        with closing(sqlite3.connect(self.root / ".autoresearch/t/run.db")) as connection:
            found = connection.execute("SELECT at, payload FROM events WHERE kind = ? ORDER BY seq", (kind,))
            return [{"at": at, **json.loads(payload)} for at, payload in found]

    def value_of(self, ref: str) -> float:
        """The loss of a commit's knobs, computed here."""
        texts = [self.git("show", f"{ref}:knobs/{knob}.txt") for knob in KNOBS]
        return sum((float(each.split(" = ")[1]) - GOAL) ** 2 for each in texts)


def prompt_of(request: Request) -> str:
    """Everything that a request says but for its last turns."""
    first = request.body["messages"][0]["content"]
    return "\n\n".join([str(request.body["system"]), *(block["text"] for block in first if block["type"] == "text")])


def knobs_of(request: Request) -> dict[str, float]:
    """The knobs as the prompt shows them, by path."""
    found = re.findall(r"^(knobs/\w+\.txt)\n```\n\w+ = (\S+)\n```", prompt_of(request), re.MULTILINE)
    return {path: float(value) for path, value in found}


def edit(path: str, old: object, new: object) -> dict[str, str]:
    knob = Path(path).stem
    return {"path": path, "old": f"{knob} = {old}\n", "new": f"{knob} = {new}\n"}


def submission(hypothesis: str, *edits: dict[str, str]) -> dict[str, Any]:
    return tool("submit_change", {"hypothesis": hypothesis, "edits": list(edits)})


class Model:
    """Answers each new proposal by the next of `kinds`, round and round: a function of (request, turn), or a fault.

    What goes on with an earlier answer (look-ups, corrections) gets a good change, unless the kind said otherwise.
    """

    def __init__(self, *kinds: Callable[[Request, int], Step] | Step) -> None:
        self.kinds = kinds or (good,)
        self.asked = 0
        """Requests so far."""
        self.begun = 0
        """Those of them that began a proposal."""
        self._lock = Lock()

    def __call__(self, request: Request) -> Step:
        first = len(request.body["messages"]) == 1 and "# Repair" not in prompt_of(request)
        with self._lock:
            self.asked += 1
            self.begun += first
            turn, kind = self.asked, self.kinds[(self.begun - 1) % len(self.kinds)]
        if not first:
            kind = stubborn if "stubborn" in json.dumps(request.body["messages"]) else good
        return kind(request, turn) if callable(kind) else kind


def better(request: Request, turn: int) -> tuple[str, float, float]:
    """A knob, its value and one that is about half as far from the goal, another for each turn."""
    knobs = knobs_of(request)
    path = sorted(knobs)[turn % len(knobs)]
    return path, knobs[path], round(knobs[path] + (GOAL - knobs[path]) * (0.4 + turn % 17 / 80), 6)


def good(request: Request, turn: int) -> Step:
    path, old, new = better(request, turn)
    return Say(submission(f"turn {Path(path).stem} to {new}", edit(path, old, new)))


def in_text(request: Request, turn: int) -> Step:
    path, old, new = better(request, turn)
    knob = Path(path).stem
    blocks = f"{path}\n<<<<<<< SEARCH\n{knob} = {old}\n=======\n{knob} = {new}\n>>>>>>> REPLACE\n"
    return Say(text(f"I will turn one.\nhypothesis: turn {knob} to {new} in text\n\n{blocks}"))


def look_ups(request: Request, turn: int) -> Step:
    return Say(
        text("Let me look."),
        tool("read_file", {"path": "measure.sh"}, f"toolu_{turn}a"),
        tool("search", {"pattern": "goal|loss"}, f"toolu_{turn}b"),
    )


def worse(request: Request, turn: int) -> Step:
    path, old, _ = better(request, turn)
    return Say(submission(f"turn {Path(path).stem} away", edit(path, old, round(old + 1 + turn / 100, 6))))


def crashing(request: Request, turn: int) -> Step:
    path, old, _ = better(request, turn)
    return Say(submission(f"spell {Path(path).stem} out", edit(path, old, f"eleven{turn}")))


def not_applying(request: Request, turn: int) -> Step:
    path, old, new = better(request, turn)
    return Say(submission("edit what is not there", edit(path, f"{old}77", new)))


def out_of_scope(request: Request, turn: int) -> Step:
    return Say(submission("measure less", {"path": "measure.sh", "content": "echo loss: 0\n"}))


def stubborn(request: Request, turn: int) -> Step:
    return Say(text("I am stubborn and have no change to offer."))


UNKNOWN_KEY = Fault(401, "authentication_error", "invalid x-api-key")
