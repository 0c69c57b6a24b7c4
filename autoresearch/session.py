"""One process of a run: opens the parts, asks the one question, obeys signals, conducts, closes."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import anyio
from anyio import CancelScope

from autoresearch import approval, passing, takeover, wiring
from autoresearch.coordinator import Coordinator, Parts
from autoresearch.errors import BaselineFailed, EditUnseen, RunStopped, StoreError, ungrouped
from autoresearch.events import Approved, Began, Resumed, Stamped, TakenOver
from autoresearch.metric import Metric
from autoresearch.protocols import Console, Measurer, Proposer
from autoresearch.repository import GitRepository
from autoresearch.state import Run, finale, holdout
from autoresearch.state.canary import FILES_ALONE, Canary
from autoresearch.store import SQLiteStore
from autoresearch.trial import Measurement, Trial
from autoresearch.wiring import Site

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED_NOW = 130


class WallClock:
    """Seconds since the epoch when the process began, monotonic from then on."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return self._offset + time.monotonic()


@dataclass(frozen=True, slots=True)
class Brought:
    """What the caller brought along in place of what the settings say."""

    proposer: Proposer | None = None
    measurer: Measurer | None = None


class Session:
    """Used once. `exit_code` is 0, or 130 where it was stopped at once."""

    def __init__(
        self, site: Site, console: Console, store: SQLiteStore, proposer: str, given: Brought | None = None
    ) -> None:
        """`proposer` is its name, as `wiring.choose_proposer` gave it."""
        self.site = site
        self.console = console
        self.store = store
        self.run: Run | None = None
        self.exit_code = 0
        self._proposer = proposer
        self._given = given or Brought()
        self._now = WallClock()
        self._stack = AsyncExitStack()

    @property
    def approved(self) -> bool:
        """The user has agreed to the plan: from here on there is a run."""
        return self.run is not None and self.run.baseline.approved

    @property
    def canary(self) -> Canary:
        """Whether the measurement sees the edits, as far as is known."""
        return self.run.canary if self.run is not None else Canary()

    @property
    def at_bound(self) -> bool:
        """The best so far leaves nothing to gain."""
        return self.run is not None and self.run.archive.shown.at_bound

    async def start(self) -> None:
        """Begin a run and see it to its end."""
        async with self._opened() as parts:
            proposer = parts.proposer
            approval.require_ceiling(self.site, proposer.cost_bound_usd, proposer.cost_least_usd)
            taken = await self._take_over()
            await self._begin(parts, self._began(proposer), taken)

    async def _take_over(self) -> TakenOver | None:
        """What `check` has measured of the baseline, if it has."""
        if self._given.measurer is not None:
            return None
        taken, said = await takeover.find(self.site)
        self.site = replace(self.site, taken_over=said)
        return taken

    async def look_at_baseline(self) -> None:
        """Measure the baseline, and nothing else."""
        async with self._opened() as parts:
            await self._begin(parts, replace(self._began(parts.proposer), baseline_only=True))

    async def go_on(self, run: Run, ended: Sequence[Trial]) -> None:
        """Take a stored run up. `ended` are its ended trials, as the events tell."""
        self.run = run
        async with self._opened() as parts:
            proposer = parts.proposer
            approval.require_ceiling(self.site, proposer.cost_bound_usd, proposer.cost_least_usd, asks=False)
            await self._recall(proposer, ended)
            await parts.repository.start_branch(run.given.base)
            resumed = Resumed(
                self.site.config.to_row(),
                proposer.repairs,
                proposer.ordered,
                proposer.cost_bound_usd,
                proposer.cost_least_usd,
            )
            await self._conduct(parts, run, resumed)

    async def _recall(self, proposer: Proposer, ended: Sequence[Trial]) -> None:
        """Write rows that the last process did not come to write, and tell the proposer all of them."""
        stored = {trial.number: trial for trial in await self.store.earlier_trials()}
        for trial in ended:
            if trial.number not in stored:
                await self.store.record(trial)
            proposer.tell(stored.get(trial.number, trial))

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Parts]:
        """All parts, closed at the end."""
        with ungrouped():
            async with self._stack:
                yield await self._open()

    async def _open(self) -> Parts:
        site, stack = self.site, self._stack
        stack.callback(self.console.close)
        await passing.sweep(site.checkout, site.cache)
        repository = await stack.enter_async_context(
            GitRepository(site.checkout, site.scope, site.tag, site.cache, self.console.say)
        )
        proposer = self._given.proposer
        if proposer is None:
            proposer = await wiring.make_proposer(self._proposer, site, repository, stack)
            self._proposer = wiring.described(self._proposer, site.config, proposer)
        measurer = self._given.measurer
        if measurer is None:
            measurer = await stack.enter_async_context(wiring.make_measurer(site, repository, self.console))
        return Parts(
            repository=repository,
            measurer=measurer,
            proposer=proposer,
            store=self.store,
            listeners=[self.console.listener()],
            approve=self._approve,
            suggest=self._suggest,
            now=self._now,
        )

    def _began(self, proposer: Proposer) -> Began:
        site = self.site
        return Began(
            config=site.config.to_row(),
            base=site.checkout.base,
            base_tree=site.checkout.base_tree,
            folder=site.checkout.prefix,
            proposer_repairs=proposer.repairs,
            proposer_ordered=proposer.ordered,
            cost_bound_usd=proposer.cost_bound_usd,
            cost_least_usd=proposer.cost_least_usd,
            canary_files=site.scope.files[:FILES_ALONE] if site.config.canary else (),
        )

    async def _begin(self, parts: Parts, began: Began, first: TakenOver | None = None) -> None:
        at = self._now()
        await self.store.append(Stamped(at, began))
        self.run = Run(began, at)
        try:
            await self._conduct(parts, self.run, first)
        except BaselineFailed as error:
            raise BaselineFailed(f"{error}{wiring.withheld_note(self.site.config)}") from None
        except EditUnseen as error:
            raise EditUnseen(error.value, await wiring.what_is_measured(self.site)) from None

    async def _conduct(self, parts: Parts, run: Run, first: Resumed | TakenOver | None = None) -> None:
        coordinator = Coordinator(run, parts)
        try:
            with ungrouped():
                async with anyio.create_task_group() as group:
                    group.start_soon(self._obey_signals, coordinator, group.cancel_scope)
                    await coordinator.conduct(first)
                    group.cancel_scope.cancel()
            if self.exit_code == STOPPED_NOW:
                await self.store.append(Stamped(self._now(), coordinator.ended("at once, by a second signal")))
        except StoreError:
            raise
        except RunStopped as error:
            await self.store.append(Stamped(self._now(), coordinator.ended(str(error))))
            raise

    async def _obey_signals(self, coordinator: Coordinator, scope: CancelScope) -> None:
        """The first one drains, the second stops now; before the run is approved the first does.

        Where the run drains by itself the first stops now too, unless there is the measuring at the end to leave out.
        """
        told = False
        with anyio.open_signal_receiver(*SIGNALS) as signals:
            async for number in signals:
                name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
                run = coordinator.run
                at_end = finale.ahead(run) or holdout.ahead(run)
                if told or not self.approved or (run.stopping is not None and not at_end):
                    self.exit_code = STOPPED_NOW
                    scope.cancel()
                else:
                    told = True
                    coordinator.stop(name)

    # The questions.

    async def _approve(self, metric: Metric, baseline: Measurement) -> Approved:
        if self.run is None or self.run.given.baseline_only:
            return Approved(metric)
        bound, least = self.run.given.cost_bound_usd, self.run.given.cost_least_usd
        return await approval.approve(
            self.site, self.console, metric, baseline, self._proposer, bound, least, self.run.canary.noticed
        )

    async def _suggest(self, command: str) -> None:
        await approval.suggest(self.site, self.console, command)
        self.site = replace(self.site, config=replace(self.site.config, measure=command))
