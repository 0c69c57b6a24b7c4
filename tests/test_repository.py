"""Real git in temporary folders: candidates, the branch, worktrees, and a user's repository that stays as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from autoresearch.checkout import check_tag, exclude, include, tags
from autoresearch.errors import BranchLost, ChangeRejected, RepositoryError, SlotLost, UsageError
from autoresearch.repository import Checkout, GitRepository, forget, inspect
from autoresearch.scope import resolve
from autoresearch.trial import Candidate, Change, Edit, Reason

pytestmark = pytest.mark.anyio

ODD = "src/a 'b' \"c\"\n\té\\x.py"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def own_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))


def git(folder: Path, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())


FILES: dict[str, str | bytes] = {
    "train.py": "lr = 1\nsteps = 2\nwidth = 3\n",
    "src/model.py": "a = 1\nb = 2\nc = 3\nd = 4\ne = 5\n",
    ODD: "odd = 1\n",
    "data/bytes.bin": b"\xff\xfe\x00x\n",
    "README.md": "read me\n",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    write(folder, FILES)
    write(folder, {"run.sh": "#!/bin/sh\necho 1\n", ".gitignore": "ignored/\n*.log\n"})
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("train.py")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-q", "-m", "base")
    return folder


@pytest.fixture
def repo(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "repo", symlinks=True))


async def opened(
    repo: Path, tag: str = "t", scope: Sequence[str] = ("train.py", "src/", "run.sh", "data")
) -> GitRepository:
    checkout = await inspect(repo)
    found = resolve(scope, checkout.files, checkout.prefix, checkout.exists)
    return GitRepository(checkout, found, tag, checkout.root.parent / "cache")


def replace(path: str, old: str, new: str, hypothesis: str = "an idea") -> Change:
    return Change(hypothesis, (Edit(path, old=old, new=new),))


def head(repo: Path) -> str:
    return git(repo, "rev-parse", "HEAD")


def snapshot(repo: Path) -> dict[str, object]:
    """All of the user's repository that a run may not touch, byte for byte."""
    kept = [
        path
        for path in repo.rglob("*")
        if path.is_file() and not {"objects", "autoresearch"} & set(path.relative_to(repo).parts)
    ]
    return {str(path.relative_to(repo)): path.read_bytes() for path in kept} | {
        "worktrees": git(repo, "worktree", "list"),
        "status": git(repo, "status", "--porcelain", "--ignored"),
        "branches": [line for line in git(repo, "branch", "--all").splitlines() if "autoresearch/" not in line],
    }


