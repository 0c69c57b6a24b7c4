"""The plan's rows: what a run is about to do, in the user's words."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence

from autoresearch import plain
from autoresearch.config import RunConfig
from autoresearch.dealing import Clocking
from autoresearch.metric import Metric, ReaderKind
from autoresearch.noise import FACT as NOISE
from autoresearch.noise import Picture
from autoresearch.plan import Plan
from autoresearch.record import RunRecord
from autoresearch.state.canary import Canary
from autoresearch.tools import speaks_of_time
from autoresearch.trial import Measurement
from autoresearch.wiring import Site

_SHOWN = 8
DEFAULTS = RunConfig()


def plan(
    site: Site,
    metric: Metric,
    baseline: Measurement,
    proposer: str,
    cost_bound_usd: float,
    most: int | None,
    noticed: str = "",
) -> Plan:
    """Everything that the user should see before the one question.

    `most` bounds the workers by memory; `noticed` says how the measurement noticed the canary.
    """
    config = site.config
    rows = [
        ("Objective", config.objective),
        ("Measure", config.measure),
        ("Metric", f"{metric.name or 'the number'}, {metric.direction} ({how_read(metric)})"),
        ("Baseline", _baseline(site, baseline)),
        *gates(config),
        ("Canary", seen(config, noticed)),
        ("Scope", _scope(site)),
        ("Worktrees get", ", ".join(str(item) for item in site.carried.items) or "the committed files alone"),
        ("Branch", f"{site.branch}, from {site.checkout.base[:10]}"),
        ("Workers", workers(site) + (f"; {most} of them fit into the free memory" if most else "")),
        ("CPU", cpu(site.machine.clocking)),
        ("Timeout", _timeout(config, baseline)),
        *deciding(config),
        ("Proposer", proposer),
        ("It sees", _sees(config, proposer)),
        ("Stops", _stops(config, proposer)),
        ("Sandbox", "off: measured commands run as you, with the network; they can read and write your files"),
    ]
    priced = cost_bound_usd > 0
    if priced:
        rows.insert(-1, ("Cost", f"one proposal at most ${cost_bound_usd:.2f}"))
    notes = (*_bound_note(baseline.at_bound), *_notes(site, metric))
    return Plan(tuple(rows), notes, needs_ceiling=priced and unbounded(config))


def gates(config: RunConfig) -> Iterator[tuple[str, str]]:
    """What a candidate passes beside the measurement, where the user asked for it."""
    for label, texts in (("Checks", config.check), ("Constraints", config.constraint)):
        if texts:
            yield label, "; ".join(texts)
    if config.screen is not None:
        yield "Stand-in", f"{config.screen}; what is clearly worse on it is not measured"
    if config.holdout is not None:
        yield "Holdout", f"{config.holdout}; on keeps only, never shown to a proposer"


def deciding(config: RunConfig) -> Iterator[tuple[str, str]]:
    """What the user has asked of a keep, beside what is usual."""
    said = []
    if config.confidence != DEFAULTS.confidence:
        said.append(f"confidence {config.confidence:g}")
    if config.repeats is not None:
        said.append(f"exactly {plain.times(config.repeats)} measured afresh")
    if config.min_gain != DEFAULTS.min_gain:
        said.append(f"at least {config.min_gain} better, or shorter")
    if config.exclusive == "on":
        said.append("one measurement at a time")
    if said:
        yield "A keep", ", ".join(said)


def _stops(config: RunConfig, proposer: str) -> str:
    conditions = list(stop_conditions(config))
    if proposer.startswith("replay:"):
        conditions.append("after the last line of its file")
    return ", ".join(conditions) or "at Ctrl-C only"


def unbounded(config: RunConfig) -> bool:
    """No stop condition bounds what the run may spend."""
    return not list(stop_conditions(config)) and config.max_cost is None


def stop_conditions(config: RunConfig) -> Iterator[str]:
    """What the user named, in words."""
    if config.max_trials is not None:
        yield f"after {config.max_trials} trial{'' if config.max_trials == 1 else 's'}"
    if config.max_time is not None:
        yield f"after {plain.duration(config.max_time)}"
    if config.max_cost is not None and not math.isinf(config.max_cost):
        yield f"before spending more than ${config.max_cost:g}"
    if config.target is not None:
        yield f"at {plain.number(config.target)}"
    if config.patience is not None:
        yield f"after {config.patience} trials without a keep"


def how_read(metric: Metric) -> str:
    """The reading rule, in words."""
    key = metric.reader.key
    match metric.reader.kind:
        case ReaderKind.REGEX:
            return f"the last match of {key}"
        case ReaderKind.NAME:
            return f"from the line `{key}`"
        case ReaderKind.TOOL:
            return f"from the summary of {key.split('.')[0]}"
        case ReaderKind.NUMBER:
            return "the only number in the last line that has one"
        case ReaderKind.RESOURCE:
            return "of the measurement itself"


def dirty_note(site: Site) -> Iterator[str]:
    """Uncommitted changes in scope, if any."""
    if site.dirty:
        more = f" and {len(site.dirty) - _SHOWN} more" if len(site.dirty) > _SHOWN else ""
        yield f"not committed, so not part of the run: {', '.join(site.dirty[:_SHOWN])}{more}"


def _notes(site: Site, metric: Metric | None) -> Iterator[str]:
    yield from dirty_note(site)
    yield from clock_note(site.machine.clocking, about_time(metric, site.config.objective))
    for part in (site.checkout, site.scope, site.carried, site.dealt):
        yield from part.notes


def _bound_note(at_bound: bool) -> Iterator[str]:
    if at_bound:
        yield "nothing left to gain: the metric is at its bound"


def checked(
    site: Site, record: RunRecord, proposer: str, missing: str, canary: Canary, *, at_bound: bool = False
) -> Plan:
    """What `check` found."""
    config, baseline, metric = site.config, record.baseline, record.metric
    value = "not measured"
    if baseline is not None and baseline.value is not None:
        spread = "all equal" if record.deterministic else f"standard deviation {plain.number(baseline.stdev or 0.0)}"
        note = f"; {plain.one_line(baseline.note)}" if baseline.note else ""
        value = f"{plain.number(baseline.value)}, measured {baseline.n} times, {spread}{note}"
    free = shutil.disk_usage(site.checkout.root).free
    rows = (
        ("Objective", config.objective),
        ("Measure", config.measure),
        ("Metric", f"{metric.name or 'the number'}, {metric.direction} ({how_read(metric)})" if metric else "none"),
        ("Baseline", value),
        ("Noise", Picture.from_row(record.facts[NOISE]).words if NOISE in record.facts else "not known"),
        *gates(config),
        ("Canary", seen(config, canary.noticed)),
        ("Scope", _scope(site)),
        ("Worktrees get", ", ".join(str(item) for item in site.carried.items) or "the committed files alone"),
        ("Workers", workers(site)),
        ("CPU", cpu(site.machine.clocking)),
        ("Proposer", missing or proposer),
        ("Disk", f"{free / 2**30:.1f} GiB free"),
        ("Sandbox", "off"),
    )
    return Plan(rows, (*_bound_note(at_bound), *unseen_note(canary.unseen), *_notes(site, metric)))


def seen(config: RunConfig, noticed: str) -> str:
    """Whether the measurement sees the edits, in words."""
    if not config.canary:
        return "off (--no-canary): nothing has shown that the measurement sees the edits"
    return f"noticed ({noticed})" if noticed else "not measured"


def unseen_note(files: Sequence[str]) -> Iterator[str]:
    """Files of the scope that do not matter, if any."""
    if files:
        yield f"these files of the scope do not change the measurement: {', '.join(files)}"


def workers(site: Site) -> str:
    """How many slots, and on what."""
    devices = [str(device) for device in site.dealt.devices]
    if len(set(devices)) == 1:
        return f"{len(devices)}, {devices[0]}" + (" each" if len(devices) > 1 and "shared" not in devices[0] else "")
    return f"{len(devices)}: " + "; ".join(devices)


def cpu(clocking: Clocking) -> str:
    """What makes timings vary, in words."""
    words = {None: "not known", True: "on", False: "off"}
    return f"governor {clocking.governor or 'not known'}, turbo {words[clocking.turbo]}, SMT {words[clocking.smt]}"


def about_time(metric: Metric | None, objective: str) -> bool:
    """Whether the metric is a duration, as far as its name and the objective tell."""
    return speaks_of_time(f"{objective} {metric.name if metric else ''}")


def clock_note(clocking: Clocking, timed: bool) -> Iterator[str]:
    """How this machine could measure durations more steadily, where it is known to."""
    advice = []
    if clocking.governor not in (None, "performance"):
        advice.append(f"the governor is {clocking.governor}, not performance")
    if clocking.turbo:
        advice.append("turbo is on")
    if timed and advice:
        yield f"clocks vary with the load ({', '.join(advice)}), and with them every timing"


def _baseline(site: Site, baseline: Measurement) -> str:
    value = plain.number(baseline.value) if baseline.value is not None else "none"
    return f"{value} in {plain.duration(baseline.wall_seconds)}, {site.taken_over or 'the first measurement'}"


def _scope(site: Site) -> str:
    files = site.scope.files
    names = ", ".join(files[:_SHOWN]) + (", ..." if len(files) > _SHOWN else "")
    return f"{len(files)} file{'s' if len(files) != 1 else ''}: {names}"


def _timeout(config: RunConfig, baseline: Measurement) -> str:
    if config.timeout is not None:
        return plain.duration(config.timeout)
    limit = plain.duration(max(300.0, 2 * baseline.wall_seconds))
    return f"{limit}, or twice the slowest baseline where that is longer"


def _sees(config: RunConfig, proposer: str) -> str:
    if proposer.startswith(("mutate", "replay")):
        return "the files in scope" if proposer.startswith("mutate") else "nothing: its lines are fixed"
    parts = ["the files in scope", "README and small files beside them", "outputs", "results so far"]
    if config.context:
        parts[1] = "README and " + ", ".join(config.context)
    parts.append(config.program or "program.md where it exists")
    return ", ".join(parts)
