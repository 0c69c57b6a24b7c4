"""The command line as data: which command, which words, which options. Made from RunConfig's fields."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from autoresearch.config import FIELDS, KEYS, WORDS, flag_of
from autoresearch.errors import UsageError
from autoresearch.template import help_text
from autoresearch.version import VERSION

RUN = "run"
"""The command of an invocation that names none."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option that is no setting of a run."""

    flag: str
    help: str
    metavar: str = ""
    later: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """What a command takes: at most `most` words, the settings of a run or not, options of its own."""

    usage: str
    help: str
    most: int = 0
    least: int = 0
    settings: bool = False
    options: tuple[Option, ...] = ()
    later: bool = False


_TAG = Option("--tag", "the run; default: the latest", "TAG")
_ANY = 10_000

COMMANDS: Mapping[str, Command] = {
    RUN: Command("[OBJECTIVE [MEASURE [SCOPE...]]]", "start a run", _ANY, settings=True),
    "check": Command(
        "[OBJECTIVE [MEASURE [SCOPE...]]]",
        "all that can be known before spending on a model",
        _ANY,
        settings=True,
        options=(Option("--aa", "run N candidates that change nothing, and say how many were kept", "N"),),
    ),
    "demo": Command("", "a real run in a temporary repository, no key", settings=True),
    "init": Command("", "write a commented autoresearch.toml"),
    "resume": Command("[TAG]", "go on, or extend a finished run", 1, settings=True),
    "status": Command(
        "[TAG]",
        "where a run stands",
        1,
        options=(
            Option("--json", "as one JSON object"),
            Option("--watch", "again and again", later=True),
        ),
    ),
    "log": Command(
        "[TAG]",
        "all trials, one a line",
        1,
        options=(
            Option("--json", "as JSON lines; each is a line for replay:FILE"),
            Option("--status", "only keep, discard or crash", "S"),
            Option("--reason", "only this reason", "R"),
        ),
    ),
    "show": Command("TRIAL", "one trial: why, diff, measurements, cost", 1, 1, options=(_TAG,)),
    "diff": Command("TRIAL", "one trial's diff", 1, 1, options=(_TAG,)),
    "clean": Command(
        "[TAG]", "remove what ended runs left", 1, options=(Option("--all", "all ended runs of this repository"),)
    ),
    "report": Command("[TAG]", "the run as one HTML file", later=True),
    "serve": Command("[TAG]", "the report, live, on loopback", later=True),
    "finish": Command("[TAG]", "reviewable branches", later=True),
    "stop": Command("", "end a live run from another terminal", later=True),
    "pause": Command("", "pause a live run from another terminal", later=True),
    "hint": Command("TEXT", "tell the proposer something", later=True),
    "replay": Command(
        "TRIAL",
        "measure any trial again, by turns with the baseline",
        1,
        1,
        options=(_TAG, Option("--repeats", "how often each is measured; default: 5", "N")),
    ),
    "skill": Command("install", "the Claude Code skill", later=True),
}


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command line, read."""

    command: str
    words: tuple[str, ...]
    settings: Mapping[str, Any]
    """The run's settings that were given, as texts."""
    options: Mapping[str, Any]
    """The command's own options that were given."""


def parse(argv: Sequence[str]) -> Invocation:
    """Read a command line. `--help` and `--version` print and leave by SystemExit.

    Raises:
        UsageError: an unknown option, a missing value, too few or too many words, or something not available yet.
    """
    name, rest = _command(argv)
    command = COMMANDS[name]
    if command.later:
        raise UsageError(f"{name}: not available yet")
    parser = parser_of(name)
    namespace, unknown = parser.parse_known_intermixed_args(rest)
    given = vars(namespace)
    words = tuple(given.pop("words", ()))
    _check_unknown(parser, unknown, words)
    for option in command.options:
        if option.later and option.flag.lstrip("-") in given:
            raise UsageError(f"{option.flag}: not available yet")
    _check_words(name, command, words)
    settings = {key: value for key, value in given.items() if command.settings and key in KEYS}
    return Invocation(name, words, settings, {key: value for key, value in given.items() if key not in settings})


def commands_table() -> str:
    """The README's table of all commands, in Markdown."""
    rows = ["| command | options of its own | |", "|---|---|---|"]
    for name, command in COMMANDS.items():
        called = " ".join(word for word in ("autoresearch", name if name != RUN else "", command.usage) if word)
        flags = ", ".join(f"`{option.flag} {option.metavar}`".replace(" `", "`") for option in command.options)
        own = ", ".join(part for part in (flags, "those below" if command.settings else "") if part)
        rows.append(f"| `{called}` | {own} | {command.help}{' (not available yet)' if command.later else ''} |")
    return "\n".join(rows) + "\n"


