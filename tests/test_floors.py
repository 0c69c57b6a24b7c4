"""Holds the floors: imports point down, pure floors stay pure, each heavy package is imported in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

FLOORS = {
    0: "errors version",
    1: """metric constraints objective quantities tools trial events scope edits merging plain values load distributions
          noise""",
    2: "config protocols brief snapshot plan template record",
    3: """acceptance population schedule budget prompt tried reply state actions
          results dealing comparison""",
    4: """coordinator repository checkout plumbing canaries worktrees store schema history sandbox supervisor devices
          settings measurers proposers views testing""",
    5: "launch noop remeasure passing takeover session approval wiring planning demo cli arguments __main__ __init__",
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names.split()}
GIT = {"repository", "checkout", "plumbing", "canaries", "worktrees"}
SIDEWAYS = {
    "measurers": {"sandbox", "devices", *GIT},
    "proposers": {"sandbox", "devices", *GIT},
    **dict.fromkeys(GIT, GIT),
    "store": {"schema"},
    "history": {"schema"},
    "sandbox": {"supervisor"},
}
"""What a module of floor 4 may import of floor 4."""
IMPURE = {"anyio", "asyncio", "os", "random", "shutil", "signal", "socket", "sqlite3", "subprocess", "tempfile", "time"}
ONLY_IN = {
    "anthropic": {"proposers.claude"},
    "git": {"plumbing"},
    "aiosqlite": {"store"},
    "rich": {"views", "cli"},
}

PACKAGE = Path(__file__).parent.parent / "autoresearch"
MODULES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Every imported name, dotted; what is imported for type checking alone is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def within(names: Iterator[str]) -> set[str]:
    """The parts of the package among imported names: modules of its top folder, or folders."""
    return {name.split(".")[1] for name in names if name.startswith("autoresearch.")}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    part = module.split(".")[0]
    assert part in FLOOR, f"{module}: say which floor it is on, in FLOORS"
    for used in within(imports(tree(module))) - {part}:
        assert used in FLOOR, f"{module} imports {used}, which has no floor"
        assert FLOOR[used] <= FLOOR[part], f"{module} (floor {FLOOR[part]}) imports {used} (floor {FLOOR[used]})"
        if FLOOR[used] == FLOOR[part] == 4:
            assert used in SIDEWAYS.get(part, ()), f"{module} imports {used} sideways"


@pytest.mark.parametrize("module", [module for module in MODULES if FLOOR.get(module, 9) <= 3])
def test_pure_floors_have_no_world(module: str) -> None:
    found = {name for name in imports(tree(module)) if name.split(".")[0] in IMPURE}
    assert found <= {"random.Random"}
    called = {ast.unparse(node.func) for node in ast.walk(tree(module)) if isinstance(node, ast.Call)}
    assert not called & {"open", "print", "input"}


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_have_one_place(module: str) -> None:
    for name in imports(tree(module)):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or {module, module.split(".")[0]} & allowed, f"{module} imports {name}"


@pytest.mark.parametrize("module", ["cli", "arguments", "settings", "history"])
def test_commands_that_only_look_start_at_once(module: str) -> None:
    top_level: list[ast.stmt] = [node for node in tree(module).body if isinstance(node, ast.Import | ast.ImportFrom)]
    slow = {"anyio", "git", "rich", "aiosqlite", "anthropic", "pydantic"}
    names = set(imports(ast.Module(top_level, [])))
    assert not {name.split(".")[0] for name in names} & slow
    assert "autoresearch.launch" not in names
