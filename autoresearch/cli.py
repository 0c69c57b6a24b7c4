"""The command line: commands, exit codes, and the only place that catches everything.

Exit codes: 0 ended as asked or by a stop condition; 1 the run could not go on; 2 usage, configuration or preflight;
130 the second Ctrl-C. What is slow to import is imported by the commands that need it: `log` must start at once.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from autoresearch import history, template
from autoresearch.arguments import COMMANDS, RUN, Invocation, parse
from autoresearch.config import FIELDS, WORDS, RunConfig, flag_of, merge, read_mapping
from autoresearch.errors import AutoresearchError, UsageError, causes
from autoresearch.settings import TOML_NAME, checkout_top, load
from autoresearch.trial import Outcome, Purpose, Reason
from autoresearch.views import inspect, summary

if TYPE_CHECKING:
    from autoresearch.protocols import Console

T = TypeVar("T")
W = TypeVar("W", bound=StrEnum)
EXAMPLE = 'autoresearch "minimize ruff warnings" "ruff check src/ 2>&1 | tail -1" "src/"'
_MOST_LINES = 12
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE}
"""Errors of the machine that the user can mend: a full disk, a folder that may not be written."""


def entry() -> None:
    """The console script."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Act on a command line and return the exit code. Nothing is raised; no traceback reaches the screen."""
    try:
        code = _act(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output left, as `head` does. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:  # noqa: BLE001 - the one place that turns any end into an exit code
        return _exit_code(error)


def _act(argv: Sequence[str]) -> int:
    try:
        invocation = parse(argv)
    except SystemExit as leave:  # --help and --version were printed
        return int(leave.code or 0)
    return _ACTS[invocation.command](invocation)


def _run(invocation: Invocation) -> int:
    config, folder = _configured(invocation)

    from autoresearch import launch

    return _await(partial(launch.run, config, folder=folder, console=_console(config)))


def _check(invocation: Invocation) -> int:
    config, folder = _configured(invocation)
    noops = _count(invocation, "aa")

    from autoresearch import launch, noop

    if noops is not None:
        return _await(partial(noop.campaign, config, noops, folder=folder, console=_console(config)))
    return _await(partial(launch.check, config, folder=folder, console=_console(config)))


def _replay(invocation: Invocation) -> int:
    number, run_dir = _trial(invocation), _run_dir(invocation.options.get("tag"))
    runs = _count(invocation, "repeats")
    console = _console(RunConfig(plain=True))

    from autoresearch import remeasure

    return _await(partial(remeasure.replay, number, run_dir, runs, folder=_here(), console=console))


def _demo(invocation: Invocation) -> int:
    config = merge(invocation.settings)

    from autoresearch import demo

    return _await(partial(demo.demo, config, console=_console(config)))


def _resume(invocation: Invocation) -> int:
    changes = read_mapping(invocation.settings, "")
    fixed = next((name for name in changes if FIELDS[name].metadata["fixed"]), None)
    if fixed:
        raise UsageError(f"{flag_of(fixed)}: a run that goes on keeps its own; start a new run for another")
    console = _console(RunConfig(**changes))

    from autoresearch import launch

    return _await(partial(launch.resume, _tag(invocation), changes, folder=_here(), console=console))


def _clean(invocation: Invocation) -> int:
    every = bool(invocation.options.get("all"))
    if every and invocation.words:
        raise UsageError("clean takes a TAG or --all, not both")
    console = _console(RunConfig(plain=True))

    from autoresearch import launch

    return _await(partial(launch.clean, _tag(invocation), every, folder=_here(), console=console))


def _status(invocation: Invocation) -> int:
    record = history.read_run(_run_dir(_tag(invocation)))
    if invocation.options.get("json"):
        print(inspect.to_json(inspect.status_object(record)))
    else:
        print(summary.render(record), end="")
    return 0


def _log(invocation: Invocation) -> int:
    run_dir = _run_dir(_tag(invocation))
    options = invocation.options
    status = _one_of(Outcome, "--status", options.get("status"))
    reason = _one_of(Reason, "--reason", options.get("reason"))
    as_json = bool(options.get("json"))
    if not as_json:
        print(inspect.LOG_HEADER)
    for trial in history.trials(run_dir, status, reason):
        print(inspect.to_json(inspect.log_line(trial)) if as_json else inspect.log_row(trial))
    return 0


def _show(invocation: Invocation) -> int:
    number, run_dir = _trial(invocation), _run_dir(invocation.options.get("tag"))
    trial = history.trial(run_dir, number)
    measured, replies = history.measurements(run_dir, number), history.prompt_and_reply(run_dir, number)

    from autoresearch import launch
    from autoresearch.metric import settle

    metric = history.read_run(run_dir).metric
    if metric is not None:  # the first baselines were stored before it was known
        measured = [
            replace(each, measurement=settle(each.measurement, metric)) if each.purpose is Purpose.BASELINE else each
            for each in measured
        ]
    diff = _await(partial(launch.diff, number, run_dir.name, folder=_here())) if trial.commit else ""
    print(inspect.show(trial, measured, replies, diff, history.facts(run_dir)), end="")
    return 0


def _diff(invocation: Invocation) -> int:
    number, tag = _trial(invocation), invocation.options.get("tag")

    from autoresearch import launch

    print(_await(partial(launch.diff, number, tag, folder=_here())), end="")
    return 0


def _init(invocation: Invocation) -> int:
    folder = _here()
    path = folder / TOML_NAME
    names = {f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir()}
    texts = {name: (folder / name).read_text(errors="replace") for name in template.GUESSED_FROM if name in names}
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template.toml(template.guess(names, texts)))
    except FileExistsError:
        raise UsageError(f"{TOML_NAME} is here already; delete it first to have it written anew") from None
    print(f"wrote {TOML_NAME}; look at its first three settings, then try `autoresearch check`")
    return 0


