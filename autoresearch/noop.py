"""`check --aa N`: candidates that change nothing go through a real run; whatever is kept of them is a false keep.

Each writes a number into one new file at the root, so that trees differ and nothing that is measured does.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from anyio import CancelScope, to_thread

from autoresearch import approval, history, passing, plain, repository, takeover, wiring
from autoresearch.brief import Brief
from autoresearch.config import RunConfig
from autoresearch.distributions import share_interval
from autoresearch.events import Measured, Stamped
from autoresearch.metric import Metric, settle
from autoresearch.plan import Plan
from autoresearch.protocols import Console, Listener, Tree
from autoresearch.record import RunRecord
from autoresearch.scope import Scope
from autoresearch.session import Brought, Session
from autoresearch.store import SQLiteStore
from autoresearch.trial import Change, Edit, Outcome, Proposal, Purpose, Reply, Trial
from autoresearch.version import VERSION
from autoresearch.wiring import Site

FILE = ".autoresearch-aa"
_NOT_OF_CANDIDATES = {Purpose.BASELINE, Purpose.SOLO, Purpose.FINAL, Purpose.CANARY}


class Noops:
    """Proposes changes that change nothing."""

    repairs = ordered = False
    cost_bound_usd = cost_least_usd = 0.0

    async def propose(self, brief: Brief, tree: Tree) -> Proposal:
        edit = Edit(FILE, content=f"{brief.trial}\n")
        return Proposal(Change(f"no-op {brief.trial}", (edit,)), Reply(""))

    def tell(self, trial: Trial) -> None:
        return None


class Progress:
    """A console that shows how the run goes, and neither its plan nor its summary."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, plan: Plan) -> None:
        return None

    def can_ask(self) -> bool:
        return False

    async def ask(self, question: str) -> str | None:
        return None

    def say(self, line: str) -> None:
        self._console.say(line)

    def listener(self) -> Listener:
        return self._console.listener()

    def summary(self, text: str) -> None:
        return None

    def close(self) -> None:
        self._console.close()


@dataclass(frozen=True, slots=True)
class Campaign:
    """What came of the candidates."""

    candidates: int
    kept: int
    naive: int
    """How many a naive rule would have kept: one run that is better than the baseline's first."""
    measurements: int
    """Of candidates and, to compare them with, of the incumbent."""


def tally(record: RunRecord, stamped: Sequence[Stamped], metric: Metric) -> Campaign:
    """Count what a run of candidates that change nothing has done."""
    measured = [stamp.event for stamp in stamped if isinstance(stamp.event, Measured)]
    values = {event.trial: event.measurement.value for event in reversed(measured) if event.purpose is Purpose.SCREEN}
    baseline = (event.measurement for event in measured if event.purpose is Purpose.BASELINE)
    first = next((each.value if each.ok else settle(each, metric).value for each in baseline), None)
    naive = sum(
        value is not None and first is not None and metric.direction.better(value, first) for value in values.values()
    )
    return Campaign(
        candidates=record.experiments,
        kept=record.outcomes.get(Outcome.KEEP, 0),
        naive=naive,
        measurements=sum(event.purpose not in _NOT_OF_CANDIDATES for event in measured),
    )


async def campaign(config: RunConfig, count: int, *, folder: Path, console: Console) -> int:
    """Run `count` such candidates here, with the settings of a run, and report; return the exit code.

    Raises:
        UsageError: a run could not start.
    """
    site = await wiring.look(config, folder)
    config = _settings(await approval.with_direction(config, console), count)
    with TemporaryDirectory(prefix="autoresearch-") as scratch:
        scope = Scope(files=(), literal=frozenset({FILE}))
        tag = passing.tag_for("aa")
        site = replace(site, config=config, tag=tag, scope=scope, run_dir=Path(scratch) / tag)
        try:
            async with SQLiteStore.open(site.run_dir) as store:
                session = Session(site, Progress(console), store, wiring.GIVEN, Brought(Noops()))
                await session.start()
                stamped = await store.events()
            record = await to_thread.run_sync(history.read_run, site.run_dir)
        finally:
            with CancelScope(shield=True):
                await repository.forget(site.checkout, site.tag, site.cache, branch=True)
    if session.exit_code or record.metric is None:
        return session.exit_code
    console.summary("\n".join(table(site, record, tally(record, stamped, record.metric), record.metric)) + "\n")
    return 0


def _settings(config: RunConfig, count: int) -> RunConfig:
    """Those of the run, ended by the number of candidates alone, and nothing run on keeps."""
    return replace(
        config,
        yes=True,
        canary=False,
        max_trials=count,
        max_time=None,
        max_cost=None,
        target=None,
        patience=None,
        feedback=None,
        holdout=None,
    )


def table(site: Site, record: RunRecord, found: Campaign, metric: Metric) -> list[str]:
    """What is reported, as a table in Markdown."""
    config, baseline = site.config, record.baseline
    each = found.measurements / found.candidates if found.candidates else 0.0
    value = plain.number(baseline.value) if baseline and baseline.value is not None else "not measured"
    rows = {
        "candidates that change nothing": str(found.candidates),
        "kept (all falsely)": _share(found.kept, found.candidates),
        "a naive rule would have kept": _share(found.naive, found.candidates),
        "measurements per candidate": f"{each:.2f}",
        "metric": f"{plain.one_line(metric.name) or 'the number'}, {metric.direction}, baseline {value}",
        "noise": _noise(record),
        "measure": f"`{plain.one_line(config.measure)}`".replace("|", "\\|"),
        "rule": f"confidence {config.confidence:g}" + (f", repeats {config.repeats}" if config.repeats else ""),
        "machine": f"{takeover.machine_name(site.machine)}; workers: {len(site.dealt.devices)}",
        "version": f"autoresearch {VERSION}, Python {platform.python_version()}",
    }
    head = ["| A/A | |", "|---|---|"]
    note = [
        "",
        "Intervals: 95%, Clopper-Pearson. The naive rule keeps what beats the baseline's first value once.",
    ]
    return [*head, *(f"| {name} | {text} |" for name, text in rows.items()), *note]


def _share(hits: int, of: int) -> str:
    low, high = (100 * end for end in share_interval(hits, of))
    rate = 100 * hits / of if of else 0.0
    return f"{hits} of {of}: {rate:.1f}% (95% interval {low:.1f}% to {high:.1f}%)"


def _noise(record: RunRecord) -> str:
    fact = record.facts.get("noise")
    if fact is None:
        return "not known"
    spread = f"standard deviation {plain.number(fact['stdev'], 3)} with {fact['dof']} degrees of freedom"
    return str(fact["kind"]) + ("" if fact["stdev"] == 0 else f", {spread}")