class TestInspect:
    async def test_a_checkout_is_described(self, repo: Path) -> None:
        checkout = await inspect(repo / "src")
        assert (checkout.root, checkout.prefix, checkout.branch) == (repo, "src", "main")
        assert checkout.base == head(repo)
        assert checkout.base_tree == git(repo, "rev-parse", "HEAD^{tree}")
        assert set(checkout.files) == {*FILES, "run.sh", ".gitignore"}
        assert (checkout.identity.name, checkout.identity.email) == ("Ada", "ada@example.org")
        assert checkout.notes == ()

    async def test_a_dirty_tree_and_a_detached_head_are_fine(self, repo: Path) -> None:
        git(repo, "checkout", "-q", "--detach")
        write(repo, {"train.py": "changed\n", "new é.py": "", "ignored/x": ""})
        checkout = await inspect(repo)
        assert checkout.branch is None
        assert await checkout.dirty() == ("new é.py", "train.py")
        assert checkout.exists("new é.py") and checkout.exists("ignored/*") and not checkout.exists("no*")

    async def test_a_linked_worktree_shares_the_repository(self, repo: Path, tmp_path: Path) -> None:
        git(repo, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "side")
        checkout = await inspect(tmp_path / "linked")
        assert (checkout.root, checkout.common_dir, checkout.branch) == (tmp_path / "linked", repo / ".git", "side")

    async def test_without_an_identity_ours_is_used(self, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        checkout = await inspect(repo)
        assert str(checkout.identity.email) == "autoresearch@localhost"
        assert "no git identity" in checkout.notes[0]

    async def test_submodules_and_lfs_are_reported(self, repo: Path) -> None:
        git(repo, "update-index", "--add", "--cacheinfo", f"160000,{head(repo)},vendor/lib")
        write(repo, {"data/.gitattributes": "*.bin filter=lfs\n"})
        git(repo, "add", "data/.gitattributes")
        git(repo, "commit", "-q", "-m", "more")
        checkout = await inspect(repo)
        assert checkout.submodules == ("vendor/lib",)
        assert checkout.lfs and not checkout.lfs_ready
        assert "vendor/lib" in checkout.notes[0] and "git lfs install" in checkout.notes[1]

    async def test_what_cannot_start_says_what_to_do(
        self, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def refused(folder: Path, **more: str) -> str:
            with pytest.raises(UsageError) as caught:
                await inspect(folder, **more)
            assert "\n" not in str(caught.value)
            return str(caught.value)

        (tmp_path / "plain").mkdir()
        assert "git init" in await refused(tmp_path / "plain")
        assert "no such folder" in await refused(tmp_path / "none")
        git(tmp_path, "init", "-q", "--bare", "bare.git")
        assert "bare repository" in await refused(tmp_path / "bare.git")
        assert "git's own folder" in await refused(repo / ".git")
        git(tmp_path, "init", "-q", "unborn")
        assert "the repository has no commit yet" in await refused(tmp_path / "unborn")
        git(repo, "checkout", "-q", "--orphan", "fresh")
        assert "the branch that is checked out has no commit yet" in await refused(repo)
        git(repo, "checkout", "-q", "-f", "main")
        assert "--base nowhere" in await refused(repo, base="nowhere")
        for tag in ("a..b", "x.lock", "a b", "a/b", "", "-x", "a\n"):
            assert "--tag" in await refused(repo, tag=tag)
        await check_tag(await inspect(repo), "nov22-2")
        git(repo, "branch", "autoresearch")
        assert "git branch -m autoresearch" in await refused(repo)
        monkeypatch.setenv("GIT_DIR", str(repo / ".git"))
        assert "unset GIT_DIR" in await refused(repo)

    async def test_no_git_and_an_old_git(self, repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path, {"bin/git": "#!/bin/sh\necho git version 2.37.9\n"})
        (tmp_path / "bin/git").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        with pytest.raises(UsageError, match=r"2\.38 or newer, and this is `git version 2\.37\.9`"):
            await inspect(repo)
        monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
        with pytest.raises(UsageError, match="git is not installed"):
            await inspect(repo)

    async def test_the_exclude_line_is_added_once(self, repo: Path) -> None:
        path = repo / ".git/info/exclude"
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        checkout = await inspect(repo)
        await exclude(checkout)
        await exclude(checkout)
        assert path.read_text() == "mine\n.autoresearch/\n"
        await include(checkout, 0)
        assert path.read_text() == "mine\n.autoresearch/\n"
        await include(checkout, len("\n.autoresearch/\n"))
        assert path.read_text() == "mine"
        await exclude(checkout)
        write(repo, {".autoresearch/t/run.db": "x"})
        assert git(repo, "status", "--porcelain") == ""

    async def test_tags_that_are_taken(self, repo: Path) -> None:
        git(repo, "branch", "autoresearch/nov21")
        git(repo, "update-ref", "refs/autoresearch/nov22/tip", "HEAD")
        assert await tags(await inspect(repo)) == {"nov21", "nov22"}


class TestApply:
    async def test_a_candidate_is_a_commit_that_the_user_can_see(self, repo: Path) -> None:
        repository = await opened(repo)
        candidate = await repository.apply(
            3, head(repo), replace("train.py", "lr = 1", "lr = 2\nmore = 3", "raise it\nx")
        )
        assert git(repo, "show", f"{candidate.commit}:train.py") == "lr = 2\nmore = 3\nsteps = 2\nwidth = 3"
        assert git(repo, "rev-parse", "refs/autoresearch/t/trials/3") == candidate.commit
        assert candidate.tree == git(repo, "rev-parse", f"{candidate.commit}^{{tree}}")
        assert (candidate.added, candidate.removed) == (2, 1)
        assert git(repo, "log", "-1", "--format=%s|%an", candidate.commit) == "raise it|Ada"
        assert "+lr = 2" in await repository.diff(candidate.commit, head(repo))

    async def test_any_name_and_any_bytes(self, repo: Path) -> None:
        repository = await opened(repo)
        change = Change(
            "",
            (
                Edit(ODD, old="odd = 1", new="odd = 2"),
                Edit("data/bytes.bin", old="x", new="y\udcff"),
                Edit("src/nëw\n'1'.py", content=""),
            ),
        )
        commit = (await repository.apply(1, head(repo), change)).commit
        tree = repository.tree(commit)
        assert await tree.read(ODD) == b"odd = 2\n"
        assert await tree.read("data/bytes.bin") == b"\xff\xfe\x00y\xff\n"
        assert await tree.read("src/nëw\n'1'.py") == b""

    async def test_modes_stay_and_folders_come_and_go(self, repo: Path) -> None:
        repository = await opened(repo)
        edits = (
            Edit("run.sh", old="echo 1", new="echo 2"),
            Edit("src/model.py", delete=True),
            Edit("src/model.py/deep.py", content="x\n"),
        )
        commit = (await repository.apply(1, head(repo), Change("", edits))).commit
        listed = git(repo, "ls-tree", "-r", commit, "run.sh", "src/model.py/deep.py")
        assert [line.split()[0] for line in listed.splitlines()] == ["100755", "100644"]

    async def test_a_refused_edit_leaves_no_ref(self, repo: Path) -> None:
        repository = await opened(repo)
        cases = [
            (Edit("README.md", content="x"), Reason.OUT_OF_SCOPE),
            (Edit("link", content="x"), Reason.OUT_OF_SCOPE),
            (Edit("../x", content="x"), Reason.OUT_OF_SCOPE),
            (Edit("src/../README.md", content="x"), Reason.OUT_OF_SCOPE),
            (Edit("/etc/passwd", content="x"), Reason.OUT_OF_SCOPE),
            (Edit("src/.git/config", content="x"), Reason.OUT_OF_SCOPE),
            (Edit("src/.GIT/config", content="x"), Reason.OUT_OF_SCOPE),
            (Edit("src/.g\u200cit/config", content="x"), Reason.DOES_NOT_APPLY),
            (Edit("src/Model.py", content="x"), Reason.OUT_OF_SCOPE),
            (Edit("src/model.py/x", content="x"), Reason.DOES_NOT_APPLY),
            (Edit("src", content="x"), Reason.OUT_OF_SCOPE),
            (Edit("src/none.py", delete=True), Reason.DOES_NOT_APPLY),
            (Edit("train.py", old="nowhere", new="x"), Reason.DOES_NOT_APPLY),
            (Edit("src/\ud800", content="x"), Reason.OUT_OF_SCOPE),
        ]
        for edit, reason in cases:
            with pytest.raises(ChangeRejected) as caught:
                await repository.apply(1, head(repo), Change("", (Edit("train.py", old="lr = 1", new="lr = 5"), edit)))
            assert caught.value.reason is reason, edit
        assert git(repo, "for-each-ref", "refs/autoresearch") == ""

    async def test_links_and_submodules_in_scope_stay(self, repo: Path) -> None:
        git(repo, "update-index", "--add", "--cacheinfo", f"160000,{head(repo)},src/sub")
        (repo / "src/to").symlink_to("/tmp")
        git(repo, "add", "src/to")
        git(repo, "commit", "-q", "-m", "more")
        repository = await opened(repo)
        for path in ("src/to", "src/to/x", "src/sub", "src/sub/x"):
            with pytest.raises(ChangeRejected) as caught:
                await repository.apply(1, head(repo), Change("", (Edit(path, content="x"),)))
            assert caught.value.reason is Reason.OUT_OF_SCOPE

    async def test_again_is_the_same_and_another_becomes_an_attempt(self, repo: Path) -> None:
        repository = await opened(repo)
        first = await repository.apply(1, head(repo), replace("train.py", "lr = 1", "lr = 2"))
        before = git(repo, "for-each-ref")
        assert await repository.apply(1, head(repo), replace("train.py", "lr = 1", "lr = 2")) == first
        assert git(repo, "for-each-ref") == before
        second = await repository.apply(1, head(repo), replace("train.py", "lr = 1", "lr = 3"))
        third = await repository.apply(1, head(repo), replace("train.py", "lr = 1", "lr = 4"))
        names = ("attempts/1-0", "attempts/1-1", "trials/1")
        found = [git(repo, "rev-parse", f"refs/autoresearch/t/{name}") for name in names]
        assert found == [first.commit, second.commit, third.commit]

    async def test_eight_at_once(self, repo: Path) -> None:
        repository = await opened(repo)
        found: dict[int, Candidate] = {}

        async def apply(trial: int) -> None:
            found[trial] = await repository.apply(
                trial, head(repo), replace("train.py", "lr = 1", f"lr = {trial + 10}")
            )

        async with anyio.create_task_group() as group:
            for trial in range(8):
                group.start_soon(apply, trial)
        for trial, candidate in found.items():
            assert git(repo, "rev-parse", f"refs/autoresearch/t/trials/{trial}") == candidate.commit
            assert (
                await repository.tree(candidate.commit).read("train.py")
                == f"lr = {trial + 10}\nsteps = 2\nwidth = 3\n".encode()
            )
        git(repo, "fsck", "--strict")


class TestMerge:
    async def test_a_change_moves_onto_a_newer_incumbent(self, repo: Path) -> None:
        repository = await opened(repo)
        base = head(repo)
        await repository.start_branch(base)
        left = await repository.apply(1, base, replace("src/model.py", "a = 1", "a = 10\naa = 11", "left"))
        right = await repository.apply(2, base, replace("src/model.py", "e = 5", "e = 50", "right"))
        tip = await repository.land(1, left.commit, base, "left")
        merged = await repository.merge(2, right.commit, base, tip)
        assert merged is not None
        assert (
            await repository.tree(merged.commit).read("src/model.py")
            == b"a = 10\naa = 11\nb = 2\nc = 3\nd = 4\ne = 50\n"
        )
        assert (merged.added, merged.removed) == (1, 1)
        assert git(repo, "rev-parse", f"{merged.commit}^") == tip
        assert git(repo, "log", "-1", "--format=%s", merged.commit) == "right"
        assert git(repo, "rev-parse", "refs/autoresearch/t/attempts/2-0") == right.commit
        assert await repository.merge(2, right.commit, base, tip) == merged

    async def test_the_parent_need_not_be_on_the_branch(self, repo: Path) -> None:
        repository = await opened(repo)
        base = head(repo)
        parent = await repository.apply(1, base, replace("src/model.py", "a = 1", "a = 100"))
        child = await repository.apply(2, parent.commit, replace("src/model.py", "e = 5", "e = 50"))
        other = await repository.apply(3, base, replace("train.py", "lr = 1", "lr = 9"))
        merged = await repository.merge(2, child.commit, parent.commit, other.commit)
        assert merged is not None
        # The parent's own change (a = 100) is no part of what moves.
        assert await repository.tree(merged.commit).read("src/model.py") == b"a = 1\nb = 2\nc = 3\nd = 4\ne = 50\n"

    async def test_neighbouring_lines_do_not_conflict(self, repo: Path) -> None:
        repository = await opened(repo)
        one = await repository.apply(1, head(repo), replace("train.py", "lr = 1", "lr = 2"))
        two = await repository.apply(2, head(repo), replace("train.py", "steps = 2", "steps = 5"))
        merged = await repository.merge(2, two.commit, head(repo), one.commit)
        assert merged is not None
        assert (merged.added, merged.removed) == (1, 1)
        assert git(repo, "show", f"{merged.commit}:train.py") == "lr = 2\nsteps = 5\nwidth = 3"

    async def test_a_conflict_is_none(self, repo: Path) -> None:
        repository = await opened(repo)
        one = await repository.apply(1, head(repo), replace("train.py", "lr = 1", "lr = 2"))
        two = await repository.apply(2, head(repo), replace("train.py", "lr = 1", "lr = 3"))
        assert await repository.merge(2, two.commit, head(repo), one.commit) is None
        assert git(repo, "rev-parse", "refs/autoresearch/t/trials/2") == two.commit


class TestBranch:
    async def landed(self, repository: GitRepository, trial: int, expected: str, value: int) -> str:
        candidate = await repository.apply(trial, expected, Change("", (Edit("train.py", content=f"lr = {value}\n"),)))
        return await repository.land(trial, candidate.commit, expected, f"keep {value}")

    async def test_keeps_are_commits_of_the_user_unsigned_and_linear(self, repo: Path) -> None:
        git(repo, "config", "commit.gpgsign", "true")
        git(repo, "config", "user.signingkey", "nobody")
        repository = await opened(repo)
        base = head(repo)
        await repository.start_branch(base)
        assert git(repo, "rev-parse", "autoresearch/t") == base
        one = await self.landed(repository, 1, base, 2)
        two = await self.landed(repository, 2, one, 3)
        for name in ("refs/heads/autoresearch/t", "refs/autoresearch/t/tip", "refs/autoresearch/t/trials/2"):
            assert git(repo, "rev-parse", name) == two
        assert (
            git(repo, "log", "--format=%s|%an|%cn|%G?", "main..autoresearch/t") == "keep 3|Ada|Ada|N\nkeep 2|Ada|Ada|N"
        )
        # Done twice: the same commit, the same refs.
        before = git(repo, "for-each-ref")
        assert await repository.land(2, "refs/autoresearch/t/attempts/2-0", one, "keep 3") == two
        await repository.start_branch(base)
        assert git(repo, "for-each-ref") == before

    async def test_without_an_identity(self, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        repository = await opened(repo)
        await repository.start_branch(head(repo))
        tip = await self.landed(repository, 1, head(repo), 2)
        assert git(repo, "log", "-1", "--format=%an <%ae>", tip) == "autoresearch <autoresearch@localhost>"

    async def test_racing_landings_have_one_winner(self, repo: Path) -> None:
        base = head(repo)
        repositories = [await opened(repo) for _ in range(4)]
        await repositories[0].start_branch(base)
        won, lost = list[str](), list[BranchLost]()

        async def race(trial: int) -> None:
            try:
                won.append(await self.landed(repositories[trial % 4], trial, base, trial + 10))
            except BranchLost as error:
                lost.append(error)

        async with anyio.create_task_group() as group:
            for trial in range(8):
                group.start_soon(race, trial)
        assert (len(won), len(lost)) == (1, 7)
        assert git(repo, "rev-parse", "autoresearch/t") == won[0]

    async def test_a_checked_out_branch_waits_and_follows(self, repo: Path) -> None:
        repository = await opened(repo)
        base = head(repo)
        await repository.start_branch(base)
        git(repo, "checkout", "-q", "autoresearch/t")
        one = await self.landed(repository, 1, base, 2)
        assert (head(repo), git(repo, "status", "--porcelain")) == (base, "")
        assert git(repo, "rev-parse", "refs/autoresearch/t/tip") == one
        two = await self.landed(repository, 2, one, 3)
        assert head(repo) == base
        git(repo, "checkout", "-q", "main")
        await repository.start_branch(base)
        assert git(repo, "rev-parse", "autoresearch/t") == two
        assert git(repo, "status", "--porcelain") == ""

    async def test_a_linked_worktree_holds_the_branch_too(self, repo: Path, tmp_path: Path) -> None:
        repository = await opened(repo)
        base = head(repo)
        await repository.start_branch(base)
        git(repo, "worktree", "add", "-q", str(tmp_path / "linked"), "autoresearch/t")
        one = await self.landed(repository, 1, base, 2)
        assert git(repo, "rev-parse", "autoresearch/t") == base
        git(repo, "worktree", "remove", str(tmp_path / "linked"))
        await self.landed(repository, 2, one, 3)
        assert git(repo, "log", "--format=%s", "main..autoresearch/t") == "keep 3\nkeep 2"

    async def test_a_moved_or_deleted_branch_is_lost(self, repo: Path) -> None:
        repository = await opened(repo)
        base = head(repo)
        await repository.start_branch(base)
        one = await self.landed(repository, 1, base, 2)
        for spoil in (("branch", "-f", "autoresearch/t", base), ("branch", "-D", "autoresearch/t")):
            git(repo, *spoil)
            before = git(repo, "for-each-ref", "refs/heads", "refs/autoresearch/t/tip")
            with pytest.raises(BranchLost):
                await repository.start_branch(base)
            with pytest.raises(BranchLost):
                await self.landed(repository, 2, one, 3)
            assert git(repo, "for-each-ref", "refs/heads", "refs/autoresearch/t/tip") == before
        git(repo, "branch", "-f", "autoresearch/t", one)
        await self.landed(repository, 2, one, 3)

    async def test_a_foreign_branch_is_not_taken_over(self, repo: Path) -> None:
        repository = await opened(repo)
        git(repo, "branch", "autoresearch/t", git(repo, "commit-tree", "HEAD^{tree}", "-m", "other"))
        with pytest.raises(BranchLost):
            await repository.start_branch(head(repo))
        assert git(repo, "for-each-ref", "refs/autoresearch") == ""

    @pytest.mark.parametrize("killed_after", [1, 2])
    async def test_a_start_that_was_killed_is_completed(self, repo: Path, killed_after: int) -> None:
        for name in ("refs/autoresearch/t/tip", "refs/heads/autoresearch/t")[:killed_after]:
            git(repo, "update-ref", name, "HEAD")
        repository = await opened(repo)
        await repository.start_branch(head(repo))
        await self.landed(repository, 1, head(repo), 2)

    async def test_locks_of_a_killed_git_are_removed(self, repo: Path) -> None:
        base = head(repo)
        await (await opened(repo)).start_branch(base)
        for name in ("heads/autoresearch/t", "autoresearch/t/tip", "autoresearch/t/trials/1"):
            write(repo, {f".git/refs/{name}.lock": ""})
        async with await opened(repo) as repository:
            tip = await self.landed(repository, 1, base, 2)
        assert git(repo, "rev-parse", "autoresearch/t") == tip

    async def test_a_landing_that_was_killed_is_completed(self, repo: Path) -> None:
        repository = await opened(repo)
        base = head(repo)
        await repository.start_branch(base)
        one = await self.landed(repository, 1, base, 2)
        # As if the process had died after the tip moved, and before anything else did.
        git(repo, "update-ref", "refs/heads/autoresearch/t", base)
        git(repo, "update-ref", "refs/autoresearch/t/branch", base)
        git(repo, "update-ref", "-d", "refs/autoresearch/t/trials/1")
        assert await self.landed(repository, 1, base, 2) == one
        assert git(repo, "rev-parse", "autoresearch/t", "refs/autoresearch/t/trials/1").split() == [one, one]


class TestWorktrees:
    async def test_a_reset_restores_and_removes_all_but_what_is_kept(self, repo: Path) -> None:
        async with await opened(repo) as repository:
            commit = (await repository.apply(1, head(repo), replace("train.py", "lr = 1", "lr = 2"))).commit
            worktree = await repository.worktree("slot-0")
            assert (worktree / "train.py").read_text().startswith("lr = 1")
            write(worktree, {"node_modules/x": "", "src/node_modules/y": "", "build [1]/made": "", "src/made .so": ""})
            keep = ("node_modules", *await repository.untracked(worktree))
            write(worktree, {"stray": "", "ignored/x": "", "src/a.log": "", "README.md": "changed", "nested/f": ""})
            git(worktree / "nested", "init", "-q", ".")
            (worktree / "src/model.py").unlink()
            (worktree / "src/model.py").mkdir()
            write(worktree, {"src/model.py/x": "in the way"})
            (worktree / "run.sh").chmod(0o644)
            await repository.reset(worktree, commit, keep)
            assert (worktree / "train.py").read_text().startswith("lr = 2")
            assert (worktree / "README.md").read_text() == "read me\n"
            assert os.access(worktree / "run.sh", os.X_OK)
            kept = {"node_modules/x", "src/node_modules/y", "build [1]/made", "src/made .so"}
            there = {str(path.relative_to(worktree)) for path in worktree.rglob("*") if path.is_file()}
            assert there == {*FILES, "run.sh", ".gitignore", ".git", "link", *kept}
            assert git(worktree, "status", "--porcelain", "--untracked-files=no") == ""
            assert git(worktree, "rev-parse", "HEAD") == commit
            await repository.reset(worktree, commit)
            assert not (worktree / "node_modules").exists()

    async def test_commits_made_later_are_reached_and_git_works_inside(self, repo: Path) -> None:
        async with await opened(repo) as repository:
            worktree = await repository.worktree("slot-0")
            assert git(worktree, "log", "-1", "--format=%s") == "base"
            git(worktree, "checkout", "-q", "-b", "mine")
            write(worktree, {"src/x.py": "x"})
            git(worktree, "add", "-A")
            git(worktree, "commit", "-q", "-m", "an agent commits")
            commit = (await repository.apply(1, head(repo), replace("train.py", "lr = 1", "lr = 2"))).commit
            await repository.reset(worktree, commit)
            assert git(worktree, "status", "--porcelain", "--branch") == "## HEAD (no branch)"
            assert not (worktree / "src/x.py").exists()

    async def test_nothing_written_into_a_worktree_has_a_say_in_its_reset(self, repo: Path, tmp_path: Path) -> None:
        async with await opened(repo) as repository:
            worktree = await repository.worktree("slot-0")
            spy = f"touch '{tmp_path / 'spied'}'"
            git(worktree, "config", "core.fsmonitor", spy)
            git(worktree, "config", "filter.spy.smudge", spy)
            git(worktree, "update-index", "--assume-unchanged", "README.md")
            write(worktree, {"README.md": "changed", ".git-own/x": ""})
            (worktree / ".git").unlink()
            git(worktree, "init", "-q", ".")
            write(worktree, {".git/info/attributes": "* filter=spy\n"})
            git(worktree, "config", "core.fsmonitor", spy)
            (tmp_path / "spied").unlink()
            await repository.reset(worktree, head(repo))
            assert (worktree / "README.md").read_text() == "read me\n"
            assert (worktree / ".git").is_file()
            assert not (tmp_path / "spied").exists()
            assert git(worktree, "status", "--porcelain") == ""

    async def test_a_link_in_place_of_git_is_not_written_through(self, repo: Path, tmp_path: Path) -> None:
        async with await opened(repo) as repository:
            worktree = await repository.worktree("slot-0")
            write(tmp_path, {"precious": "mine"})
            (worktree / ".git").unlink()
            (worktree / ".git").symlink_to(tmp_path / "precious")
            await repository.reset(worktree, head(repo))
            assert (tmp_path / "precious").read_text() == "mine"

    async def test_locks_half_made_and_vanished_worktrees_are_repaired(self, repo: Path) -> None:
        async with await opened(repo) as repository:
            worktree = await repository.worktree("slot-0")
        bare = worktree.parent / "repository.git"
        admin = bare / "worktrees/slot-0"
        for path in (admin / "index.lock", admin / "HEAD.lock", bare / "config.lock", bare / "HEAD.lock"):
            path.write_text("")
        (worktree.parent / "indexes/slot-0.lock").write_text("")
        (worktree.parent / "indexes/slot-0").write_bytes(b"broken")
        (admin / "commondir").write_text("")
        (bare / "HEAD").write_text("")
        async with await opened(repo) as repository:
            again = await repository.worktree("slot-0")
            assert again == worktree and git(worktree, "status", "--porcelain") == ""
            for path in sorted(worktree.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            worktree.rmdir()
            await repository.reset(worktree, head(repo))
            assert git(worktree, "status", "--porcelain") == ""

    async def test_a_machine_that_cannot_is_a_lost_slot(self, repo: Path) -> None:
        async with await opened(repo) as repository:
            worktree = await repository.worktree("slot-0")
            with pytest.raises(RepositoryError, match="has no commit"):
                await repository.reset(worktree, "1" * 40)
            indexes = worktree.parent / "indexes"
            for path in indexes.iterdir():
                path.unlink()
            indexes.rmdir()
            indexes.write_text("no folder")
            with pytest.raises(SlotLost, match="slot-0"):
                await repository.reset(worktree, head(repo))

    async def test_line_ends_follow_the_users_settings(self, repo: Path) -> None:
        git(repo, "config", "core.autocrlf", "true")
        async with await opened(repo) as repository:
            worktree = await repository.worktree("slot-0")
            assert (worktree / "train.py").read_bytes() == b"lr = 1\r\nsteps = 2\r\nwidth = 3\r\n"
            async with repository.checkout(head(repo)) as edited:
                (edited / "train.py").write_bytes(b"lr = 1\r\nsteps = 2\r\nwidth = 4\r\n")
                assert await repository.difference(edited, head(repo)) == (
                    Edit("train.py", content="lr = 1\nsteps = 2\nwidth = 4\n"),
                )

    async def test_eight_worktrees_at_once(self, repo: Path) -> None:
        async with await opened(repo) as repository, anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(repository.worktree, f"slot-{number}")
        bare = next((repo.parent / "cache/autoresearch-worktrees").glob("*/t/repository.git"))
        assert len(git(bare, "worktree", "list").splitlines()) == 9
        git(bare, "fsck")


class TestEditWorktrees:
    async def test_the_difference_is_what_the_files_say(self, repo: Path) -> None:
        async with await opened(repo) as repository, repository.checkout(head(repo)) as worktree:
            write(worktree, {"src/model.py": b"\xff\n", "src/new é.py": "n", "ignored/x": "", "a.log": ""})
            (worktree / "train.py").unlink()
            git(worktree, "add", "src/model.py")
            git(worktree, "commit", "-q", "-m", "an agent commits")
            (worktree / "run.sh").chmod(0o644)
            edits = await repository.difference(worktree, head(repo))
            assert set(edits) == {
                Edit("src/model.py", content="\udcff\n"),
                Edit("src/new é.py", content="n"),
                Edit("train.py", delete=True),
            }
            candidate = await repository.apply(1, head(repo), Change("", edits))
            assert await repository.tree(candidate.commit).read("src/model.py") == b"\xff\n"

    async def test_callers_never_share_and_the_next_one_is_clean(self, repo: Path) -> None:
        async with await opened(repo) as repository:
            async with repository.checkout(head(repo)) as one, repository.checkout(head(repo)) as two:
                assert one != two
                write(one, {"stray": ""})
                write(two, {"stray": ""})
            async with repository.checkout(head(repo)) as again:
                assert again in (one, two) and not (again / "stray").exists()
                assert await repository.difference(again, head(repo)) == ()

    @pytest.mark.parametrize("commits", [0, 1])
    async def test_nested_repositories_are_refused(self, repo: Path, commits: int) -> None:
        async with await opened(repo) as repository, repository.checkout(head(repo)) as worktree:
            write(worktree, {"src/nested/f": ""})
            git(worktree / "src/nested", "init", "-q", ".")
            for _ in range(commits):
                git(worktree / "src/nested", "commit", "-q", "--allow-empty", "-m", "x")
            with pytest.raises(ChangeRejected, match="src/nested: a nested repository") as caught:
                await repository.difference(worktree, head(repo))
            assert caught.value.reason is Reason.OUT_OF_SCOPE

    async def test_links_and_large_files_are_refused(self, repo: Path) -> None:
        async with await opened(repo) as repository, repository.checkout(head(repo)) as worktree:
            (worktree / "src/to").symlink_to("/etc/passwd")
            with pytest.raises(ChangeRejected, match="src/to: a symbolic link"):
                await repository.difference(worktree, head(repo))
            (worktree / "src/to").unlink()
            write(worktree, {"src/large": b"x" * (4 * 1024 * 1024 + 1)})
            with pytest.raises(ChangeRejected, match="src/large: the file is larger"):
                await repository.difference(worktree, head(repo))


class TestTree:
    async def test_files_read_and_search(self, repo: Path) -> None:
        repository = await opened(repo)
        tree = repository.tree(head(repo))
        entries = await tree.files()
        assert [entry.path for entry in entries] == sorted({*FILES, "run.sh", ".gitignore"})
        assert {entry.path: entry.size for entry in entries}["train.py"] == 27
        assert await tree.read("train.py") == b"lr = 1\nsteps = 2\nwidth = 3\n"
        assert await tree.read("link") is None and await tree.read("src") is None and await tree.read("no") is None
        assert await tree.search("^(lr|width) = [0-9]") == ["train.py:1:lr = 1", "train.py:3:width = 3"]
        assert await tree.search("^[a-e] =", limit=2) == ["src/model.py:1:a = 1", "src/model.py:2:b = 2"]
        assert await tree.search("-e nothing") == []
        for pattern in ("(", "", "a\0b"):
            with pytest.raises(ValueError):
                await tree.search(pattern)


class TestUsersRepository:
    @pytest.mark.parametrize("linked", [False, True])
    async def test_it_stays_as_it_was(self, repo: Path, tmp_path: Path, linked: bool) -> None:
        start = repo
        if linked:
            start = tmp_path / "linked"
            git(repo, "worktree", "add", "-q", str(start), "-b", "side")
        write(start, {"train.py": "dirty\n", "src/staged.py": "s", "untracked": "u"})
        git(start, "add", "src/staged.py")
        git(repo, "status")
        before, dirty = snapshot(repo), snapshot(start)
        base = head(start)
        async with await opened(start / "src", scope=["."]) as repository:
            await repository.start_branch(base)
            worktree = await repository.worktree("slot-0")
            candidate = await repository.apply(1, base, replace("src/model.py", "a = 1", "a = 2"))
            await repository.reset(worktree, candidate.commit)
            async with repository.checkout(base) as edited:
                write(edited, {"src/model.py": "new\n"})
                await repository.difference(edited, base)
            await repository.land(1, candidate.commit, base, "keep")
        assert snapshot(repo) == before and snapshot(start) == dirty
        assert git(repo, "fsck", "--strict", "--no-dangling") == ""
        checkout: Checkout = await inspect(start)
        for _ in range(2):
            await forget(checkout, "t", start.parent / "cache")
        assert git(repo, "for-each-ref", "refs/autoresearch") == ""
        assert git(repo, "log", "--format=%s", "-1", "autoresearch/t") == "keep"
        assert not list((start.parent / "cache/autoresearch-worktrees").iterdir())

    async def test_objects_survive_the_users_garbage_collection(self, repo: Path) -> None:
        async with await opened(repo) as repository:
            worktree = await repository.worktree("slot-0")
            candidate = await repository.apply(1, head(repo), replace("train.py", "lr = 1", "lr = 2"))
            git(repo, "gc", "-q", "--prune=now")
            await repository.reset(worktree, candidate.commit)
            assert (worktree / "train.py").read_text().startswith("lr = 2")


async def test_git_does_not_get_the_ctrl_c_that_drains_the_run(repo: Path) -> None:
    """A terminal sends it to the whole process group: git would die under a run that goes on."""
    group = await (await inspect(repo)).store.line("-c", "alias.group=!ps -o pgid= -p $$", "group")
    assert int(group) != os.getpgrp()
