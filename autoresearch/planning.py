"""The plan's rows: what a run is about to do, in the user's words."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator

from autoresearch import plain
from autoresearch.config import RunConfig
from autoresearch.metric import Metric, ReaderKind
from autoresearch.plan import Plan
from autoresearch.record import RunRecord
from autoresearch.trial import Measurement
from autoresearch.wiring import Site

_SHOWN = 8


def plan(
    site: Site, metric: Metric, baseline: Measurement, proposer: str, cost_bound_usd: float, most: int | None
) -> Plan:
    """Everything that the user should see before the one question. `most` bounds the workers by memory."""
    config = site.config
    rows = [
        ("Objective", config.objective),
        ("Measure", config.measure),
        ("Metric", f"{metric.name or 'the number'}, {metric.direction} ({how_read(metric)})"),
        ("Baseline", _baseline(metric, baseline)),
        ("Scope", _scope(site)),
        ("Worktrees get", ", ".join(str(item) for item in site.carried.items) or "the committed files alone"),
        ("Branch", f"{site.branch}, from {site.checkout.base[:10]}"),
        ("Workers", workers(site) + (f"; {most} of them fit into the free memory" if most else "")),
        ("Timeout", _timeout(config, baseline)),
        ("Proposer", proposer),
        ("It sees", _sees(config, proposer)),
        ("Stops", _stops(config, proposer)),
        ("Sandbox", "off: measured commands run as you, with the network; they can read and write your files"),
    ]
    priced = cost_bound_usd > 0
    if priced:
        rows.insert(-1, ("Cost", f"one proposal at most ${cost_bound_usd:.2f}"))
    notes = (*_bound_note(baseline.at_bound), *_notes(site))
    return Plan(tuple(rows), notes, needs_ceiling=priced and unbounded(config))


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
        yield f"after {config.max_trials} trials"
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


def _notes(site: Site) -> Iterator[str]:
    yield from dirty_note(site)
    for part in (site.checkout, site.scope, site.carried, site.dealt):
        yield from part.notes


def _bound_note(at_bound: bool) -> Iterator[str]:
    if at_bound:
        yield "nothing left to gain: the metric is at its bound"


def checked(site: Site, record: RunRecord, proposer: str, missing: str, *, at_bound: bool = False) -> Plan:
    """What `check` found."""
    config, baseline, metric = site.config, record.baseline, record.metric
    value = "not measured"
    if baseline is not None and baseline.value is not None:
        spread = "all equal" if record.deterministic else f"standard deviation {plain.number(baseline.stdev or 0.0)}"
        value = f"{plain.number(baseline.value)}, measured {baseline.n} times, {spread}"
    free = shutil.disk_usage(site.checkout.root).free
    rows = (
        ("Objective", config.objective),
        ("Measure", config.measure),
        ("Metric", f"{metric.name or 'the number'}, {metric.direction} ({how_read(metric)})" if metric else "none"),
        ("Baseline", value),
        ("Scope", _scope(site)),
        ("Worktrees get", ", ".join(str(item) for item in site.carried.items) or "the committed files alone"),
        ("Workers", workers(site)),
        ("Proposer", missing or proposer),
        ("Disk", f"{free / 2**30:.1f} GiB free"),
        ("Sandbox", "off"),
    )
    return Plan(rows, (*_bound_note(at_bound), *_notes(site)))


def workers(site: Site) -> str:
    """How many slots, and on what."""
    devices = [str(device) for device in site.dealt.devices]
    if len(set(devices)) == 1:
        return f"{len(devices)}, {devices[0]}" + (" each" if len(devices) > 1 and "shared" not in devices[0] else "")
    return f"{len(devices)}: " + "; ".join(devices)


def _baseline(metric: Metric, baseline: Measurement) -> str:
    value = plain.number(baseline.value) if baseline.value is not None else "none"
    return f"{value} in {plain.duration(baseline.wall_seconds)}, the first measurement"


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
