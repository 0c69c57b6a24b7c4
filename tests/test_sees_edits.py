"""Checkouts whose measurement does not see the edits, as people have them: the start says what is measured instead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.checkouts import Checkout, made

NO_TOOL = "needs {}, which is not installed here"
FAST = {"src/shop/__init__.py": "", "src/shop/prices.py": "TOTAL = 100\n", "src/shop/unused.py": "# nothing\n"}
BENCH = {"bench.py": "from shop.prices import TOTAL\nprint('total:', TOTAL)\n"}


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")
    (home / "gitconfig").write_text("[user]\n\tname = Jo\n\temail = jo@example.org\n")
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TERM") if name in os.environ}
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "GIT_CONFIG_GLOBAL": str(home / "gitconfig")}
    return kept | places | {"GIT_OPTIONAL_LOCKS": "0", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, env: Mapping[str, str]) -> Checkout:
    """A package with a src layout, and a script that uses one of its files."""
    return made(tmp_path_factory, env, FAST | BENCH)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment's, outside of any checkout and not on PATH."""
    folder = tmp_path_factory.mktemp("venv") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def words(measure: str, *more: str) -> tuple[str, ...]:
    return ("minimize total", measure, "src", "--yes", "--workers", "2", *more)


def site(python: Path) -> Path:
    (found,) = python.parent.parent.glob("lib/python*/site-packages")
    return found


def test_a_copy_that_was_installed_is_named_and_so_is_the_way_out(shop: Checkout, python: Path) -> None:
    copy = site(python) / "shop"
    shutil.copytree(shop.root / "src" / "shop", copy)
    try:
        said = shop.refuse(*words(f"{python} bench.py", "--proposer", "mutate"))
    finally:
        shutil.rmtree(copy)
    assert "the measurement does not see the edits" in said
    assert "it gave 100, as on the unchanged code" in said
    assert f"imports `shop` from {copy}/__init__.py, an installed copy" in said
    assert "`PYTHONPATH=src`" in said
    assert len(said.splitlines()) <= 12


def test_an_editable_install_of_an_interpreter_that_only_the_command_names_is_told(
    shop: Checkout, python: Path
) -> None:
    pth = site(python) / "shop.pth"
    pth.write_text(f"{shop.root}/src\n")
    said = shop.refuse("check", *words(f"{python} bench.py"))
    assert f"imports `shop` from {shop.root}/src/shop/__init__.py, in your checkout" in said
    assert "begin the command with `PYTHONPATH=src`" in said
    mended = shop.do("check", *words(f"PYTHONPATH=src {python} bench.py"))
    pth.unlink()
    assert mended.code == 0
    assert "Canary noticed (crash, exit 1)" in mended.plan


def test_pythonpath_that_leads_into_the_checkout_is_led_to_the_slot_or_refused(shop: Checkout, python: Path) -> None:
    said = shop.refuse(*words(f"PYTHONPATH={shop.root}/src {python} bench.py", "--proposer", "mutate"))
    assert f"the command names {shop.root}/src, in your checkout: write it relative" in said
    outer = Checkout(shop.root, {**shop.env, "PYTHONPATH": f"{shop.root}/src"})
    assert "Canary noticed" in outer.do("check", *words(f"{python} bench.py")).plan


def test_files_that_do_not_matter_are_named_and_refuse_nothing(shop: Checkout, python: Path) -> None:
    said = shop.do("check", *words(f"PYTHONPATH=src {python} bench.py"))
    assert said.code == 0
    assert "these files of the scope do not change the measurement: src/shop/unused.py" in said.plan


def test_no_canary_starts_all_the_same_and_the_plan_says_so(shop: Checkout) -> None:
    said = shop.do("check", *words("echo total: 5", "--no-canary"))
    assert said.code == 0
    assert "Canary off (--no-canary)" in said.plan
    assert "could not be told" in shop.refuse("check", *words("echo total: 5"))


@pytest.mark.skipif(shutil.which("node") is None, reason=NO_TOOL.format("node"))
def test_a_linked_workspace_of_node_is_told(tmp_path_factory: pytest.TempPathFactory, env: Mapping[str, str]) -> None:
    files = {
        "package.json": '{"name": "root", "private": true, "workspaces": ["packages/*"]}\n',
        "packages/core/package.json": '{"name": "@shop/core", "version": "1.0.0", "main": "index.js"}\n',
        "packages/core/index.js": "module.exports = 42\n",
        "bench.js": 'console.log("total:", require("@shop/core"))\n',
        ".gitignore": "node_modules\n",
    }
    checkout = made(tmp_path_factory, env, files)
    (checkout.root / "node_modules" / "@shop").mkdir(parents=True)
    (checkout.root / "node_modules" / "@shop" / "core").symlink_to("../../packages/core")
    given = ("check", "minimize total", "node bench.js", "packages/core/index.js", "--workers", "1")
    said = checkout.refuse(*given, "--link", "node_modules")
    assert f"node_modules leads `@shop/core` to {checkout.root}/packages/core, in your checkout" in said
    assert "--link" in said
    assert "Canary noticed" in checkout.do(*given).plan


@pytest.mark.skipif(shutil.which("cc") is None, reason=NO_TOOL.format("cc"))
def test_a_target_folder_that_all_slots_share_is_told(
    tmp_path_factory: pytest.TempPathFactory, env: Mapping[str, str]
) -> None:
    target = tmp_path_factory.mktemp("target")
    files = {
        "size.c": '#include <stdio.h>\nint main(void) { printf("total: 42\\n"); return 0; }\n',
        "Makefile": f"{target}/size: size.c\n\tcc -o {target}/new size.c\n\tmv {target}/new {target}/size\n",
    }
    checkout = made(tmp_path_factory, env, files)
    said = checkout.refuse("check", "minimize total", f"make -s; {target}/size", "size.c", "--workers", "1")
    assert f"Makefile:1 names {target}/size, which your checkout and all slots share" in said
