"""From settings to parts: looks at the checkout and the machine, makes the proposer and the slots."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

from anyio import to_thread

from autoresearch import checkout as checkouts
from autoresearch import devices, history, prompt, scope, worktrees
from autoresearch.brief import Brief
from autoresearch.checkout import Checkout
from autoresearch.config import RunConfig
from autoresearch.dealing import Dealt, Machine
from autoresearch.errors import ProposalsExhausted, UsageError
from autoresearch.measurers.carry import CarryPlan, make_plan
from autoresearch.measurers.diagnosis import Surroundings, diagnose
from autoresearch.measurers.environment import withheld
from autoresearch.measurers.local import LocalMeasurer, Workplace
from autoresearch.proposers import agents, claude
from autoresearch.proposers.claude import ClaudeProposer
from autoresearch.proposers.command import CommandProposer
from autoresearch.proposers.material import MaterialReader
from autoresearch.proposers.mutate import MutateProposer
from autoresearch.proposers.replay import ReplayProposer
from autoresearch.protocols import Console, Proposer, Tree
from autoresearch.repository import GitRepository
from autoresearch.scope import Scope
from autoresearch.trial import Proposal, Trial

PROPOSERS = "claude (needs ANTHROPIC_API_KEY or ANTHROPIC_BASE_URL), mutate, command (with --agent), replay:FILE"
AGENT_PROMPT_TOKENS = 60_000
AGENTS_AT_ONCE = 2
_NAMED = 8
GIVEN = "given"
"""The proposer's name where the caller of `run` brought one along."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a run takes place: all that is known before anything is written."""

    config: RunConfig
    tag: str
    checkout: Checkout
    scope: Scope
    machine: Machine
    dealt: Dealt
    carried: CarryPlan
    cache: Path
    """Where worktrees are made."""
    run_dir: Path
    dirty: tuple[str, ...] = ()
    """Uncommitted changes in scope, which are not part of the run."""
    taken_over: str = ""
    """How often and when `check` has measured the baseline that the run takes over; empty: it has not."""

    @property
    def branch(self) -> str:
        return f"autoresearch/{self.tag}"


async def look(config: RunConfig, folder: Path, tag: str | None = None) -> Site:
    """Look at checkout and machine. `tag` is an existing run's; without it one is chosen. Writes nothing.

    Raises:
        UsageError: no run can start here.
    """
    checkout = await checkouts.inspect(folder, config.base, config.tag)
    chosen = tag or await _new_tag(config, checkout)
    found = scope.resolve(
        config.scope,
        checkout.files,
        checkout.prefix,
        checkout.exists,
        protect=config.protect,
        commands=config.commands,
    )
    machine = await to_thread.run_sync(devices.detect, os.environ)
    dealt = devices.deal(
        machine,
        workers=config.workers,
        gpus=config.gpus,
        gpus_per_worker=config.gpus_per_worker,
        cpus_per_worker=config.cpus_per_worker,
    )
    carried = await to_thread.run_sync(
        partial(
            make_plan,
            checkout.root,
            link=_from_root(config.link, checkout.prefix),
            copy=_from_root(config.copy, checkout.prefix),
            setup=config.setup,
            environ=os.environ,
        )
    )
    dirty = tuple(path for path in await checkout.dirty() if found.covers(path))
    run_dir = checkout.root / history.FOLDER / chosen
    return Site(config, chosen, checkout, found, machine, dealt, carried, cache_of(config), run_dir, dirty)


async def _new_tag(config: RunConfig, checkout: Checkout) -> str:
    taken = await checkouts.tags(checkout)
    runs = {info.tag for info in await to_thread.run_sync(history.runs, checkout.root)}
    if config.tag in runs:
        raise UsageError(
            f"a run `{config.tag}` exists: go on with `autoresearch resume {config.tag}`, "
            f"or choose another name with --tag"
        )
    if config.tag in taken:
        raise UsageError(
            f"the branch autoresearch/{config.tag} of an earlier run exists: choose another name with --tag, "
            f"or delete it with `git branch -D autoresearch/{config.tag}`"
        )
    if config.tag is not None:
        return config.tag
    taken |= runs
    today = date.today()
    name = f"{today:%b}{today.day}".lower()
    return next(tag for tag in (name, *(f"{name}-{n}" for n in range(2, 10_000))) if tag not in taken)


def cache_of(config: RunConfig) -> Path:
    """The folder in which worktrees are made: --worktrees, else the user's cache folder."""
    if config.worktrees is not None:
        return Path(config.worktrees).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _from_root(paths: Sequence[str], prefix: str) -> list[str]:
    return [os.path.normpath(f"{prefix}/{path}") if prefix else path for path in paths]


def with_defaults(config: RunConfig, proposer: str) -> RunConfig:
    """The settings with the proposer that was chosen; agents run two at once unless the user says otherwise."""
    if proposer != GIVEN:
        config = replace(config, proposer=proposer)
    if proposer == "command" and config.proposers is None:
        return replace(config, proposers=AGENTS_AT_ONCE)
    return config


