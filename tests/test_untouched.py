"""What a run leaves of the user's repository, whatever that is like and whatever the user does meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ground import Act, Ground, in_process, loss, picture, until

TAG = ("--tag", "t", "--yes", "--plain")
ONE = (*TAG, "--workers", "1", "--proposers", "1", "--repeats", "1")
OURS = ("refs/autoresearch", "refs/heads/autoresearch", "logs/refs/heads/autoresearch")
"""What may be new in the repository's git folder, objects aside."""
ASKED = (
    ("rev-parse", "HEAD"),
    ("status", "--porcelain", "--ignored=no"),
    ("stash", "list"),
    ("worktree", "list", "--porcelain"),
    ("config", "--list", "--local"),
    ("submodule", "status"),
)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


@pytest.fixture
def act(ground: Ground, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Act]:
    with in_process(ground, monkeypatch, capfd) as act:
        yield act


def answers(ground: Ground, root: Path) -> list[str]:
    return [ground.git(*words, folder=root) for words in ASKED]


@contextmanager
def untouched(ground: Ground, root: Path | None = None, store: Path | None = None) -> Iterator[None]:
    """Nothing of the user's changes in here, byte for byte. `root` is the checkout, `store` where its refs live."""
    root, store = root or ground.root, store or ground.root / ".git"
    ground.git("update-index", "-q", "--refresh", folder=root) if not ground.git("status", "-s", folder=root) else None
    before, told, excluded = picture(ground.root, root), answers(ground, root), exclude_lines(store)
    yield
    after, ours = picture(ground.root, root), [str(store / place) for place in OURS] + [str(root / ".autoresearch")]
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    changed = {path for path in changed if not any(path == place or path.startswith(f"{place}/") for place in ours)}
    assert changed <= {str(store / "info" / "exclude"), str(store / "info")}
    assert exclude_lines(store) == [*excluded, ".autoresearch/"]
    assert answers(ground, root) == told
    whole = ground.git("fsck", "--strict", "--no-dangling", folder=root)
    assert whole == ""


def exclude_lines(store: Path) -> list[str]:
    path = store / "info" / "exclude"
    return path.read_text().splitlines() if path.exists() else []


@dataclass(frozen=True)
class Situation:
    """Where the run starts, what it edits, and where refs are kept."""

    root: Path
    start: Path
    store: Path
    path: str = "loss.txt"
    """The edited file, from the root of the repository."""
    scope: str = "loss.txt"
    measure: str = "cat loss.txt"


def plain(ground: Ground, **more: str) -> Situation:
    return Situation(ground.root, ground.root, ground.root / ".git", **more)


def dirty_and_detached(ground: Ground) -> Situation:
    ground.write("loss.txt", "loss: 55\n")
    ground.git("stash")
    ground.write("loss.txt", "loss: 77\n")
    ground.write("staged.txt", "staged\n")
    ground.git("add", "staged.txt")
    ground.write("untracked.txt", "untracked\n")
    ground.git("checkout", "-q", "--detach")
    return plain(ground)


def subfolder(ground: Ground) -> Situation:
    ground.write("deep/er/loss.txt", "loss: 100\n")
    ground.git("add", "-A")
    ground.git("commit", "-q", "-m", "deeper")
    start = ground.root / "deep" / "er"
    return Situation(ground.root, start, ground.root / ".git", path="deep/er/loss.txt")


def linked_worktree(ground: Ground) -> Situation:
    other = ground.folder / "linked"
    ground.git("worktree", "add", "-q", "-b", "other", str(other))
    return Situation(other, other, ground.root / ".git")


def signing_and_hooks_that_fail(ground: Ground) -> Situation:
    ground.git("branch", "old")
    ground.git("gc", "-q", "--prune=now")
    for name, value in (("commit.gpgsign", "true"), ("tag.gpgsign", "true"), ("gpg.program", "/bin/false")):
        ground.git("config", name, value)
    for name in ("pre-commit", "commit-msg", "reference-transaction", "post-checkout", "post-index-change"):
        hook = ground.root / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\necho this hook refuses everything >&2\nexit 1\n")
        hook.chmod(0o755)
    return plain(ground)


