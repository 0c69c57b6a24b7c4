from __future__ import annotations

from typing import Any

import pytest

from autoresearch.arguments import COMMANDS, RUN, parse, parser_of
from autoresearch.config import FIELDS, WORDS
from autoresearch.errors import UsageError


def test_options_may_stand_anywhere() -> None:
    invocation = parse(["-w8", "minimize x", "--max-trials", "5", "pytest -q", "src/", "--yes", "tests/"])
    assert invocation.command == RUN
    assert invocation.words == ("minimize x", "pytest -q", "src/", "tests/")
    assert invocation.settings == {"workers": "8", "max_trials": "5", "yes": True}


@pytest.mark.parametrize(
    ("argv", "command", "words"),
    [
        (["log", "nov22", "--json"], "log", ("nov22",)),
        (["--json", "log"], "log", ()),
        (["--reason", "exit", "log"], "log", ()),
        (["--tag", "log", "objective"], RUN, ("objective",)),
        (["-w", "8", "check", "minimize x"], "check", ("minimize x",)),
        (["minimize x", "check"], RUN, ("minimize x", "check")),
        (["--max-trials=3", "resume"], "resume", ()),
        (["run"], RUN, ("run",)),
        ([], RUN, ()),
    ],
)
def test_the_first_word_picks_the_command(argv: list[str], command: str, words: tuple[str, ...]) -> None:
    invocation = parse(argv)
    assert (invocation.command, invocation.words) == (command, words)


@pytest.mark.parametrize(
    ("argv", "settings"),
    [
        (["--check", "a", "--check", "b"], {"check": ["a", "b"]}),
        (["--minimize"], {"direction": "minimize"}),
        (["--no-canary"], {"canary": False}),
        (["--no-network"], {"network": False}),
        (["--target", "-1e-3"], {"target": "-1e-3"}),
        (["--target=-2"], {"target": "-2"}),
        (["--metric", "loss: ([0-9.]+)"], {"metric": "loss: ([0-9.]+)"}),
        (["--build", "make -j 4"], {"build": "make -j 4"}),
    ],
)
def test_settings_come_as_they_were_given(argv: list[str], settings: dict[str, Any]) -> None:
    assert parse(argv).settings == settings


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--wrokers", "3"], "unknown option --wrokers; did you mean `--workers`?"),
        (["minimize x", "pytest", "-q", "src/"], "unknown option -q; if it belongs to the measure command, quote"),
        (["--work", "3"], "unknown option --work"),
        (["--workers"], "--workers: expected one argument"),
        (["--json=3"], "--json: it takes no value"),
        (["--minimize", "--maximize"], "--maximize: not allowed with argument --minimize"),
        (["show"], "TRIAL is missing: autoresearch show TRIAL"),
        (["show", "3", "4"], "too many words after show: 4"),
        (["log", "--max-trials", "3"], "unknown option --max-trials"),
        (["init", "here"], "too many words after init: here"),
        (["status", "--watch"], "--watch: not available yet"),
    ],
)
def test_a_mistake_gets_one_line(argv: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(argv)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.later])
def test_later_commands_say_so(name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name}: not available yet$"):
        parse([name, "--now", "word"])


def test_every_setting_has_a_flag() -> None:
    settable = {action.dest for action in parser_of(RUN)._actions}
    assert set(FIELDS) - set(WORDS) <= settable


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = parser_of(name).format_help()
    assert max(map(len, shown.splitlines())) <= 80
    assert "%" not in shown.replace("0.5%", "")
