"""What the package shows: its public names, and what each module is for."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import autoresearch
from autoresearch.version import VERSION

PACKAGE = Path(autoresearch.__file__).parent


def test_the_package_exports_what_exists() -> None:
    for name in autoresearch.__all__:
        assert getattr(autoresearch, name).__doc__
    assert "run" in autoresearch.__all__


def test_the_version_is_a_version() -> None:
    assert all(part.isdecimal() for part in VERSION.split("."))


@pytest.mark.parametrize("path", [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "version.py"], ids=str)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not source or ast.get_docstring(ast.parse(source))
