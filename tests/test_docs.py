"""The README says what the program does. `python -m tests.test_docs` writes its generated tables anew."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from autoresearch import arguments, template
from autoresearch.config import KEYS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TABLES = {"commands": arguments.commands_table, "options": template.options_table}
REGION = r"(<!-- {}: [^\n]*-->\n)(.*?)(<!-- end -->)"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def invocations() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("autoresearch ")]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_as_generated(table: str) -> None:
    found = re.search(REGION.format(table), README.read_text(encoding="utf-8"), re.DOTALL)
    assert found and found[2] == TABLES[table](), "run `python -m tests.test_docs`"


@pytest.mark.parametrize("argv", invocations(), ids=" ".join)
def test_what_the_readme_types_is_understood(argv: list[str]) -> None:
    invocation = arguments.parse(argv)
    assert invocation.command == arguments.RUN
    assert len(invocation.words) == 3 or argv == ["--workers", "8"]


def test_the_six_invocations_are_there() -> None:
    assert len({argv[0] for argv in invocations()}) == 7


def test_every_command_flag_and_key_is_named() -> None:
    code = " ".join(re.findall(r"`([^`\n]+)`", README.read_text(encoding="utf-8"))).replace(",", " ").split()
    flags = [flag for name in arguments.COMMANDS for flag in _flags(name)]
    assert not {*arguments.COMMANDS, *KEYS, *flags} - {arguments.RUN} - set(code)


def test_every_flag_that_is_named_exists() -> None:
    named = set(re.findall(r"`(--[\w-]+)", README.read_text(encoding="utf-8")))
    assert named <= {flag for name in arguments.COMMANDS for flag in _flags(name)}


def test_ci_runs_the_commands_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    install, test = (block.strip() for block in blocks("sh") if block.startswith((".venv", "python3")))
    assert install in script and test in script


def _flags(name: str) -> list[str]:
    hidden = {"-h", "--help", "--version"}
    parser = arguments.parser_of(name)
    return [flag for action in parser._actions for flag in action.option_strings if flag not in hidden]


def _write() -> None:
    text = README.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        found = re.search(REGION.format(name), text, re.DOTALL)
        assert found, f"README.md has no place for {name}"
        text = text[: found.start(2)] + table() + text[found.end(2) :]
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _write()
