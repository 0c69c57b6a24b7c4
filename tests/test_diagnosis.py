"""What is told of a measurement that does not see the edits, without a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from autoresearch.measurers.diagnosis import Surroundings, diagnose


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "a checkout"
    root.mkdir()
    return root


def written(root: Path, name: str, text: str = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def around(root: Path, command: str, scope: Sequence[str] = (), prefix: str = "", **environ: str) -> Surroundings:
    worktree = root.parent / "slot-0"
    worktree.mkdir(exist_ok=True)
    env = {"PATH": os.defpath, **environ}
    return Surroundings(root, [str(root)], worktree, [command], scope, prefix=prefix, environ=env)


def test_absolute_paths_into_the_checkout_are_named_with_their_relative_spelling(checkout: Path) -> None:
    command = f"sh {checkout}/run.sh; {checkout}/.venv/bin/python3 -m app -o{checkout}/deep/out {checkout}-other/x"
    assert diagnose(around(checkout, command, prefix="deep")) == [
        f"the command names {checkout}/run.sh, in your checkout: "
        "write it relative to where the run starts, as ../run.sh",
        f"the command names {checkout}/deep/out, in your checkout: write it relative to where the run starts, as out",
    ]


def test_build_files_are_read_too(checkout: Path) -> None:
    written(checkout, "package.json", f'"scripts": {{\n"bench": "node {checkout}/bench.js"}}')
    (line,) = diagnose(around(checkout, "npm run bench"))
    assert line.startswith(f"package.json:2 names {checkout}/bench.js, in your checkout")


@pytest.mark.parametrize("text", ["https://example.org/usr", "a/b", "/usr/bin/env x", "/dev/null", "../up"])
def test_what_is_no_path_or_the_systems_own_is_not_named(checkout: Path, text: str) -> None:
    assert diagnose(around(checkout, f"echo {text}")) == []


def test_folders_that_all_slots_share_are_named(checkout: Path, tmp_path: Path) -> None:
    target = written(tmp_path, "target/app")
    assert diagnose(around(checkout, f"make; {target}", CARGO_TARGET_DIR="/shared")) == [
        "CARGO_TARGET_DIR is /shared, one folder for your checkout and all slots: unset it for the run",
        f"the command names {target}, which your checkout and all slots share: use a path below the worktree",
    ]
    written(tmp_path, "home/.cargo/config.toml", f'[build]\ntarget-dir = "{target.parent}"\n')
    (line,) = diagnose(around(checkout, "cargo run", HOME=str(tmp_path / "home")))
    assert line.startswith(f"~/.cargo/config.toml names {target.parent}, which")


@pytest.mark.parametrize(
    ("file", "elsewhere", "folder"),
    [
        ("src/shop/cart.py", "shop/__init__.py", "src"),
        ("lib/deep/shop/cart.py", "shop/__init__.py", "lib/deep"),
        ("shop.py", "shop.py", "."),
    ],
)
def test_where_python_imports_a_file_of_the_scope_from_is_asked_of_python(
    checkout: Path, tmp_path: Path, file: str, elsewhere: str, folder: str
) -> None:
    if "/" in file:
        written(checkout, f"{os.path.dirname(file)}/__init__.py")
    written(checkout, file)
    copy = written(tmp_path, f"site/{elsewhere}")
    place = around(checkout, f"{sys.executable} bench.py", [file], PYTHONPATH=str(tmp_path / "site"))
    (line,) = diagnose(place)
    assert line.startswith(f"{sys.executable} imports `shop` from {copy}, an installed copy: ")
    assert f"`PYTHONPATH={folder}`" in line
    written(place.worktree, "shop.py")
    seen = around(checkout, f"{sys.executable} bench.py", [file], PYTHONPATH=str(place.worktree))
    assert diagnose(seen) == []


def test_a_flag_that_hides_pythonpath_is_to_blame(checkout: Path, tmp_path: Path) -> None:
    tool = written(tmp_path, "bin/tool", f"#!{sys.executable}\n")
    tool.chmod(0o755)
    (line,) = diagnose(around(checkout, f"{tool} -I", ["json.py"]))
    assert "imports `json` from" in line
    assert line.endswith("-I makes Python ignore PYTHONPATH: leave it out")


def test_links_out_of_node_modules_into_the_checkout_are_named(checkout: Path) -> None:
    core = written(checkout, "packages/core/index.js").parent
    written(checkout, "node_modules/left-pad/index.js")
    (checkout / "node_modules" / "core").symlink_to("../packages/core")
    place = around(checkout, "node bench.js", ["packages/core/index.js"])
    (place.worktree / "node_modules").symlink_to(checkout / "node_modules")
    (line,) = diagnose(place)
    assert line.startswith(f"node_modules leads `core` to {core}, in your checkout: ")
    assert "--link" in line
