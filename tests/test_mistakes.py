"""Bad input through the real command line: one clear message, nothing left behind, never a traceback."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from autoresearch import cli
from tests.ground import Ground, picture

Prepare = Callable[[Ground], object]
YES = ("--yes", "--proposer", "mutate", "--workers", "1")


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


@dataclass
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def act(ground: Ground, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Said]]:
    """The command line in this process, with the ground's environment; nothing may be left behind."""
    for name in [name for name in os.environ if name not in ground.environment]:
        monkeypatch.delenv(name)
    for name, value in ground.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tempfile.tempdir", None)

    def run(*words: str, folder: Path | None = None) -> Said:
        monkeypatch.chdir(folder or ground.root)
        before = picture(ground.folder)
        capfd.readouterr()
        code = cli.main(words)
        said = Said(code, *capfd.readouterr())
        with open("/tmp/e2e/said.txt", "a") as f: f.write(f"### {words} -> {code}\n{said.out}--\n{said.err}")
        assert "Traceback" not in said.out + said.err
        assert "internal error" not in said.err
        assert len(said.err.splitlines()) <= 12
        after = picture(ground.folder)
        with open("/tmp/e2e/said.txt", "a") as f: f.write(f"changed: { {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} }\n")
        assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} <= {
            f"{ground.folder}/started"
        }
        return said

    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        yield run


def no_repository(ground: Ground) -> None:
    ground.git("init", "-q", "--bare", str(ground.folder / "elsewhere"))


MISTAKES: list[tuple[str, Prepare, list[str], str]] = []


def case(name: str, prepare: Prepare, words: list[str], said: str) -> None:
    MISTAKES.append((name, prepare, words, said))


def nothing(ground: Ground) -> None:
    return None


def git(*words: str) -> Prepare:
    return lambda ground: ground.git(*words)


def both(*parts: Prepare) -> Prepare:
    return lambda ground: [part(ground) for part in parts]


def write(name: str, text: str) -> Prepare:
    return lambda ground: ground.write(name, text)


RUN = ["minimize loss", "cat loss.txt", "loss.txt", *YES]
def scope(*words: str) -> list[str]:
    return ["minimize loss", "cat loss.txt", *words, *YES]
def measure(word: str) -> list[str]:
    return ["minimize loss", word, "loss.txt", *YES]

case("unborn", git("checkout", "-q", "--orphan", "new"), RUN, "XX")
case("blocking", git("branch", "autoresearch"), RUN, "XX")
case("taken", git("branch", "autoresearch/t"), [*RUN, "--tag", "t"], "XX")
for tag in ("a b", "..", "a..b", "a/b", "x.lock", "", "-x", "@{", "a\nb", "ä"):
    case(f"tag-{tag}", nothing, [*RUN, f"--tag={tag}"], "XX")
case("base", nothing, [*RUN, "--base", "nope"], "XX")
case("nothing", nothing, scope("nope.py"), "XX")
case("untracked", write("new.py", "x"), scope("new.py"), "XX")
case("untrackeddir", write("src/new.py", "x"), scope("src/"), "XX")
case("outside", nothing, scope("../other"), "XX")
case("absolute", nothing, scope("/etc/passwd"), "XX")
case("dotgit", nothing, scope(".git/config"), "XX")
case("emptyscope", nothing, scope(""), "XX")
case("link", both(lambda g: (g.root/"l").symlink_to("loss.txt"), git("add", "-A"), git("commit", "-qm", "l")), scope("l"), "XX")
case("scopetypo", nothing, scope("los.txt"), "XX")
case("nocommand", nothing, measure("pyhton m.py"), "XX")
case("crash", nothing, measure("python3 -c 'import nope_nope'"), "XX")
case("silent", nothing, measure("true"), "XX")
case("words", nothing, measure("echo hello; echo world"), "XX")
case("nan", nothing, measure("echo loss: nan"), "XX")
case("two", nothing, measure("echo loss: 1; echo lossy loss: 2; echo train loss: 3; echo 'val_loss: 4'"), "XX")
case("two2", nothing, ["minimize it", "echo a: 1; echo b: 2", "loss.txt", *YES], "XX")
case("sleep", nothing, [*measure("echo begun; sleep 5"), "--timeout", "0.5"], "XX")
case("direction", nothing, ["loss", "cat loss.txt", "loss.txt", *YES], "XX")
case("setup", nothing, [*RUN, "--setup", "echo installing; echo no such package >&2; exit 3"], "XX")
case("check", nothing, [*RUN, "--check", "echo bad style; exit 1"], "XX")
case("build", nothing, [*RUN, "--build", "echo no compiler; exit 1"], "XX")
case("regex", nothing, [*RUN, "--metric", "loss: ("], "XX")
case("regex2", nothing, [*RUN, "--metric", "nope: (\\d+)"], "XX")
case("metric", nothing, [*RUN, "--metric", "accuracy"], "XX")
case("link2", nothing, [*RUN, "--link", "nope"], "XX")
case("copy", nothing, [*RUN, "--copy", "nope"], "XX")
case("nokey", nothing, RUN[:3] + ["--yes"], "XX")
case("proposer", nothing, RUN[:3] + ["--yes", "--proposer", "mutat"], "XX")
case("claude", nothing, RUN[:3] + ["--yes", "--proposer", "claude"], "XX")
case("command", nothing, RUN[:3] + ["--yes", "--proposer", "command"], "XX")
case("agent", nothing, RUN[:3] + ["--yes", "--agent", "nosuchagent"], "XX")
case("noterm", nothing, RUN[:3] + ["--proposer", "mutate"], "XX")
case("replay", nothing, RUN[:3] + ["--yes", "--proposer", "replay:nope.jsonl"], "XX")
case("mutate-nothing", both(write("word.txt", "hello\n"), git("add", "-A"), git("commit", "-qm", "l")), scope("word.txt"), "XX")
case("program", nothing, [*RUN, "--program", "nope.md"], "XX")
case("context", nothing, [*RUN, "--context", "nope.md"], "XX")
case("workers", nothing, [*RUN, "--workers", "0"], "XX")
case("worktrees", nothing, [*RUN, "--worktrees", "/proc/nope"], "XX")
case("timeout", nothing, [*RUN, "--timeout", "-5"], "XX")
case("patience", nothing, [*RUN, "--patience", "0"], "XX")
case("minmax", nothing, [*RUN, "--minimize", "--maximize"], "XX")
case("empty measure", nothing, ["minimize loss", "", "loss.txt", *YES], "XX")
case("auto-file", write(".autoresearch", "x"), RUN, "XX")


@pytest.mark.parametrize(("prepare", "words", "said"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_mistake(ground: Ground, act: Callable[..., Said], prepare: Prepare, words: list[str], said: str) -> None:
    prepare(ground)
    done = act(*words)
    assert done.code == 2
