"""Every setting of a run, once: name, type, default and help. Flags, files and documentation are made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from autoresearch.metric import Direction


def option(default: Any, help: str, *, metavar: str = "", short: str = "", later: bool = False) -> Any:
    """A field of RunConfig. `help` is one line; `later` marks a setting that is parsed and not available yet."""
    metadata = {"help": help, "metavar": metavar, "short": short, "later": later}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What a run was asked to do. Durations are seconds, sizes bytes, money USD."""

    objective: str = option("", "what to make better, in a sentence", metavar="OBJECTIVE")
    measure: str = option("", "the shell command that measures it", metavar="MEASURE")
    scope: tuple[str, ...] = option((), "paths, folders or globs that may be edited", metavar="SCOPE")

    workers: int | None = option(None, "measurements at once; default: GPUs, else cores", metavar="N", short="-w")
    proposers: int | None = option(
        None, "proposals in flight; default: by the ratio of proposing to measuring time", metavar="N"
    )
    timeout: float | None = option(
        None, "limit of a measurement, check or build; default: 5m, or twice the baseline", metavar="T"
    )
    proposal_timeout: float = option(600.0, "limit of one proposal, everything included", metavar="T")
    tag: str | None = option(None, "the run's name; default: today, as nov22", metavar="NAME")
    base: str = option("HEAD", "where the run starts", metavar="REF")
    yes: bool = option(False, "do not ask", short="-y")

    max_trials: int | None = option(None, "stop after N trials", metavar="N")
    max_time: float | None = option(None, "stop after T", metavar="T")
    max_cost: float | None = option(None, "stop before spending more; `none`: no limit (inf)", metavar="USD")
    target: float | None = option(None, "stop when the metric is this good", metavar="VALUE")
    patience: int | None = option(None, "stop after N trials without a keep", metavar="N")

    direction: Direction | None = option(None, "minimize or maximize; default: from the objective's words")
    metric: str | None = option(None, "which number: its name, or a regex with one group", metavar="NAME")
    build: str | None = option(None, "run once per candidate before the measurement, not timed", metavar="CMD")
    check: tuple[str, ...] = option((), "must exit 0 (repeatable)", metavar="CMD")
    constraint: tuple[str, ...] = option((), "a bound on a secondary metric (repeatable)", metavar="EXPR", later=True)
    screen: str | None = option(None, "a cheaper stand-in, run first", metavar="CMD", later=True)
    holdout: str | None = option(None, "measured on keeps only, never shown to a proposer", metavar="CMD", later=True)
    feedback: str | None = option(None, "run on each new incumbent; proposers see its output", metavar="CMD")
    context: tuple[str, ...] = option((), "shown to the proposer, not editable (repeatable)", metavar="PATH")
    protect: tuple[str, ...] = option((), "never edited (repeatable)", metavar="GLOB")
    confidence: float = option(0.99, "how sure a keep must be", metavar="P")
    min_gain: str = option("0", "smallest gain that counts, in the metric's unit or as 0.5%", metavar="X")
    repeats: int | None = option(None, "exactly N fresh runs per confirmation and N baseline runs", metavar="N")
    canary: bool = option(True, "at the start, check that the measurement sees the edit", later=True)
    exclusive: str = option("auto", "measure one at a time: auto, on or off", metavar="WHEN", later=True)

    gpus: str = option("auto", "GPU numbers, auto or none", metavar="LIST")
    gpus_per_worker: float | None = option(None, "GPUs of one slot; below 1 they are shared", metavar="N")
    cpus_per_worker: int | None = option(None, "whole cores of one slot", metavar="N")
    setup: str | None = option(None, "run once per slot on the base tree, before any edit", metavar="CMD")
    teardown: str | None = option(None, "run once per slot at the end", metavar="CMD")
    keep: tuple[str, ...] = option((), "untracked files that a reset keeps (repeatable)", metavar="GLOB")
    link: tuple[str, ...] = option((), "link this path of the checkout into each worktree (repeatable)", metavar="PATH")
    copy: tuple[str, ...] = option((), "copy this path of the checkout into each worktree (repeatable)", metavar="PATH")
    worktrees: str | None = option(None, "where worktrees are made; default: the user's cache folder", metavar="DIR")

    proposer: str | None = option(None, "claude, mutate, command or replay:FILE", metavar="NAME")
    agent: str | None = option(None, "a coding agent's command; implies --proposer command", metavar="CMD")
    agent_timeout: float = option(600.0, "limit of one agent's proposal", metavar="T")
    agent_cost: float | None = option(None, "dollars reserved for one agent's proposal", metavar="USD")
    model: tuple[str, ...] = option((), "the model; default claude-opus-5-5", metavar="NAME")
    effort: str = option("medium", "low, medium, high, xhigh or max", metavar="LEVEL")
    prompt_tokens: int | None = option(None, "token budget of a prompt; default: by model", metavar="N")
    program: str | None = option(None, "guidance for the proposer; default program.md where it exists", metavar="FILE")
    lessons: int | None = option(None, "distil lessons every N trials", metavar="N", later=True)
    research: bool = option(False, "web search on a plateau", later=True)
    learn_from: str = option("all", "ended runs that join the history", metavar="TAG", later=True)

    sandbox: str = option("off", "what measured commands may touch: auto, strict, off", metavar="LEVEL", later=True)
    network: bool = option(True, "let measured commands use the network", later=True)
    memory: int | None = option(None, "memory limit of a measurement", metavar="SIZE", later=True)
    env: tuple[str, ...] = option((), "pass this variable to measured commands (repeatable)", metavar="NAME")
    allow_read: tuple[str, ...] = option((), "readable in the sandbox (repeatable)", metavar="PATH", later=True)
    allow_write: tuple[str, ...] = option((), "writable in the sandbox (repeatable)", metavar="PATH", later=True)

    on_event: str | None = option(None, "run with JSON on stdin at important events", metavar="CMD", later=True)
    cluster: str | None = option(None, "measure on Ray", metavar="ADDRESS", later=True)
    resource: tuple[str, ...] = option((), "a resource of a Ray slot (repeatable)", metavar="NAME=N", later=True)
    seed: int = option(0, "the coordinator's own randomness", metavar="N")

    plain: bool = option(False, "plain lines, no live view")
    json: bool = option(False, "one JSON object per line")
    quiet: bool = option(False, "only the summary")
    verbose: bool = option(False, "say more", short="-v")