class _Parser(argparse.ArgumentParser):
    """argparse that raises UsageError in the place of leaving, and takes `-1e-3` for a number."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        self._negative_number_matcher = re.compile(r"-\d*\.?\d+(e[+-]?\d+)?$", re.IGNORECASE)

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (?:-\w/)?(\S+): ", r"\1: ", message)
        raise UsageError(re.sub(r"ignored explicit argument.*", "it takes no value", message))


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    command = COMMANDS[name]
    called = "" if name == RUN else f" {name}"
    parser = _Parser(
        prog="autoresearch",
        usage=f"autoresearch{called}{' ' if command.usage else ''}{command.usage} [options]",
        description=_overview() if name == RUN else f"{command.help[0].upper()}{command.help[1:]}.",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=27),
        argument_default=argparse.SUPPRESS,
    )
    parser._optionals.title = "options"
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    if name == RUN:
        parser.add_argument("--version", action="version", version=f"autoresearch {VERSION}")
    for option in command.options:
        told = f"{option.help} (not available yet)" if option.later else option.help
        if option.metavar:
            parser.add_argument(option.flag, metavar=option.metavar, help=told)
        else:
            parser.add_argument(option.flag, action="store_true", help=told)
    if command.settings:
        _add_settings(parser, hide_fixed=name == "resume")
    return parser


def _add_settings(parser: argparse.ArgumentParser, hide_fixed: bool) -> None:
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, field in FIELDS.items():
        metadata = field.metadata
        title = metadata["group"]
        group = groups[title] = groups.get(title) or parser.add_argument_group(title)
        hidden = hide_fixed and metadata["fixed"]
        told = argparse.SUPPRESS if hidden else help_text(field).replace("%", "%%")
        flags = [*([metadata["short"]] if metadata["short"] else []), flag_of(name)]
        if name == "direction":
            either = group.add_mutually_exclusive_group()
            for word, better in (("minimize", "smaller"), ("maximize", "larger")):
                told = argparse.SUPPRESS if hidden else f"{better} is better; default: from the objective's words"
                either.add_argument(f"--{word}", dest=name, action="store_const", const=word, help=told)
        elif name == "network":
            group.add_argument("--network", dest=name, action=argparse.BooleanOptionalAction, help=told)
        elif field.type == "bool":
            group.add_argument(*flags, dest=name, action="store_const", const=not field.default, help=told)
        elif name not in WORDS:
            action = "append" if field.default == () else "store"
            group.add_argument(*flags, dest=name, action=action, metavar=metadata["metavar"], help=told)


def _overview() -> str:
    lines = [
        "Makes a number better while you sleep: tries changes to the files in SCOPE, runs",
        "MEASURE for each, and keeps what is really better on branch autoresearch/TAG.",
        "",
        '  autoresearch "minimize ruff warnings" "ruff check src/ 2>&1 | tail -1" src/',
        "",
        "commands (without one: start a run; `autoresearch COMMAND --help` says more):",
    ]
    for name, command in COMMANDS.items():
        if name != RUN and not command.later:
            lines.append(
                f"  {name + ' ' + command.usage if command.usage != COMMANDS[RUN].usage else name:<23}  {command.help}"
            )
    later = ", ".join(name for name, command in COMMANDS.items() if command.later)
    return "\n".join([*lines, f"not available yet: {later}"])


def _command(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The command that the first word picks, and the arguments without that word."""
    for index in _words(argv):
        if argv[index] in COMMANDS and argv[index] != RUN:
            return argv[index], [*argv[:index], *argv[index + 1 :]]
        break
    return RUN, list(argv)


def _words(argv: Sequence[str]) -> Iterator[int]:
    """Where words stand: arguments that are neither an option nor an option's value."""
    with_value = {option.flag for command in COMMANDS.values() for option in command.options if option.metavar}
    for name, field in FIELDS.items():
        if field.metadata["metavar"]:
            with_value |= {flag_of(name), field.metadata["short"]}
    value_follows = False
    for index, argument in enumerate(argv):
        if not value_follows and (not argument.startswith("-") or " " in argument):
            yield index
        value_follows = not value_follows and argument in with_value


def _check_unknown(parser: argparse.ArgumentParser, unknown: Sequence[str], words: Sequence[str]) -> None:
    flag = next((argument.partition("=")[0] for argument in unknown if argument.startswith("-")), None)
    if flag is None:
        return
    near = get_close_matches(flag, parser._option_string_actions, n=1, cutoff=0.7)
    hint = f"; did you mean `{near[0]}`?" if near else ""
    if not near and len(words) > 1:
        hint = f'; if it belongs to the measure command, quote the whole command: "{words[1]} {flag} ..."'
    raise UsageError(f"unknown option {flag}{hint}")


def _check_words(name: str, command: Command, words: Sequence[str]) -> None:
    if len(words) < command.least:
        raise UsageError(f"{command.usage} is missing: autoresearch {name} {command.usage}")
    if len(words) > command.most:
        raise UsageError(f"too many words after {name}: {' '.join(words[command.most :])}")
