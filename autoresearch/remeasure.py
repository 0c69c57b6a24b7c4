"""`replay`: a trial of a run is measured again, afresh, by turns with the baseline. The run is left as it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from anyio import CancelScope, to_thread

from autoresearch import checkout as checkouts
from autoresearch import history, passing, plain, repository, wiring
from autoresearch.comparison import compare
from autoresearch.config import RunConfig
from autoresearch.errors import NoSlotLeft, SlotLost, UsageError
from autoresearch.metric import Metric
from autoresearch.noise import Noise
from autoresearch.protocols import Console, Measurer, Request, Slot
from autoresearch.record import RunRecord
from autoresearch.repository import GitRepository
from autoresearch.session import SIGNALS, STOPPED_NOW
from autoresearch.state.baseline import TIMEOUT_SECONDS
from autoresearch.state.finale import FIRST_SEED, RUNS
from autoresearch.trial import Measurement, Reason, Trial, mean
from autoresearch.wiring import Site


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two trees: which trial, its commit, and in which pair."""

    trial: int
    commit: str
    pair: int


@dataclass(slots=True)
class Turns:
    """What is to be measured, by turns, and what came of it."""

    queue: deque[Side]
    seen: dict[int, list[Measurement]] = field(default_factory=dict)
    """By trial."""
    lost: str = ""
    """How the last slot failed."""

    @classmethod
    def of(cls, baseline: str, trial: Trial, pairs: int) -> Turns:
        """Baseline and trial, `pairs` times each: B A A B; of the baseline itself, only that."""
        queue = deque[Side]()
        for pair in range(pairs):
            sides = [Side(0, baseline, pair), Side(trial.number, trial.commit or "", pair)][: 2 if trial.number else 1]
            queue += sides if pair % 2 == 0 else sides[::-1]
        return cls(queue)

    def values(self, trial: int) -> list[float]:
        """The good ones."""
        return [each.value for each in self.seen.get(trial, ()) if each.value is not None]

    async def share(self, measurer: Measurer, base: Request) -> None:
        """Let all slots take from the queue, each as soon as it is ready.

        Raises:
            NoSlotLeft: the machine failed under all of them.
        """
        async with anyio.create_task_group() as group:
            async for slot in measurer.slots():
                group.start_soon(self._work, slot, base)
        if self.queue:
            raise NoSlotLeft(f"no slot left: {self.lost}")

    async def _work(self, slot: Slot, base: Request) -> None:
        while self.queue:
            side = self.queue.popleft()
            request = replace(base, trial=side.trial, seed=base.seed + side.pair)
            try:
                measurement = await slot.measure(side.commit, request)
            except SlotLost as error:
                self.lost = str(error)
                self.queue.appendleft(side)
                return
            self.seen.setdefault(side.trial, []).append(measurement)


async def replay(number: int, run_dir: Path, runs: int | None, *, folder: Path, console: Console) -> int:
    """Measure a trial and the baseline again, `runs` times each, and say how they compare; return the exit code.

    Raises:
        UsageError: there is no such trial, or nothing of it to measure.
        NoSlotLeft: the machine fails under every slot.
    """
    record = await to_thread.run_sync(history.read_run, run_dir)
    trial = await to_thread.run_sync(history.trial, run_dir, number)
    baseline, metric = record.baseline, record.metric
    if baseline is None or baseline.commit is None or metric is None:
        raise UsageError(f"the baseline of the run {record.tag} has not been measured yet")
    if trial.commit is None:
        raise UsageError(f"trial {number} has no commit to measure: {trial.reason}")
    pairs = runs or RUNS
    turns = Turns.of(baseline.commit, trial, pairs)
    site = await _site(record, baseline.commit, folder, len(turns.queue))
    request = await _request(record, site.config, metric)
    both = f"trial {number} and the baseline {plain.times(pairs)} each, by turns"
    console.say(f"measuring {both if number else f'the baseline {plain.times(pairs)}'}")
    if not await _measured(site, turns, request, console):
        return STOPPED_NOW
    for line in _told(record, trial, turns):
        console.say(line)
    return 0


