from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from autoresearch.errors import SlotLost, UsageError
from autoresearch.measurers.carry import CarryPlan, How, carry_into, make_plan
from autoresearch.measurers.copying import Copier
from autoresearch.measurers.environment import measurement_env, setup_env
from autoresearch.protocols import Device, Request
from tests.checkouts import begun_by

pytestmark = pytest.mark.anyio

UV = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
needs_uv = pytest.mark.skipif(UV is None, reason="uv is not installed")
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """As of a newcomer's shell: no virtual environment, an own home."""
    (tmp_path / "home").mkdir()
    uv = [str(Path(UV).parent)] if UV else []
    path = os.pathsep.join([*os.environ["PATH"].split(os.pathsep), *uv])
    kept = {name: os.environ[name] for name in ("SSL_CERT_FILE", "UV_CACHE_DIR") if name in os.environ}
    return kept | {
        "PATH": path,
        "HOME": str(tmp_path / "home"),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "A",
        "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "A",
        "GIT_COMMITTER_EMAIL": "a@example.com",
    }


def run(*command: str, cwd: Path, env: Mapping[str, str]) -> str:
    done = subprocess.run(command, cwd=cwd, env=dict(env), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def write(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def commit(root: Path, env: Mapping[str, str]) -> None:
    run("git", "init", "-q", cwd=root, env=env)
    run("git", "add", ".", cwd=root, env=env)
    run("git", "commit", "-qm", "x", cwd=root, env=env)


@pytest.fixture
def checkout(tmp_path: Path, environ: dict[str, str]) -> Path:
    """A repository with a committed file; what else a test writes is untracked."""
    root = tmp_path / "checkout"
    write(root, {"src/code.py": "x = 1\n", ".gitignore": "node_modules\n.venv\n*.env\ndata/\n"})
    commit(root, environ)
    return root


def worktree_of(root: Path, env: Mapping[str, str], name: str = "wt") -> Path:
    """A clone borrows the objects and has no untracked files, as a slot's worktree."""
    target = root.parent / name
    run("git", "clone", "-q", "--shared", str(root), str(target), cwd=root.parent, env=env)
    return target


def plan_of(root: Path, environ: Mapping[str, str], **options: Any) -> CarryPlan:
    asked: dict[str, Any] = {"link": (), "copy": (), "setup": None}
    return make_plan(root, environ=environ, **(asked | options))


class Shell:
    """Runs what setup commands run, with the environment of setup, and remembers it."""

    def __init__(self, environ: Mapping[str, str], checkout: Path) -> None:
        self.environ, self.checkout = environ, checkout
        self.commands: list[str] = []

    async def __call__(self, command: str, folder: Path) -> None:
        self.commands.append(command)
        env = setup_env(self.environ, worktree=folder, slot=0, tag="t", checkout=self.checkout)
        done = await anyio.run_process(["sh", "-c", command], cwd=folder, env=env, check=False)
        if done.returncode:
            raise UsageError(done.stderr.decode())


async def carried(root: Path, environ: Mapping[str, str], **options: Any) -> tuple[Path, CarryPlan]:
    plan, worktree = plan_of(root, environ, **options), worktree_of(root, environ)
    await carry_into(plan, worktree, Shell(environ, root))
    return worktree, plan


def measured(environ: Mapping[str, str], worktree: Path, root: Path, plan: CarryPlan) -> dict[str, str]:
    return measurement_env(
        environ,
        tag="t",
        slot=0,
        device=Device(),
        worktree=worktree,
        tmp=worktree.parent,
        caches=worktree.parent / "caches",
        port=1,
        request=Request(0, "true", 1.0),
        pythonpath=plan.pythonpath,
        checkout=root,
    )


def picture(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a folder: contents, links, modes, times of change."""
    seen: dict[str, tuple[Any, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = Path(folder, name)
            status = path.lstat()
            content = os.readlink(path) if path.is_symlink() else ""
            if path.is_file() and not path.is_symlink():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            seen[str(path.relative_to(root))] = (content, status.st_mode, status.st_mtime_ns, status.st_nlink)
    return seen


def paths(plan: CarryPlan) -> dict[str, How]:
    return {item.path: item.how for item in plan.items}


# What is chosen


def test_node_modules_at_any_depth_and_the_environment_are_carried(checkout: Path, environ: dict[str, str]):
    write(checkout, {
        "node_modules/a/index.js": "1",
        "node_modules/a/node_modules/b/index.js": "2",
        "src/node_modules/c.js": "3",
        ".venv/pyvenv.cfg": "",
        "data/big.bin": "no",
        "local.env": "no",
        ".autoresearch/t/node_modules/x": "no",
    })  # fmt: skip
    plan = plan_of(checkout, environ)
    assert paths(plan) == {".venv": How.COPY, "node_modules": How.COPY, "src/node_modules": How.COPY}
    assert {item.path: item.size_bytes for item in plan.items}["node_modules"] == 2


def test_a_clean_checkout_carries_nothing(checkout: Path, environ: dict[str, str]):
    assert plan_of(checkout, environ).items == ()


def test_committed_node_modules_are_not_carried(tmp_path: Path, environ: dict[str, str]):
    root = tmp_path / "checkout"
    write(root, {"node_modules/a/index.js": "1"})
    commit(root, environ)
    write(root, {"node_modules/a/index.js": "edited", "node_modules/b/index.js": "installed"})
    assert set(paths(plan_of(root, environ))) == {"node_modules/b"}


def test_worktreeinclude_is_read_as_gitignore(checkout: Path, environ: dict[str, str]):
    write(checkout, {
        ".worktreeinclude": "# secrets of the tests\n*.env\n!prod.env\n/data/small/\nsrc/code.py\n",
        "test.env": "1",
        "src/deep.env": "2",
        "prod.env": "3",
        "data/small/x": "4",
        "data/large/x": "5",
        "src/code.py": "edited",
    })  # fmt: skip
    assert set(paths(plan_of(checkout, environ))) == {"test.env", "src/deep.env", "data/small"}


def test_copy_and_link_name_untracked_paths(checkout: Path, environ: dict[str, str]):
    write(checkout, {"data/a": "1", "data/b/c": "2", "src/new.py": "3", "node_modules/x": "4"})
    plan = plan_of(checkout, environ, copy=["data/a", "src"], link=["data/b/", "./node_modules"])
    assert paths(plan) == {
        "data/a": How.COPY,
        "data/b": How.LINK,
        "node_modules": How.LINK,
        "src/new.py": How.COPY,
    }


def test_absolute_paths_and_other_spellings_of_the_checkout_are_understood(checkout: Path, environ: dict[str, str]):
    write(checkout, {"data/a": "1"})
    alias = checkout.parent / "alias"
    alias.symlink_to(checkout)
    environ["PWD"] = str(alias / "src")
    assert paths(plan_of(checkout, environ, copy=[str(alias / "data")])) == {"data": How.COPY}


@pytest.mark.parametrize("flag", ["copy", "link"])
def test_paths_that_cannot_be_carried_are_named(checkout: Path, environ: dict[str, str], flag: str):
    asked = {flag: ["nowhere", "src/code.py", "../outside", "."]}
    with pytest.raises(UsageError) as error:
        plan_of(checkout, environ, **asked)
    for words in (
        f"--{flag}:",
        "nowhere (does not exist)",
        "src/code.py (is committed",
        "../outside (not in",
        ". (not",
    ):
        assert words in str(error.value)


# What arrives


async def test_copies_are_equal_and_the_users_files_untouched(checkout: Path, environ: dict[str, str]):
    write(checkout, {"node_modules/a/run.js": "1", "node_modules/a/deep/x": "2"})
    (checkout / "node_modules/a/run.js").chmod(0o755)
    os.link(checkout / "node_modules/a/deep/x", checkout / "node_modules/a/hard")
    (checkout / "node_modules/a/deep").chmod(0o555)
    os.mkfifo(checkout / "node_modules/pipe")
    before = picture(checkout)
    worktree, _ = await carried(checkout, environ)
    for file in (worktree / "node_modules/a").glob("*.js"):
        file.write_text("changed by a candidate")
    (worktree / "node_modules/a/hard").write_text("changed")
    assert picture(checkout) == before
    copy = picture(worktree / "node_modules")
    del before["node_modules/pipe"]
    assert {f"node_modules/{path}" for path in copy} == {p for p in before if p.startswith("node_modules/")}
    assert copy["a/run.js"][1:] == (*before["node_modules/a/run.js"][1:2], copy["a/run.js"][2], 1)
    assert copy["a/deep/x"][:3] == before["node_modules/a/deep/x"][:3]
    assert copy["a/deep"][1] == before["node_modules/a/deep"][1]


async def test_links_stay_in_the_worktree(checkout: Path, environ: dict[str, str]):
    write(checkout, {"node_modules/a/x": "1", "data/private": "2"})
    outside = checkout.parent / "outside"
    outside.write_text("3")
    links = {
        "workspace": "../src",
        "absolute": str(checkout / "src/code.py"),
        "sibling": str(checkout / "node_modules/a"),
        "uncarried": str(checkout / "data/private"),
        "leaves": "../../outside",
        "elsewhere": "/usr",
        "dangling": "nowhere",
    }
    for name, target in links.items():
        (checkout / "node_modules" / name).symlink_to(target)
    worktree, _ = await carried(checkout, environ)
    assert {name: os.readlink(worktree / "node_modules" / name) for name in links} == {
        "workspace": "../src",
        "absolute": str(worktree / "src/code.py"),
        "sibling": str(worktree / "node_modules/a"),
        "uncarried": str(checkout / "data/private"),
        "leaves": str(outside),
        "elsewhere": "/usr",
        "dangling": "nowhere",
    }


async def test_a_linked_folder_is_copied_not_linked(checkout: Path, environ: dict[str, str]):
    write(checkout.parent, {"store/a/x": "1"})
    (checkout.parent / "store/b").symlink_to("a")
    (checkout / "node_modules").symlink_to(checkout.parent / "store")
    worktree, _ = await carried(checkout, environ)
    (worktree / "node_modules/b/x").write_text("changed")
    assert (checkout.parent / "store/a/x").read_text() == "1"
    assert (worktree / "node_modules/a/x").read_text() == "changed"


async def test_links_lead_to_the_checkout(checkout: Path, environ: dict[str, str]):
    write(checkout, {"data/big/x": "1"})
    worktree, _ = await carried(checkout, environ, link=["data/big"])
    assert os.readlink(worktree / "data/big") == str(checkout / "data/big")


async def test_carrying_again_replaces_what_a_candidate_left(checkout: Path, environ: dict[str, str]):
    write(checkout, {"node_modules/x": "1", "data/x": "2"})
    worktree, plan = await carried(checkout, environ, link=["data"])
    (worktree / "node_modules/x").unlink()
    (worktree / "node_modules").rmdir()
    (worktree / "node_modules").symlink_to(checkout / "src")
    (worktree / "data").unlink()
    write(worktree, {"data/y": "3"})
    await carry_into(plan, worktree, Shell(environ, checkout))
    assert (worktree / "node_modules/x").read_text() == "1"
    assert (worktree / "data").is_symlink()
    assert (checkout / "src/code.py").exists()


async def test_a_reset_keeps_what_was_carried(checkout: Path, environ: dict[str, str]):
    odd = "data/a [1]*?.bin"
    write(checkout, {"node_modules/x": "1", odd: "2", "data/b": "3"})
    worktree, plan = await carried(checkout, environ, copy=[odd])
    write(worktree, {"data/c": "left by a candidate", "src/node_modules/y": "too", "data/a 1x.bin": "too"})
    excludes = [word for pattern in plan.keep for word in ("-e", pattern)]
    run("git", "clean", "-ffdxq", *excludes, cwd=worktree, env=environ)
    left = run("git", "ls-files", "-o", "-z", cwd=worktree, env=environ).strip("\0").split("\0")
    assert sorted(left) == sorted([odd, "node_modules/x"])


async def test_a_file_that_cannot_be_copied_loses_the_slot(checkout: Path, environ: dict[str, str]):
    write(checkout, {"data/x": "1"})
    plan, worktree = plan_of(checkout, environ, copy=["data/x"]), worktree_of(checkout, environ)
    (checkout / "data/x").unlink()
    with pytest.raises(SlotLost, match="data/x cannot be brought into a worktree: No such file"):
        await carry_into(plan, worktree, Shell(environ, checkout))


def test_copying_can_be_cancelled(tmp_path: Path):
    class Cancelled(Exception):
        pass

    def cancel() -> None:
        raise Cancelled

    write(tmp_path, {"from/data/x": "1"})
    (tmp_path / "to").mkdir()
    copier = Copier([str(tmp_path / "from")], tmp_path / "to", ["data"], cancel)
    with pytest.raises(Cancelled):
        copier.copy("data")
    assert not (tmp_path / "to/data/x").exists()


# Python


def editable(site: Path, files: Mapping[str, str]) -> None:
    site.mkdir(parents=True, exist_ok=True)
    write(site, files)


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        ({"__editable__.pkg-1.pth": "{root}/src\n"}, {"src"}),
        ({"easy-install.pth": "/opt/other\n{root}\n"}, {"."}),
        ({"pkg.egg-link": "{root}/src\n../\n"}, {"src"}),
        ({"plain.pth": "# note\nimport sys; sys.x = '{root}'\n{root}/src\n\n"}, {"src"}),
        ({"pkg-1.dist-info/direct_url.json": '{{"url": "file://{root}", "dir_info": {{"editable": true}}}}'}, {"src"}),
        ({"pkg-1.dist-info/direct_url.json": '{{"url": "file://{root}", "dir_info": {{}}}}'}, set()),
        (
            {
                "__editable___pkg_1_finder.py": "MAPPING: dict = {{'code': '{root}/src/code', 'b': '{root}/c'}}\n",
                "pkg-1.dist-info/direct_url.json": '{{"url": "file://{root}", "dir_info": {{"editable": true}}}}',
            },
            {"src"},
        ),
        ({"ours.pth": "{root}-old/src\n", "no.dist-info/direct_url.json": "[]"}, set()),
        ({"ignored.pth": "{root}/data/lib\n"}, set()),
    ],
    ids=["setuptools", "easy-install", "egg-link", "pth", "url", "not editable", "finder", "elsewhere", "ignored"],
)  # fmt: skip
def test_editable_installs_of_the_active_environment_are_found(
    checkout: Path, environ: dict[str, str], files: dict[str, str], folders: set[str]
):
    write(checkout, {"data/lib/x.py": ""})
    active = checkout.parent / "active"
    site = active / "lib/python3.12/site-packages"
    editable(site, {path: text.format(root=checkout) for path, text in files.items()})
    plan = plan_of(checkout, environ | {"VIRTUAL_ENV": str(active), "PATH": "/usr/bin:/bin"})
    assert set(plan.pythonpath) == folders
    assert all(any(str(site) in note and f"`{folder}`" in note for note in plan.notes) for folder in folders)


def test_editable_installs_of_the_python_on_path_are_found(checkout: Path, environ: dict[str, str]):
    venv.create(checkout.parent / "other", symlinks=True)
    [site] = (checkout.parent / "other").glob("lib/python*/site-packages")
    editable(site, {"x.pth": f"{checkout}/src\n"})
    environ["PATH"] = f"{checkout.parent}/other/bin:{environ['PATH']}"
    assert plan_of(checkout, environ).pythonpath == ("src",)


async def test_a_plain_environment_becomes_the_worktrees(checkout: Path, environ: dict[str, str]):
    environment = checkout / ".venv"
    venv.create(environment, symlinks=True)
    [site] = environment.glob("lib/python*/site-packages")
    write(checkout, {"src/pkg/__init__.py": "", "data/lib.py": ""})
    editable(site, {"pkg.pth": f"{checkout}/src\n{checkout}/data\n{checkout}-old/src\n"})
    (environment / "bin/tool").write_text(
        f"{begun_by(environment / 'bin/python')}import pkg, sys; print(pkg.__file__, sys.prefix)\n"
    )
    (environment / "bin/tool").chmod(0o755)
    (environment / "bin/absolute").symlink_to(environment / "bin/python")
    write(checkout, {"src/pkg/__init__.py": ""})
    commit(checkout, environ)
    before = picture(environment)
    environ |= {"VIRTUAL_ENV": str(environment), "PATH": f"{environment}/bin:{environ['PATH']}"}
    worktree, plan = await carried(checkout, environ)
    assert plan.pythonpath == ()
    env = measured(environ, worktree, checkout, plan)
    prefix = worktree / ".venv"
    assert run("tool", cwd=worktree, env=env) == f"{worktree}/src/pkg/__init__.py {prefix}"
    assert os.readlink(prefix / "bin/absolute") == f"{prefix}/bin/python"
    # Only the checkout has the data, so the import of it is left as it was.
    [copied] = prefix.glob("lib/python*/site-packages/pkg.pth")
    assert copied.read_text() == f"{worktree}/src\n{checkout}/data\n{checkout}-old/src\n"
    assert picture(environment) == before


async def test_paths_with_odd_characters_are_relocated(tmp_path: Path, environ: dict[str, str]):
    root = tmp_path / "my check+out"
    write(root, {"src/x": "", ".gitignore": ".venv"})
    commit(root, environ)
    site = root / ".venv/lib/python3.12/site-packages"
    url = '{"url": "file://%s", "dir_info": {"editable": true}}'
    editable(site, {"x.pth": f"{root}/src\n", "x.dist-info/direct_url.json": url % quote(str(root))})
    (root / ".venv/pyvenv.cfg").write_text(f"command = python -m venv {root}/.venv\n")
    worktree, _ = await carried(root, environ)
    copied = worktree / ".venv/lib/python3.12/site-packages"
    assert (copied / "x.pth").read_text() == f"{worktree}/src\n"
    assert (copied / "x.dist-info/direct_url.json").read_text() == url % quote(str(worktree))
    assert (worktree / ".venv/pyvenv.cfg").read_text() == f"command = python -m venv {worktree}/.venv\n"


def test_a_lock_file_beside_the_environment_comes_along(checkout: Path, environ: dict[str, str]):
    write(checkout, {"uv.lock": "", ".venv/pyvenv.cfg": ""})
    assert set(paths(plan_of(checkout, environ))) == {".venv", "uv.lock"}


def test_an_environment_that_uv_makes_in_the_slot_is_kept(checkout: Path, environ: dict[str, str]):
    write(checkout, {"uv.lock": ""})
    plan = plan_of(checkout, environ)
    assert "/.venv" in plan.keep
    assert "run `uv sync` first" in "\n".join(plan.notes)


def test_a_setup_that_installs_into_the_users_environment_is_said(checkout: Path, environ: dict[str, str]):
    environ["VIRTUAL_ENV"] = "/opt/mine"
    assert "/opt/mine" in "\n".join(plan_of(checkout, environ, setup="pip install -e .").notes)
    assert plan_of(checkout, environ, setup="make").notes == ()


PYPROJECT = """\
[project]
name = "pkg"
version = "0.1.0"
requires-python = ">=3.11"
[project.scripts]
tool = "pkg:main"
[build-system]
requires = ["uv_build"]
build-backend = "uv_build"
"""


@needs_uv
async def test_a_packaged_uv_project_imports_the_worktrees_copy(tmp_path: Path, environ: dict[str, str]):
    root = tmp_path / "checkout"
    write(root, {
        "pyproject.toml": PYPROJECT,
        "src/pkg/__init__.py": "def main():\n    print(__file__)\n",
        ".gitignore": ".venv\n__pycache__\n",
    })  # fmt: skip
    environ["UV_CACHE_DIR"] = str(tmp_path / "uv-cache")
    environ["UV_PYTHON"] = sys.executable
    environ["UV_OFFLINE"] = "1"  # uv brings `uv_build` along
    run("uv", "sync", cwd=root, env=environ)
    commit(root, environ)
    (root / ".venv/extra").write_text("the user's own")
    listed, before = run("git", "status", "--porcelain", cwd=root, env=environ), picture(root)

    plan, worktree = plan_of(root, environ), worktree_of(root, environ)
    assert paths(plan) == {".venv": How.REBUILD}
    shell = Shell(environ, root)
    await carry_into(plan, worktree, shell)
    assert len(shell.commands) == 1

    inside = f"{worktree}/src/pkg/__init__.py"
    offline = measured(environ, worktree, root, plan)
    asking = ("uv", "run", "python", "-c", "import pkg; print(pkg.__file__)")
    assert run(*asking, cwd=worktree, env=offline) == inside
    assert run("uv", "run", "tool", cwd=worktree, env=offline) == inside
    assert run(*asking, cwd=worktree, env=offline | {"UV_CACHE_DIR": str(tmp_path / "empty")}) == inside
    (worktree / "pyproject.toml").write_text(PYPROJECT + "# edited by a candidate\n")
    assert run(*asking, cwd=worktree, env=offline) == inside
    assert (worktree / ".venv/extra").exists()
    assert not any(f.stat().st_nlink > 1 for f in (worktree / ".venv").rglob("*") if f.is_file())
    assert picture(root) == before
    assert run("git", "status", "--porcelain", cwd=root, env=environ) == listed


@needs_uv
async def test_where_uv_cannot_rebuild_the_copy_stands(tmp_path: Path, environ: dict[str, str]):
    root = tmp_path / "checkout"
    write(root, {"src/pkg/__init__.py": "", "uv.lock": "broken", ".gitignore": ".venv\n"})
    commit(root, environ)
    venv.create(root / ".venv", symlinks=True)
    [site] = (root / ".venv").glob("lib/python*/site-packages")
    editable(site, {"pkg.pth": f"{root}/src\n"})
    worktree, plan = await carried(root, environ)
    assert paths(plan) == {".venv": How.REBUILD}
    found = run(str(worktree / ".venv/bin/python"), "-c", "import pkg; print(pkg.__file__)", cwd=worktree, env=environ)
    assert found == f"{worktree}/src/pkg/__init__.py"


@needs_npm
async def test_an_npm_workspace_resolves_inside_the_worktree(tmp_path: Path, environ: dict[str, str]):
    root = tmp_path / "checkout"
    write(root, {
        "package.json": '{"name": "root", "private": true, "workspaces": ["packages/*"]}',
        "packages/a/package.json": '{"name": "a", "version": "1.0.0", "dependencies": {"b": "1.0.0"}}',
        "packages/a/index.js": "console.log(require.resolve('b'))",
        "packages/b/package.json": '{"name": "b", "version": "1.0.0"}',
        "packages/b/index.js": "module.exports = 1",
        ".gitignore": "node_modules\n",
    })  # fmt: skip
    run("npm", "install", "--offline", "--no-audit", "--no-fund", cwd=root, env=environ)
    commit(root, environ)
    before = picture(root)
    worktree, plan = await carried(root, environ)
    assert paths(plan) == {"node_modules": How.COPY}
    env = measured(environ, worktree, root, plan)
    assert run("node", "-e", "console.log(require.resolve('b'))", cwd=worktree, env=env) == (
        f"{worktree}/packages/b/index.js"
    )
    assert run("node", "packages/a/index.js", cwd=worktree, env=env) == f"{worktree}/packages/b/index.js"
    assert picture(root) == before