_ACTS: Mapping[str, Callable[[Invocation], int]] = {
    RUN: _run,
    "check": _check,
    "demo": _demo,
    "init": _init,
    "resume": _resume,
    "status": _status,
    "log": _log,
    "show": _show,
    "diff": _diff,
    "replay": _replay,
    "clean": _clean,
}


def _configured(invocation: Invocation) -> tuple[RunConfig, Path]:
    """The settings of a run and the folder where it starts."""
    words = invocation.words
    given = {name: value for name, value in zip(WORDS, (*words[:2], words[2:]), strict=False) if value}
    files = load(_here())
    config = merge({**invocation.settings, **given}, files.toml, files.pyproject)
    folder = files.folder if not words else _here()
    _check_complete(config, words)
    _check_quoted(config, words, folder)
    return config, folder


def _check_complete(config: RunConfig, words: tuple[str, ...]) -> None:
    """Raise UsageError where objective, measure or scope is missing."""
    near = get_close_matches(words[0], COMMANDS, n=1, cutoff=0.7) if len(words) in (1, 2) else None
    if words[:1] == (RUN,):
        raise UsageError(f"leave the word `{RUN}` out: what is no command is a run")
    if near:
        raise UsageError(f"unknown command {words[0]}; did you mean `{near[0]}`?")
    wanted = {
        "OBJECTIVE": (config.objective, "what to make better, in a sentence"),
        "MEASURE": (config.measure, "the command that prints the number"),
        "SCOPE": (config.scope, "the files that may be edited"),
    }
    missing = [f"{name} is missing: {meaning}" for name, (value, meaning) in wanted.items() if not value]
    if missing:
        ways = f"give it as in\n  {EXAMPLE}\nor in {TOML_NAME}, which `autoresearch init` writes"
        raise UsageError("\n".join([*missing, ways]))


def _check_quoted(config: RunConfig, words: Sequence[str], folder: Path) -> None:
    """Raise UsageError where the measure command was given as several words: its second would be the scope."""
    if len(words) < 3 or " " in config.measure.strip():
        return
    first = words[2]
    if any(mark in first for mark in "*?[") or (folder / first).exists():
        return
    if all((folder / part).exists() for part in first.split()):
        return
    raise UsageError(
        f"MEASURE is `{config.measure}` and SCOPE begins with `{first}`, which does not exist.\n"
        f"Put the objective and the measure command in quotes, one argument each:\n  {EXAMPLE}"
    )


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise UsageError("the folder that you are in is gone: change to one that exists, and repeat") from None


def _tag(invocation: Invocation) -> str | None:
    return invocation.words[0] if invocation.words else None


def _trial(invocation: Invocation) -> int:
    word = invocation.words[0]
    if not word.isdecimal():
        raise UsageError(f"TRIAL is a number, not `{word}`; `autoresearch log` lists them")
    return int(word)


def _count(invocation: Invocation, option: str) -> int | None:
    """An option that is a number from 1 on; None where it was not given."""
    word = invocation.options.get(option)
    if word is not None and (not word.isdecimal() or int(word) < 1):
        raise UsageError(f"--{option}: `{word}` is not a whole number from 1 on")
    return None if word is None else int(word)


def _run_dir(tag: str | None) -> Path:
    """The folder of a run of this checkout."""
    top = checkout_top(_here())
    if top is None:
        raise UsageError("there is no run here: this folder is in no git repository")
    return history.resolve_tag(top, tag)


def _one_of(words: type[W], flag: str, word: str | None) -> W | None:
    if word is not None and word not in list(words):
        raise UsageError(f"{flag}: `{word}` is not one of {', '.join(words)}")
    return None if word is None else words(word)


def _await(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    import anyio

    return anyio.run(work)


def _console(config: RunConfig) -> Console:
    """How to show a run: one JSON object a line, plain lines, or the live view where there is a terminal."""
    from autoresearch.views import console

    if config.json:
        return console.JsonConsole()
    if config.plain or config.quiet or not sys.stdout.isatty():
        return console.PlainConsole(quiet=config.quiet, verbose=config.verbose)
    return console.LiveConsole(verbose=config.verbose)


def _exit_code(error: BaseException) -> int:
    """Say what happened and return the exit code."""
    found = list(causes(error))
    if any(isinstance(cause, KeyboardInterrupt) for cause in found):
        return 130
    unexpected = [cause for cause in found if not isinstance(cause, AutoresearchError)]
    if unexpected and all(isinstance(cause, OSError) and cause.errno in _MACHINE for cause in unexpected):
        _complain(f"error: {unexpected[0]}")
        return 1
    if unexpected:
        _complain(f"internal error: {_line(unexpected[0])} (details in {_details(error)})")
        return 1
    usage = [cause for cause in found if isinstance(cause, UsageError)]
    _complain(f"error: {(usage or found)[0]}")
    return 2 if usage else 1


def _complain(message: str) -> None:
    lines = message.rstrip().splitlines()
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], "..."]
    print("\n".join(lines), file=sys.stderr)


def _line(error: BaseException) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__


def _details(error: BaseException) -> str:
    """A new file with the traceback."""
    with tempfile.NamedTemporaryFile("w", prefix="autoresearch-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    return file.name