async def _measured(site: Site, turns: Turns, request: Request, console: Console) -> bool:
    """Measure in slots of our own, in a folder that goes again; whether it was not stopped by a signal."""
    with TemporaryDirectory(prefix="autoresearch-") as scratch:
        site, whole = replace(site, run_dir=Path(scratch) / site.tag), False
        await passing.sweep(site.checkout, site.cache)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_obey_signals, group.cancel_scope)
                async with (
                    GitRepository(site.checkout, site.scope, site.tag, site.cache, console.say) as repo,
                    wiring.make_measurer(site, repo, console) as measurer,
                ):
                    await turns.share(measurer, request)
                whole = True
                group.cancel_scope.cancel()
        finally:
            with CancelScope(shield=True):
                await repository.forget(site.checkout, site.tag, site.cache)
    return whole


async def _obey_signals(scope: CancelScope) -> None:
    with anyio.open_signal_receiver(*SIGNALS) as signals:
        async for _ in signals:
            scope.cancel()


async def _site(record: RunRecord, base: str, folder: Path, most: int) -> Site:
    """The place as the run has it, under a name of our own, with no more slots than there are measurements."""
    checkout = await checkouts.inspect(folder)
    config = RunConfig.from_row(record.config)
    looked = await wiring.look(replace(config, base=base, tag=None), checkout.root / record.folder, record.tag)
    dealt = replace(looked.dealt, devices=looked.dealt.devices[: min(most, record.slots or most)])
    return replace(looked, config=config, tag=passing.tag_for("replay"), dealt=dealt)


async def _request(record: RunRecord, config: RunConfig, metric: Metric) -> Request:
    """How the run measures, but with seeds that it has not chosen by."""
    measured = await to_thread.run_sync(history.measurements, record.run_dir, 0)
    slowest = max((event.measurement.wall_seconds for event in measured), default=0.0)
    return Request(
        trial=0,
        command=config.measure,
        timeout_seconds=config.timeout or max(TIMEOUT_SECONDS, 2 * slowest),
        metric=metric,
        build=config.build,
        checks=config.check,
        seed=config.seed + FIRST_SEED,
    )


def _told(record: RunRecord, trial: Trial, turns: Turns) -> list[str]:
    """What is said at the end."""
    names = {0: "baseline"} if trial.number == 0 else {0: "baseline", trial.number: f"trial {trial.number}"}
    lines = [f"trial {trial.number}: {plain.one_line(trial.hypothesis)}", f"stored: {_stored(trial)}"]
    if record.pid is not None:
        lines.append(f"the run is going on (pid {record.pid}): both sides shared the machine with it")
    lines += [f"{name}: {_values(turns.seen.get(number, ()))}" for number, name in names.items()]
    before, after = turns.values(0), turns.values(trial.number)
    if trial.number == 0 and before:
        lines.append(f"Re-measured: {plain.number(mean(before))} (mean, n = {len(before)})")
    elif before and after:
        lines.append(f"Re-measured: {compare(before, after, _noise(record)).words}")
    else:
        lines.append(f"Re-measured: skipped ({'it' if trial.number == 0 else 'one of them'} gave no value)")
    return lines


def _stored(trial: Trial) -> str:
    value = "no value" if trial.value is None else plain.number(trial.value)
    spread = "" if trial.stdev is None else f", standard deviation {plain.number(trial.stdev, 3)}"
    return f"{trial.outcome} ({trial.reason}), {value}, measured {plain.times(trial.n)}{spread}"


def _values(measurements: Sequence[Measurement]) -> str:
    return " ".join(
        plain.number(each.value) if each.value is not None else str(each.failure or Reason.NO_METRIC)
        for each in measurements
    )


def _noise(record: RunRecord) -> Noise:
    """What the run knows of the spread of one measurement."""
    baseline = record.baseline
    if record.deterministic:
        return Noise()
    if baseline is None or not baseline.stdev:
        return Noise(1.0, 0)  # of a size that nothing tells
    return Noise(baseline.stdev, baseline.n - 1)
