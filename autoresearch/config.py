"""Every setting of a run, once: name, type, default, reader, help. Flags, files and documentation are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from autoresearch import constraints
from autoresearch import values as read
from autoresearch.errors import ConfigError
from autoresearch.metric import Direction

WHAT = "what to measure"
DECIDING = "what is kept"
STOPPING = "stopping"
MODEL = "model"
MACHINE = "machine"
OUTPUT = "output"


def option(
    group: str,
    default: Any,
    help: str,
    read: read.Read,
    *,
    metavar: str = "",
    short: str = "",
    later: bool = False,
    fixed: bool = False,
) -> Any:
    """A field of RunConfig.

    `help` is one line, `read` makes the value from a flag's text or a TOML value. `later` marks a setting that is
    parsed and not available yet, `fixed` one that a resumed run keeps.
    """
    metadata = {
        "group": group,
        "help": help,
        "read": read,
        "metavar": metavar,
        "short": short,
        "later": later,
        "fixed": fixed,
    }
    return field(default=default, metadata=metadata)


def _direction(value: Any) -> Direction:
    return Direction(read.choice("minimize", "maximize")(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What a run was asked to do. Durations are seconds, sizes bytes, money USD."""

    objective: str = option(WHAT, "", "what to make better, in a sentence", read.text, metavar="OBJECTIVE", fixed=True)
    measure: str = option(WHAT, "", "the shell command that measures it", read.text, metavar="MEASURE", fixed=True)
    scope: tuple[str, ...] = option(
        WHAT, (), "paths, folders or globs that may be edited", read.texts, metavar="SCOPE", fixed=True
    )
    direction: Direction | None = option(
        WHAT, None, "`minimize` or `maximize`; default: from the objective's words", _direction, fixed=True
    )
    metric: str | None = option(
        WHAT, None, "which number: its name, or a regex with one group", read.text, metavar="NAME", fixed=True
    )
    build: str | None = option(
        WHAT,
        None,
        "run once per candidate before the measurement, not timed",
        read.text,
        metavar="CMD",
        fixed=True,
    )
    check: tuple[str, ...] = option(WHAT, (), "must exit 0", read.texts, metavar="CMD", fixed=True)
    constraint: tuple[str, ...] = option(
        WHAT, (), "a bound on a secondary metric", constraints.read, metavar="EXPR", fixed=True
    )
    screen: str | None = option(WHAT, None, "a cheaper stand-in, run first", read.text, metavar="CMD", fixed=True)
    holdout: str | None = option(
        WHAT,
        None,
        "measured on keeps only, never shown to a proposer",
        read.text,
        metavar="CMD",
        fixed=True,
    )
    feedback: str | None = option(
        WHAT, None, "run on each new incumbent; proposers see its output", read.text, metavar="CMD"
    )
    context: tuple[str, ...] = option(WHAT, (), "shown to the proposer, not editable", read.texts, metavar="PATH")
    protect: tuple[str, ...] = option(WHAT, (), "never edited", read.texts, metavar="GLOB", fixed=True)
    timeout: float | None = option(
        WHAT,
        None,
        "limit of a measurement, check or build; default: 5m, or twice the baseline",
        read.duration,
        metavar="T",
    )
    tag: str | None = option(
        WHAT, None, "the run's name; default: today, as nov22", read.tag, metavar="NAME", fixed=True
    )
    base: str = option(WHAT, "HEAD", "where the run starts", read.text, metavar="REF", fixed=True)
    seed: int = option(WHAT, 0, "the coordinator's own randomness", read.whole(0), metavar="N", fixed=True)

    confidence: float = option(DECIDING, 0.99, "how sure a keep must be", read.probability, metavar="P", fixed=True)
    min_gain: str = option(
        DECIDING, "0", "smallest gain that counts, in the metric's unit or as 0.5%", read.gain, metavar="X", fixed=True
    )
    repeats: int | None = option(
        DECIDING,
        None,
        "exactly N fresh runs per confirmation and N baseline runs",
        read.whole(1),
        metavar="N",
        fixed=True,
    )
    canary: bool = option(
        DECIDING, True, "check at the start that the measurement sees the edit", read.switch, fixed=True
    )
    exclusive: str = option(
        DECIDING,
        "auto",
        "measure one at a time: auto, on or off",
        read.choice("auto", "on", "off"),
        metavar="WHEN",
        fixed=True,
    )

    max_trials: int | None = option(STOPPING, None, "stop after N trials", read.whole(0), metavar="N")
    max_time: float | None = option(STOPPING, None, "stop after T", read.duration, metavar="T")
    max_cost: float | None = option(
        STOPPING, None, "stop before spending more; `none`: no limit", read.ceiling, metavar="USD"
    )
    target: float | None = option(STOPPING, None, "stop when the metric is this good", read.number, metavar="VALUE")
    patience: int | None = option(STOPPING, None, "stop after N trials without a keep", read.whole(1), metavar="N")

    proposer: str | None = option(MODEL, None, "claude, mutate, command or replay:FILE", read.proposer, metavar="NAME")
    agent: str | None = option(
        MODEL, None, "a coding agent's command; implies --proposer command", read.text, metavar="CMD"
    )
    agent_timeout: float = option(MODEL, 600.0, "limit of one agent's proposal", read.duration, metavar="T")
    agent_cost: float | None = option(
        MODEL, None, "dollars reserved for one agent's proposal", read.money, metavar="USD"
    )
    model: tuple[str, ...] = option(
        MODEL, (), "the model, or NAME=WEIGHT; default: claude-opus-5-5", read.models, metavar="NAME"
    )
    effort: str = option(
        MODEL,
        "medium",
        "low, medium, high, xhigh or max",
        read.choice("low", "medium", "high", "xhigh", "max"),
        metavar="LEVEL",
    )
    prompt_tokens: int | None = option(
        MODEL, None, "token budget of a prompt; default: by model", read.whole(1), metavar="N"
    )
    proposers: int | None = option(
        MODEL,
        None,
        "proposals in flight; default: by the ratio of proposing to measuring time",
        read.whole(1),
        metavar="N",
    )
    proposal_timeout: float = option(
        MODEL, 600.0, "limit of one proposal, everything included", read.duration, metavar="T"
    )
    program: str | None = option(
        MODEL, None, "guidance for the proposer; default: program.md where it exists", read.text, metavar="FILE"
    )
    lessons: int | None = option(MODEL, None, "distil lessons every N trials", read.whole(1), metavar="N", later=True)
    research: bool = option(MODEL, False, "web search on a plateau", read.switch, later=True)
    learn_from: str = option(
        MODEL, "all", "ended runs that join the history: all, none or a TAG", read.text, metavar="TAG", later=True
    )

    workers: int | None = option(
        MACHINE, None, "measurements at once; default: GPUs, else cores", read.whole(1), metavar="N", short="-w"
    )
    gpus: str = option(MACHINE, "auto", "GPU numbers, auto or none", read.text, metavar="LIST")
    gpus_per_worker: float | None = option(
        MACHINE, None, "GPUs of one slot; below 1 they are shared", read.positive, metavar="N"
    )
    cpus_per_worker: int | None = option(MACHINE, None, "whole cores of one slot", read.whole(1), metavar="N")
    setup: str | None = option(
        MACHINE, None, "run once per slot on the base tree, before any edit", read.text, metavar="CMD", fixed=True
    )
    teardown: str | None = option(MACHINE, None, "run once per slot at the end", read.text, metavar="CMD")
    keep: tuple[str, ...] = option(
        MACHINE, (), "untracked files that a reset keeps", read.texts, metavar="GLOB", fixed=True
    )
    link: tuple[str, ...] = option(
        MACHINE,
        (),
        "link this path of the checkout into each worktree",
        read.texts,
        metavar="PATH",
        fixed=True,
    )
    copy: tuple[str, ...] = option(
        MACHINE,
        (),
        "copy this path of the checkout into each worktree",
        read.texts,
        metavar="PATH",
        fixed=True,
    )
    worktrees: str | None = option(
        MACHINE, None, "where worktrees are made; default: the user's cache folder", read.text, metavar="DIR"
    )
    sandbox: str = option(
        MACHINE,
        "off",
        "what measured commands may touch: auto, strict, off",
        read.choice("auto", "strict", "off"),
        metavar="LEVEL",
        later=True,
    )
    network: bool = option(MACHINE, True, "let measured commands use the network", read.switch, later=True)
    memory: int | None = option(MACHINE, None, "memory limit of a measurement", read.size, metavar="SIZE", later=True)
    env: tuple[str, ...] = option(MACHINE, (), "pass this variable to measured commands", read.texts, metavar="NAME")
    allow_read: tuple[str, ...] = option(MACHINE, (), "readable in the sandbox", read.texts, metavar="PATH", later=True)
    allow_write: tuple[str, ...] = option(
        MACHINE, (), "writable in the sandbox", read.texts, metavar="PATH", later=True
    )
    cluster: str | None = option(MACHINE, None, "measure on Ray", read.text, metavar="ADDRESS", later=True)
    resource: tuple[str, ...] = option(
        MACHINE, (), "a resource of a Ray slot", read.texts, metavar="NAME=N", later=True
    )

    yes: bool = option(OUTPUT, False, "do not ask", read.switch, short="-y")
    plain: bool = option(OUTPUT, False, "plain lines, no live view", read.switch)
    json: bool = option(OUTPUT, False, "one JSON object per line", read.switch)
    quiet: bool = option(OUTPUT, False, "only the summary", read.switch)
    verbose: bool = option(OUTPUT, False, "say more", read.switch, short="-v")
    on_event: str | None = option(
        OUTPUT, None, "run with JSON on stdin at important events", read.text, metavar="CMD", later=True
    )

    @property
    def commands(self) -> tuple[str, ...]:
        """The shell commands that decide what is kept: what they name is not edited."""
        named = (self.measure, self.build, *self.check, self.screen, self.holdout)
        return tuple(command for command in named if command)

    def to_row(self) -> dict[str, Any]:
        """The settings as plain JSON, all of them: a resumed run keeps its own, whatever the defaults are by then."""
        return {name: read.row_value(getattr(self, name)) for name in FIELDS}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> RunConfig:
        """The settings that `to_row` made; a key that this version does not know is left out."""
        wanted = {name: value for name, value in row.items() if name in FIELDS and value not in (None, "")}
        return cls(**{name: FIELDS[name].metadata["read"](value) for name, value in wanted.items()})