def submodule(ground: Ground) -> Situation:
    part = ground.folder / "part"
    ground.git("init", "-q", str(part))
    (part / "x.txt").write_text("x\n")
    ground.git("add", "-A", folder=part)
    ground.git("commit", "-q", "-m", "a part", folder=part)
    ground.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(part), "part")
    ground.git("commit", "-q", "-m", "with a part")
    return plain(ground)


def odd_names(ground: Ground) -> Situation:
    path = 'a folder/größe "1" it\'s.txt'
    ground.write(path, "loss: 100\n")
    ground.write("line\nbreak.txt", "x\n")
    ground.git("add", "-A")
    ground.git("commit", "-q", "-m", "odd")
    return plain(ground, path=path, scope="a folder/", measure="cat 'a folder'/*")


def shallow(ground: Ground) -> Situation:
    ground.write("more.txt", "x\n")
    ground.git("add", "-A")
    ground.git("commit", "-q", "-m", "more")
    clone = ground.folder / "clone"
    ground.git("clone", "-q", "--depth", "1", f"file://{ground.root}", str(clone))
    return Situation(clone, clone, clone / ".git")


SITUATIONS = (
    dirty_and_detached,
    subfolder,
    linked_worktree,
    signing_and_hooks_that_fail,
    submodule,
    odd_names,
    shallow,
)


@pytest.mark.parametrize("prepare", SITUATIONS, ids=lambda prepare: prepare.__name__)
def test_a_run_leaves_everything_else_as_it_was(
    ground: Ground, act: Act, prepare: Callable[[Ground], Situation]
) -> None:
    here = prepare(ground)
    lines = ground.replay(loss(90, here.path), loss(80, here.path))
    with untouched(ground, here.root, here.store):
        done = act("minimize loss", here.measure, here.scope, *ONE, "--proposer", lines, folder=here.start)
        assert (done.code, done.err) == (0, "")
    assert "Best metric: 80 (improvement: -20.0%)" in done.out
    assert ground.git("show", f"autoresearch/t:{here.path}", folder=here.root) == "loss: 80\n"
    assert ground.git("rev-list", "--count", "HEAD..autoresearch/t", folder=here.root) == "2\n"
    if prepare is dirty_and_detached:
        assert "! not committed, so not part of the run: loss.txt" in done.out
    if prepare is submodule:
        assert "! submodules are empty in worktrees: part" in done.out
    cleaned = act("clean", "t")
    assert (cleaned.code, cleaned.err) == (0, "")
    assert not (here.root / ".autoresearch").exists()
    assert [name for name in ground.refs() if name.startswith("refs/autoresearch/")] == []
    assert ground.git("show", f"autoresearch/t:{here.path}", folder=here.root) == "loss: 80\n"
    assert not any(path.is_file() for path in ground.cache.rglob("*"))


def test_commits_are_the_users(ground: Ground, act: Act) -> None:
    ground.git("config", "user.name", "Ada Lovelace")
    ground.git("config", "user.email", "ada@example.org")
    done = act(*ground.words, *ONE, "--proposer", ground.replay(90))
    assert "no git identity" not in done.out
    told = ground.git("log", "-1", "--format=%an <%ae>|%cn|%s|%(trailers:key=Autoresearch-Trial)", "autoresearch/t")
    assert told.strip() == "Ada Lovelace <ada@example.org>|Ada Lovelace|loss 90|Autoresearch-Trial: 1"


def test_without_an_identity_commits_are_ours_and_the_plan_says_so(ground: Ground, act: Act) -> None:
    done = act(*ground.words, *ONE, "--proposer", ground.replay(90))
    assert "! no git identity is set: commits are made by autoresearch" in done.out
    assert ground.git("log", "-1", "--format=%an", "autoresearch/t") == "autoresearch\n"


def test_clean_all_removes_every_run_and_no_branch(ground: Ground, act: Act) -> None:
    for tag in ("one", "two"):
        done = act(*ground.words, "--tag", tag, *ONE[2:], "--proposer", ground.replay(90))
        assert done.code == 0
    cleaned = act("clean", "--all")
    assert cleaned.code == 0
    assert sorted(ground.refs()) == ["refs/heads/autoresearch/one", "refs/heads/autoresearch/two", "refs/heads/main"]
    assert not (ground.root / ".autoresearch").exists()
    assert not any(path.is_file() for path in ground.cache.rglob("*"))
    assert "no run to remove" in act("clean", "--all").out


