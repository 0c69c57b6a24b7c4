"""What the commands that need git, a store or slots do: run, resume, check, demo, clean, diff."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from anyio import CancelScope, to_thread

from autoresearch import approval, history, passing, planning, repository, takeover, wiring
from autoresearch import checkout as checkouts
from autoresearch.checkout import Checkout
from autoresearch.config import RunConfig
from autoresearch.errors import NoSlotLeft, RepositoryError, StoreError, UsageError
from autoresearch.protocols import Console, Measurer, Proposer
from autoresearch.schema import LOCK
from autoresearch.session import Brought, Session
from autoresearch.state import Run, fold
from autoresearch.store import RunLock, SQLiteStore
from autoresearch.views import summary
from autoresearch.views.console import PlainConsole
from autoresearch.wiring import Site


async def run(
    config: RunConfig,
    *,
    folder: Path | None = None,
    console: Console | None = None,
    proposer: Proposer | None = None,
    measurer: Measurer | None = None,
) -> int:
    """Start a run in the checkout that holds `folder` and see it to its end; return the exit code.

    Without a folder it is the current one, without a console plain lines are printed. A `proposer` or `measurer` of the
    caller's takes the place of what the settings name; opening and closing it is the caller's.

    Raises:
        UsageError: it cannot start, or the user declined; nothing is left behind.
        RunStopped: it could not go on; `resume` may.
    """
    console = console or PlainConsole()
    site = await wiring.look(config, folder or Path.cwd())
    name = wiring.GIVEN if proposer else await wiring.choose_proposer(config, console)
    approval.require_answers(config, console)
    config = await approval.with_direction(wiring.with_defaults(config, name), console)
    site = replace(site, config=config)
    session: Session | None = None
    excluded = 0
    try:
        excluded = await checkouts.exclude(site.checkout)
        with RunLock(site.run_dir):
            try:
                await _sweep(site, spare=LOCK)
                async with SQLiteStore.open(site.run_dir) as store:
                    session = Session(site, console, store, name, Brought(proposer, measurer))
                    await session.start()
            finally:
                if session is None or not session.approved:
                    with CancelScope(shield=True):
                        await _sweep(site)
    except (RepositoryError, StoreError, NoSlotLeft) as error:
        if session is None or not session.approved:
            raise UsageError(str(error)) from error
        raise
    finally:
        with CancelScope(shield=True):
            if session is not None and session.approved:
                await _summarize(site.checkout, site.run_dir, console)
            else:
                await checkouts.include(site.checkout, excluded)
    if not session.approved:
        console.say("Stopped before the run began; nothing was left behind.")
    return session.exit_code


async def resume(tag: str | None, changes: Mapping[str, Any], *, folder: Path, console: Console) -> int:
    """Go on with a run, or extend an ended one; return the exit code.

    Raises:
        UsageError: there is no such run, or it is running.
        RunStopped: it could not go on.
    """
    checkout = await checkouts.inspect(folder)
    run_dir = await to_thread.run_sync(history.resolve_tag, checkout.root, tag)
    session: Session | None = None
    try:
        with RunLock(run_dir):
            async with SQLiteStore.open(run_dir) as store:
                state, ended = fold(await store.events())
                config = replace(state.config, **changes)
                _check_trials(changes.get("max_trials"), state)
                name = await wiring.choose_proposer(config, console)
                config = wiring.with_defaults(config, name)
                where = checkout.root / state.given.folder
                site = await wiring.look(replace(config, base=state.given.base, tag=None), where, run_dir.name)
                session = Session(replace(site, config=config), console, store, name)
                begun = state.budget.trials
                await session.go_on(state, ended)
                if state.budget.trials == begun and state.stopping and state.stopping.why.startswith("--"):
                    console.say(f"No trial was left to run ({state.stopping.why}): name a higher limit to go on.")
    finally:
        if session is not None:
            with CancelScope(shield=True):
                await _summarize(checkout, run_dir, console)
    return session.exit_code


def _check_trials(asked: int | None, state: Run) -> None:
    """Those that have begun are not taken back: a lower limit would not hold."""
    begun = state.budget.trials + len(state.live)
    if asked is not None and asked < begun:
        raise UsageError(f"--max-trials {asked}: {begun} trials of this run have begun; name at least {begun}")


async def check(config: RunConfig, *, folder: Path, console: Console) -> int:
    """Measure the baseline and say what a run would use, without spending anything; return the exit code.

    Raises:
        UsageError: a run could not start.
    """
    site = await wiring.look(config, folder)
    config = replace(await approval.with_direction(config, console), yes=True)  # it spends nothing, so it never asks
    try:
        name = await wiring.choose_proposer(config, console)
    except UsageError as error:
        name, missing = "none", str(error)
    else:
        missing = ""
    with TemporaryDirectory(prefix="autoresearch-") as scratch:
        # A name of its own: a run that is starting now may have the tag that was chosen.
        site = replace(site, config=config, tag=passing.tag_for("check"), run_dir=Path(scratch) / site.tag)
        try:
            async with SQLiteStore.open(site.run_dir) as store:
                session = Session(site, console, store, "none")
                await session.look_at_baseline()
            record = await to_thread.run_sync(history.read_run, site.run_dir)
            measured = await to_thread.run_sync(history.measurements, site.run_dir, 0)
        finally:
            with CancelScope(shield=True):
                await repository.forget(site.checkout, site.tag, site.cache)
    if session.exit_code:
        return session.exit_code
    if session.site.config.measure == config.measure:
        await takeover.keep(session.site, measured)
    console.show(planning.checked(session.site, record, name, missing, session.canary, at_bound=session.at_bound))
    return 0


async def clean(tag: str | None, every: bool, *, folder: Path, console: Console) -> int:
    """Remove worktrees, refs and state of ended runs; their branches stay.

    Raises:
        UsageError: there is no such run, or it is running.
    """
    checkout = await checkouts.inspect(folder)
    if every:
        chosen = [info.run_dir for info in await to_thread.run_sync(history.runs, checkout.root)]
    else:
        chosen = [await to_thread.run_sync(history.resolve_tag, checkout.root, tag)]
    for run_dir in chosen:
        with RunLock(run_dir):
            config = RunConfig.from_row((await to_thread.run_sync(history.read_run, run_dir)).config)
            await repository.forget(checkout, run_dir.name, wiring.cache_of(config))
            await to_thread.run_sync(_remove, run_dir, "")
        console.say(f"removed the run {run_dir.name}; its branch autoresearch/{run_dir.name} stays")
    if not chosen:
        console.say("there is no run to remove")
    return 0


async def diff(trial: int, tag: str | None, *, folder: Path) -> str:
    """What a trial's last commit changes, as a unified diff; empty for the baseline and where there is no commit.

    Raises:
        UsageError: there is no such run or trial.
    """
    checkout = await checkouts.inspect(folder)
    run_dir = await to_thread.run_sync(history.resolve_tag, checkout.root, tag)
    row = await to_thread.run_sync(history.trial, run_dir, trial)
    if row.commit is None or row.baseline:
        return ""
    return await repository.diff(checkout, row.commit, f"{row.commit}^")


async def _summarize(checkout: Checkout, run_dir: Path, console: Console) -> None:
    record = await to_thread.run_sync(history.read_run, run_dir)
    console.summary(summary.render(record, tip=await repository.where_keeps_are(checkout, run_dir.name)))


async def _sweep(site: Site, spare: str = "") -> None:
    """Remove what a start left that was never approved, this one or a killed one; hold the run's lock meanwhile."""
    try:
        await repository.forget(site.checkout, site.tag, site.cache)
    finally:
        await to_thread.run_sync(_remove, site.run_dir, spare)


def _remove(run_dir: Path, spare: str) -> None:
    for path in run_dir.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != spare:
            path.unlink()
    if spare:
        return
    run_dir.rmdir()
    with suppress(OSError):  # it holds other runs, or is more than a folder to its user
        run_dir.parent.rmdir()