async def choose_proposer(config: RunConfig, console: Console) -> str:
    """The proposer's name: as asked, else claude where it can be reached, else what the user says.

    Raises:
        UsageError: there is none, and nobody to ask; an unknown name.
    """
    name = config.proposer or ("command" if config.agent else None)
    if name is None and claude.available(os.environ):
        return "claude"
    if name is None and not config.yes:
        name = await console.ask(f"No model is set up. Which proposer: {PROPOSERS}? ")
    if not name:
        raise UsageError(f"no proposer: set ANTHROPIC_API_KEY, or choose one with --proposer: {PROPOSERS}")
    if name not in ("claude", "mutate", "command") and not name.startswith("replay:"):
        raise UsageError(f"--proposer {name}: choose one of {PROPOSERS}")
    if name == "command" and not config.agent:
        raise UsageError("--proposer command needs --agent: claude-code, codex, gemini, opencode, or any program")
    return name


class Nobody:
    """Proposes nothing: for a look at the baseline alone."""

    repairs = False
    ordered = False
    cost_bound_usd = cost_least_usd = 0.0

    async def propose(self, brief: Brief, tree: Tree) -> Proposal:
        raise ProposalsExhausted("nobody proposes here")

    def tell(self, trial: Trial) -> None:
        return None


async def make_proposer(name: str, site: Site, repository: GitRepository, stack: AsyncExitStack) -> Proposer:
    """The proposer of that name, ready; what it opens is closed with `stack`.

    Raises:
        UsageError: it cannot work as it is set up.
    """
    config, root, prefix = site.config, str(site.checkout.root), site.checkout.prefix
    reader = MaterialReader(config, site.scope, root, prefix)
    await reader.prepare()  # whoever proposes: a file that is named and missing is a mistake
    if name == "claude":
        model = ClaudeProposer(config, site.scope, root, os.environ, prefix=prefix)
        await stack.enter_async_context(model)
        await model.prepare()
        return model
    if name == "none":
        return Nobody()
    if name == "mutate":
        mutate = MutateProposer(site.scope, config.seed)
        await mutate.prepare(repository.tree(site.checkout.base))
        return mutate
    if name.startswith("replay:"):
        return await to_thread.run_sync(_load_replay, name.removeprefix("replay:"))
    return await _agent(site, repository, reader)


def described(name: str, config: RunConfig, proposer: Proposer) -> str:
    """The proposer in words: its name, then who is asked."""
    if isinstance(proposer, ClaudeProposer):
        return f"{name}: {', '.join(proposer.models)}" + ("" if proposer.priced else ", no known price: counted as $0")
    return f"{name}: {config.agent}" if name == "command" else name


def _load_replay(file: str) -> ReplayProposer:
    return ReplayProposer.load(Path(file).expanduser())


async def _agent(site: Site, repository: GitRepository, reader: MaterialReader) -> CommandProposer:
    config, agent = site.config, site.config.agent or ""
    tokens = config.prompt_tokens or AGENT_PROMPT_TOKENS

    async def build_prompt(brief: Brief, tree: Tree) -> str:
        built = prompt.build(brief, await reader.read(tree, tokens), tokens)
        return f"{prompt.WORKTREE_RULES}\n\n{built.text}"

    return CommandProposer(
        agents.command_of(agent, config.agent_cost, environment=os.environ),
        repository,
        build_prompt,
        timeout_seconds=config.agent_timeout,
        cost_bound_usd=agents.cost_bound(agent, config.agent_cost, config.max_cost),
        name=agent,
    )


def withheld_note(config: RunConfig) -> str:
    """A line that names what measured commands do not get of the environment; empty where they get all of it."""
    names = withheld(os.environ, config.env)
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"\nwithheld from it, as they look like secrets: {', '.join(names[:_NAMED])}{more} (--env NAME passes one)"


async def what_is_measured(site: Site) -> list[str]:
    """Lines that say what is measured in place of the worktrees' files, where that can be told."""
    config = site.config
    place = Surroundings(
        root=site.checkout.root,
        roots=site.carried.roots,
        worktree=worktrees.home(site.checkout, site.tag, site.cache) / "slot-0",
        commands=[command for command in (config.build, config.measure) if command],
        scope=site.scope.files,
        tracked=site.checkout.files,
        prefix=site.checkout.prefix,
        pythonpath=site.carried.pythonpath,
        environ=os.environ,
    )
    return await to_thread.run_sync(diagnose, place)


def make_measurer(site: Site, repository: GitRepository, console: Console) -> LocalMeasurer:
    """This machine's slots."""
    config = site.config
    place = Workplace(
        tag=site.tag,
        plan=site.carried,
        logs=site.run_dir / "logs",
        state=worktrees.home(site.checkout, site.tag, site.cache) / "slots",
        prefix=site.checkout.prefix,
        setup=config.setup,
        teardown=config.teardown,
        keep=config.keep,
        passed=config.env,
    )
    return LocalMeasurer(repository.worktrees, place, site.dealt.devices, console.say)