FIELDS: Mapping[str, Field[Any]] = {each.name: each for each in fields(RunConfig)}
WORDS = ("objective", "measure", "scope")
"""The settings that stand on the command line without a flag."""
KEYS = (*FIELDS, "minimize", "maximize")
"""The keys of autoresearch.toml."""


def flag_of(name: str) -> str:
    """The flag that sets a field away from its default, or the word's name."""
    if name in WORDS:
        return name.upper()
    return f"--{'no-' if FIELDS[name].default is True else ''}{name.replace('_', '-')}"


def from_mapping(values: Mapping[str, Any], source: str, base: RunConfig = RunConfig()) -> RunConfig:
    """`base` with `values` read over it. `source` names where they stand; empty: the command line.

    Raises:
        ConfigError: an unknown key, a wrong value, or a setting that is not available yet.
    """
    return replace(base, **read_mapping(values, source))


def read_mapping(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The fields that `values` sets, read and checked one by one; `source` as in `from_mapping`.

    Raises:
        ConfigError: as `from_mapping`.
    """
    for key in values:
        if key not in KEYS:
            near = get_close_matches(key.replace("-", "_"), KEYS, n=1)
            raise ConfigError(source, key, _unknown(key), near[0] if near else None)
    wanted = dict(values)
    for direction in Direction:
        word = direction.value
        on = word in wanted and _read(read.switch, word, wanted.pop(word), source)
        if on and wanted.setdefault("direction", direction) != direction:
            raise ConfigError(source, word, "the other direction is set too")
    if "agent" in wanted:
        wanted.setdefault("proposer", "command")
    return {name: _read_field(name, value, source) for name, value in wanted.items()}


def merge(
    flags: Mapping[str, Any], toml: Mapping[str, Any] | None = None, pyproject: Mapping[str, Any] | None = None
) -> RunConfig:
    """The settings of a run: flag, then autoresearch.toml, then [tool.autoresearch] of pyproject.toml, then default.

    Raises:
        ConfigError: as `from_mapping`, or settings that contradict each other.
    """
    config = from_mapping(pyproject or {}, "pyproject.toml [tool.autoresearch]")
    config = from_mapping(toml or {}, "autoresearch.toml", config)
    config = from_mapping(flags, "", config)
    if config.agent and config.proposer != "command":
        raise ConfigError("", "--agent", f"it needs `--proposer command`, and the proposer is `{config.proposer}`")
    if config.proposer == "command" and not config.agent:
        raise ConfigError("", "--proposer", "`command` needs --agent: the program that edits files")
    return config


def _read_field(name: str, value: Any, source: str) -> Any:
    metadata = FIELDS[name].metadata
    shown = name if source else flag_of(name)
    result = _read(metadata["read"], shown, value, source)
    if metadata["later"] and result != FIELDS[name].default:
        raise ConfigError(source, shown, "not available yet")
    return result


def _read(reader: read.Read, shown: str, value: Any, source: str) -> Any:
    try:
        return reader(value)
    except ValueError as error:
        raise ConfigError(source, shown, str(error)) from None


def _unknown(key: str) -> str:
    if key in ("tool", "autoresearch"):
        return "settings stand at the top of the file, without a table"
    return "unknown key"
