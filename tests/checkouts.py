"""Checkouts as users have them, and what a run leaves of them. Tests only."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ground import act_in, picture

SCRIPTS = Path(sys.executable).parent
OURS = ("objects", "refs/autoresearch", "refs/heads/autoresearch", "logs/refs/heads/autoresearch", "info/exclude")
"""Below .git, what a run may write; of info/exclude one line."""
HEAD_LINES = 9
"""Of the summary, up to the best metric."""


@dataclass(frozen=True)
class Ended:
    """What a command left: its texts, and the run's table where there is one."""

    code: int
    out: str
    err: str
    rows: Sequence[Mapping[str, str]]

    @property
    def verdicts(self) -> dict[int, tuple[str, str, str]]:
        """By trial: status, reason, description."""
        return {int(row["trial"]): (row["status"], row["reason"], row["description"]) for row in self.rows}

    @property
    def values(self) -> dict[int, str]:
        """By trial, as written in the second column, which is the metric's."""
        return {int(row["trial"]): list(row.values())[1] for row in self.rows}

    @property
    def head(self) -> list[str]:
        return self.summary[:HEAD_LINES]

    @property
    def summary(self) -> list[str]:
        return self.out[self.out.index("=== Autoresearch Summary ===") :].splitlines()

    @property
    def plan(self) -> str:
        """What stands before the summary, the plan's wrapped lines joined."""
        return " ".join(self.out.partition("=== Autoresearch Summary ===")[0].split())


@dataclass(frozen=True)
class Checkout:
    """A repository of a user, with a shell's environment."""

    root: Path
    env: Mapping[str, str]

    def sh(self, *words: str) -> str:
        done = subprocess.run(words, cwd=self.root, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def git(self, *words: str) -> str:
        return self.sh("git", *words)

    def commit(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if not (self.root / ".git").exists():
            self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("-c", "commit.gpgsign=false", "commit", "-q", "-m", "Files")

    def replay(self, *lines: tuple[str, Mapping[str, Any]]) -> str:
        """A proposer of these hypotheses and edits."""
        path = self.root.parent / "lines.jsonl"
        rows = [{"hypothesis": hypothesis, "edits": [edit]} for hypothesis, edit in lines]
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return f"replay:{path}"

    def do(self, *words: str, folder: str = "") -> Ended:
        """Autoresearch with these words; a run needs `--tag` among them. The checkout must be the same afterwards."""
        with self.untouched():
            done = act_in(self.root / folder, self.env, *words)
        print(done.stdout, done.stderr)
        tag = words[words.index("--tag") + 1] if "--tag" in words else ""
        table = self.root / ".autoresearch" / tag / "results.tsv"
        rows: Sequence[Mapping[str, str]] = ()
        if tag and table.exists():
            with table.open(newline="") as file:
                rows = list(csv.DictReader(file, dialect="excel-tab"))
        return Ended(done.returncode, done.stdout, done.stderr, rows)

    def refuse(self, *words: str, folder: str = "") -> str:
        """The complaint of a run that cannot start; nothing is left of it."""
        refs = self.git("for-each-ref")
        runs = {path.name for path in self.root.glob(".autoresearch/*")}
        ended = self.do(*words, folder=folder)
        assert ended.code == 2
        assert (self.git("for-each-ref"), {path.name for path in self.root.glob(".autoresearch/*")}) == (refs, runs)
        return ended.err

    @contextmanager
    def untouched(self) -> Iterator[None]:
        before = self._face()
        yield
        after = self._face()
        assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set()

    def _face(self) -> dict[str, str]:
        """All files but ours, and what git says."""
        ours = tuple(str(self.root / path) for path in (".autoresearch", *(f".git/{path}" for path in OURS)))
        face = {path: look for path, look in picture(self.root).items() if not path.startswith(ours)}
        for words in ("status --porcelain --branch", "worktree list", "config --list", "stash list", "rev-parse HEAD"):
            face[words] = self.git(*words.split())
        exclude = (self.root / ".git" / "info" / "exclude").read_text().splitlines()
        assert exclude.count(".autoresearch/") <= 1
        face["exclude"] = "\n".join(line for line in exclude if line != ".autoresearch/")
        return face

    def log(self, tag: str) -> list[str]:
        """The subjects of the run's commits, oldest first."""
        return self.git("log", "--reverse", "--format=%s", f"main..autoresearch/{tag}").splitlines()

    def show(self, tag: str, path: str) -> str:
        return self.git("show", f"autoresearch/{tag}:{path}")


def begun_by(python: Path) -> str:
    """The first lines of a script, as pip writes them: a `#!` line takes no spaces."""
    if " " not in str(python):
        return f"#!{python}\n"
    return f"#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n"


def old(path: str, old: str, new: str) -> dict[str, str]:
    return {"path": path, "old": old, "new": new}


def whole(path: str, content: str) -> dict[str, str]:
    return {"path": path, "content": content}


def made(factory: pytest.TempPathFactory, env: Mapping[str, str], files: Mapping[str, str]) -> Checkout:
    """A checkout of its own folder, with these files committed."""
    root = factory.mktemp("work") / "checkout"
    root.mkdir()
    checkout = Checkout(root, env)
    checkout.commit(files)
    return checkout
