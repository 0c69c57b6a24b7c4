"""What slots do and report: the baseline, feedback, fresh runs of the incumbent, measurements of candidates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autoresearch import metric as metrics
from autoresearch.actions import Approve, Measure, StartBranch, SuggestMeasure
from autoresearch.budget import limits_of
from autoresearch.events import Approved, Measured
from autoresearch.protocols import Request
from autoresearch.schedule import Work, wants_baseline
from autoresearch.state import bounds, canary, candidates, finale, gates, pairs, regime, staging
from autoresearch.state.slots import SlotState
from autoresearch.trial import Measurement, Purpose

if TYPE_CHECKING:
    from autoresearch.state.run import Run


def slot_failed(run: Run, slot: int, why: str) -> None:
    """The machine failed under a slot."""
    run.baseline.stale.discard(slot)
    for work in run.slots.fail(slot, why, run.clock.at):
        if work.purpose is Purpose.CANARY:
            canary.queue(run, work)
        elif work.purpose not in (Purpose.BASELINE, Purpose.SOLO):
            pairs.queue_again(run, work)
    run.slots.why_lost = why
    drain_without_slots(run)


def slots_complete(run: Run) -> None:
    """No further slot will appear: a run that has none cannot go on."""
    run.slots.complete = True
    drain_without_slots(run)


def drain_without_slots(run: Run) -> None:
    """Stop where every slot was lost to the machine and none is still being made."""
    if run.slots.lost:
        run.drain(f"no slot left: {run.slots.why_lost or 'none could be made'}", failed=True)


def measured(run: Run, event: Measured) -> None:
    """A measurement ended."""
    if (suspect := run.slots.acquit(event.slot)) is not None:
        candidates.unmeasurable(run, suspect.trial)
    gates.seen(run, event)
    slot = run.slots.states[event.slot]
    if slot.work is not None and slot.work.against:
        pairs.measured(run, slot, slot.work, event)
        return
    work, measurement = run.slots.finish(event.slot, run.clock.at), event.measurement
    match event.purpose:
        case Purpose.BASELINE:
            baseline_measured(run, event.slot, measurement)
        case Purpose.FEEDBACK if event.commit == run.tip:
            run.archive.shown = replace(run.archive.shown, feedback=measurement.stdout or measurement.tail)
        case Purpose.ANCHOR:
            anchor_measured(run, event)
        case Purpose.SOLO:
            regime.solo_measured(run, measurement)
        case Purpose.CANARY:
            canary.measured(run, measurement)
        case Purpose.FINAL:
            finale.measured(run, work, event)
        case Purpose.SCREEN | Purpose.CONFIRM if work is not None and event.trial in run.live:
            candidates.candidate_measured(run, run.live[event.trial], event)
            gates.judged(run, event)
        case Purpose.STANDIN | Purpose.HOLDOUT:
            gates.measured(run, event)


def baseline_measured(run: Run, slot: int, measurement: Measurement) -> None:
    """The unchanged code was measured; its first good value settles what is read as the metric."""
    baseline, config = run.baseline, run.config
    if slot in baseline.stale:
        baseline.stale.remove(slot)
        return
    if baseline.metric is None:
        suggested = metrics.suggested_command(config.measure, measurement.stdout)
        if suggested and not config.metric:
            baseline.suggested = suggested
            baseline.stale = {busy.number for busy in run.slots.busy}
            run.clock.ask()
            run.do(SuggestMeasure(suggested))
            return
        baseline.metric = metrics.choose(measurement, config.objective, config.metric, config.direction)
        canary.ask(run, Approve(baseline.metric, metrics.settle(measurement, baseline.metric)))
    if measurement.value is None:
        measurement = metrics.settle(measurement, baseline.metric)
    if not measurement.ok:
        baseline.failed.append(measurement)
        if baseline.hopeless:
            run.drain(baseline.hopeless, failed=True)
        return
    baseline.good.append(measurement)
    run.archive.measured(run.given.base_tree, measurement.value or 0.0, slot)
    run.asking.pace = run.asking.pace.measured(measurement.wall_seconds)
    if len(baseline.good) == 1:
        bounds.require(run, measurement)
        run.archive.shown = replace(
            run.archive.shown, tail=measurement.tail, extra=measurement.extra, at_bound=measurement.at_bound
        )
    elif run.population.incumbent == 0 and not measurement.at_bound:
        run.archive.shown = replace(run.archive.shown, at_bound=False)
    candidates.advance_all(run)


def measure_replaced(run: Run, command: str) -> None:
    """The user took the measure command that was suggested."""
    run.clock.answered()
    run.given = replace(run.given, config=replace(run.config, measure=command))
    run.baseline.suggested = ""
    run.slots.forget_baseline()


def approved(run: Run, event: Approved) -> None:
    """The user agreed to the plan."""
    run.clock.answered()
    if event.max_cost is not None:
        run.given = replace(run.given, config=replace(run.config, max_cost=event.max_cost))
        run.budget = replace(run.budget, limits=limits_of(run.config))
    if event.max_workers is not None:
        run.slots.bound(event.max_workers, "too little free memory for it")
    run.baseline.metric = event.metric
    run.baseline.approved = True
    if not run.given.baseline_only:
        run.do(StartBranch(run.given.base))
    run.wake_at_the_end()
    ask_feedback(run, 0, run.given.base)


def anchor_measured(run: Run, event: Measured) -> None:
    """The incumbent was measured afresh."""
    ended, value = run.archive.trial(event.trial), event.measurement.value
    if ended is not None and ended.tree:
        if value is None:
            run.archive.unanchored.add(ended.tree)
        else:
            run.archive.measured(ended.tree, value, event.slot)
            regime.watch(run)
    candidates.advance_all(run)


def give_work(run: Run) -> None:
    """Give each free slot something to do, as far as there is something."""
    for slot in run.slots.free:
        if (work := work_for(run, slot)) is not None:
            start(run, slot.number, work)


def work_for(run: Run, slot: SlotState) -> Work | None:
    """What a free slot does next; taken from the queues."""
    if run.stopping or run.baseline.suggested or not regime.admits(run):
        return None
    if run.baseline.metric is not None and (work := run.canary.take()) is not None:
        return work
    if (work := gates.baseline_work(run)) is not None:
        return work
    if baseline_wanted(run, slot):
        return Work(0, run.given.base, Purpose.BASELINE, len(run.baseline.good) + baselines_running(run))
    if regime.wants_solo(run):
        return regime.solo(run)
    if slot.on_trial and run.baseline.recorded:
        return regime.anchor(run)
    if not run.baseline.approved:
        return None
    if regime.wants_anchor(run) and not run.schedule.waiting(Purpose.FEEDBACK, Purpose.ANCHOR, Purpose.CONFIRM):
        return regime.anchor(run)
    return run.schedule.take(idle=not run.slots.busy)


def baseline_wanted(run: Run, slot: SlotState) -> bool:
    """Whether a free slot measures the unchanged code."""
    measured, running = len(run.baseline.good), baselines_running(run)
    known = slot.baseline_measured or run.baseline.taken_over
    noisy = not run.archive.noise.deterministic and not run.baseline.recorded and not run.baseline.taken_over
    return wants_baseline(measured, running, known, run.config.repeats, max(1, run.slots.usable) if noisy else 1)


def baselines_running(run: Run) -> int:
    """How many slots measure the unchanged code now."""
    return sum(slot.work is not None and slot.work.purpose is Purpose.BASELINE for slot in run.slots.busy)


def start(run: Run, slot: int, work: Work) -> None:
    """Give a slot its work."""
    run.slots.start(slot, work, run.clock.at)
    regime.count(run, work)
    measure_side(run, slot, work, second=False)


def measure_side(run: Run, slot: int, work: Work, *, second: bool) -> None:
    """Measure in a slot what its work says: of a pair, the side whose turn it is."""
    if work.against and work.candidate_first == second:
        work = replace(work, trial=run.population.incumbent, commit=work.against, purpose=Purpose.ANCHOR)
    config, (command, metric) = run.config, gates.command_of(run, work.purpose)
    request = Request(
        trial=work.trial,
        command=command,
        timeout_seconds=run.baseline.timeout_seconds(config.timeout, of_itself=gates.of_baseline(run, work)),
        metric=metric,
        build=config.build,
        checks=staging.checks_for(run, work),
        seed=config.seed + work.index,
    )
    run.do(Measure(slot, work.commit, work.purpose, request))


def ask_feedback(run: Run, trial: int, commit: str) -> None:
    """Queue the feedback command, if there is one."""
    if run.config.feedback:
        run.schedule.add(Work(trial, commit, Purpose.FEEDBACK))