# What the user does during a run.


@contextmanager
def during(ground: Ground, *options: str, code: int = 0, losses: Sequence[float] = (90, 80)) -> Iterator[list[str]]:
    """A run whose first candidate is being measured in here; afterwards the list holds stdout and stderr."""
    said: list[str] = []
    with ground.held(after=1):
        process = ground.start(*ground.words, *ONE, *options, "--proposer", ground.replay(*losses))
        until(lambda: ground.started() > 1, process)
        yield said
    said += process.communicate()
    assert process.returncode == code, said


def test_the_user_works_on_during_a_run(ground: Ground) -> None:
    ground.git("branch", "feature")
    with during(ground) as said:
        ground.write("loss.txt", "loss: 1000\n")
        ground.git("commit", "-q", "-a", "-m", "worse")
        ground.git("checkout", "-q", "feature")
        ground.write("new.txt", "new\n")
        ground.git("add", "-A")
        ground.git("reflog", "expire", "--expire=now", "--all")
        ground.git("gc", "-q", "--prune=now")
        ground.git("pack-refs", "--all", "--prune")
    assert said[1] == ""
    assert [row["loss"] for row in ground.rows()] == ["100.0", "90.0", "80.0"]
    assert ground.git("show", "autoresearch/t:loss.txt") == "loss: 80\n"
    assert ground.git("status", "--porcelain") == "A  new.txt\n"
    assert ground.git("rev-list", "--count", "main..autoresearch/t") == "2\n"
    ground.git("gc", "-q", "--prune=now")
    assert ground.git("fsck", "--strict", "--no-dangling") == ""
    assert "-loss: 90" in ground.do("diff", "2").stdout


def test_a_branch_that_the_user_has_checked_out_follows_later(ground: Ground) -> None:
    with during(ground, "--max-trials", "2", losses=(90, 80, 70)) as said:
        ground.git("checkout", "-q", "autoresearch/t")
    assert said[1] == ""
    assert said[0].count("autoresearch/t is checked out") == 1
    refs = ground.refs()
    assert refs["refs/heads/autoresearch/t"] == refs["refs/heads/main"] != refs["refs/autoresearch/t/tip"]
    assert ground.git("status", "--porcelain") == ""
    assert (ground.root / "loss.txt").read_text() == "loss: 100\n"
    assert "Take it: git merge refs/autoresearch/t/tip\n" in said[0]
    ground.git("checkout", "-q", "main")
    resumed = ground.do("resume", "--max-trials", "3")
    assert resumed.returncode == 0
    assert "Take it: git merge autoresearch/t\n" in resumed.stdout
    assert ground.git("show", "autoresearch/t:loss.txt") == "loss: 70\n"


@pytest.mark.parametrize("harm", ["branch -f autoresearch/t feature", "branch -D autoresearch/t"])
def test_a_branch_that_someone_took_away_ends_the_run_until_it_is_back(ground: Ground, harm: str) -> None:
    ground.write("feature.txt", "x\n")
    ground.git("add", "-A")
    ground.git("commit", "-q", "-m", "a feature")
    ground.git("branch", "feature")
    ground.git("reset", "-q", "--hard", "HEAD^")
    with during(ground, code=1) as said:
        ground.git(*harm.split())
    lines = said[1].splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: someone moved autoresearch/t: ")
    again = ground.do("resume")
    assert (again.returncode, again.stderr) == (1, said[1])
    advice = lines[0].split("`")[1].split()
    assert advice[:3] == ["git", "branch", "-f"]
    ground.git(*advice[1:])
    assert ground.do("resume").returncode == 0
    assert [row["loss"] for row in ground.rows()] == ["100.0", "90.0", "80.0"]
    assert ground.git("show", "autoresearch/t:loss.txt") == "loss: 80\n"


def test_worktrees_that_someone_deletes_are_made_anew(ground: Ground) -> None:
    with during(ground) as said:
        for path in ground.cache.glob("autoresearch-worktrees/*/t/slot-0/loss.txt"):
            os.unlink(path)
        for path in ground.cache.glob("autoresearch-worktrees/*/t/slot-0/.git"):
            os.unlink(path)
    assert said[1] == ""
    assert [row["loss"] for row in ground.rows()] == ["100.0", "90.0", "80.0"]
