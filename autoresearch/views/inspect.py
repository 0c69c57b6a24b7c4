"""`status`, `log` and `show`: as text that pipes well, and as plain values for JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Any

from autoresearch import plain
from autoresearch.events import Measured
from autoresearch.record import RunRecord
from autoresearch.results import short_commit
from autoresearch.trial import Measurement, Outcome, Reason, Reply, Trial
from autoresearch.views import gates

_WORDS = {
    Reason.BASELINE: "the unchanged code",
    Reason.IMPROVED: "better than the best before it, confirmed",
    Reason.SIMPLIFIED: "equal to the best before it, with fewer lines",
    Reason.REPLACED: "conflicts with the best before it, and beats it alone",
    Reason.WORSE: "worse than what it was compared with",
    Reason.EQUAL: "equal to what it was compared with, or too close to count, and not simpler",
    Reason.UNCONFIRMED: "looked better once, fresh runs did not confirm it",
    Reason.SUPERSEDED: "better than its parent, but not than the best that landed meanwhile",
    Reason.CONFLICT: "does not merge with the best that landed meanwhile",
    Reason.CHECKS_FAILED: "a check failed",
    Reason.CONSTRAINT: "breaks a constraint",
    Reason.SCREENED_OUT: "clearly worse on the screen",
    Reason.DUPLICATE: "the same files were tried before",
    Reason.CANCELLED: "cancelled by the user",
    Reason.EXIT: "the measure command failed",
    Reason.SIGNAL: "the measure command was killed by a signal",
    Reason.TIMEOUT: "stopped at the timeout",
    Reason.NO_METRIC: "printed no number that is the metric",
    Reason.MEMORY: "used too much memory",
    Reason.BUILD_FAILED: "the build failed",
    Reason.OUT_OF_SCOPE: "touches a path that may not be edited",
    Reason.DOES_NOT_APPLY: "its edits do not apply to the parent",
    Reason.PROPOSER_FAILED: "the proposer gave no usable change",
}


def status_object(record: RunRecord) -> dict[str, Any]:
    """`status --json`."""
    metric, usage = record.metric, record.usage
    return {
        "tag": record.tag,
        "branch": record.branch,
        "state": str(record.state),
        "pid": record.pid,
        "stop_reason": record.stop_reason,
        "objective": record.objective,
        "metric": metric.name or "metric" if metric else None,
        "direction": str(metric.direction) if metric else None,
        "experiments": record.experiments,
        "kept": record.outcomes.get(Outcome.KEEP, 0),
        "discarded": record.outcomes.get(Outcome.DISCARD, 0),
        "crashed": record.outcomes.get(Outcome.CRASH, 0),
        "baseline": record.baseline.value if record.baseline else None,
        "best": record.best.value if record.best else None,
        "best_trial": record.best.number if record.best else None,
        "deterministic": record.deterministic,
        "cost_usd": usage.cost_usd,
        "tokens": usage.tokens,
        "tokens_cached": usage.cached,
        "began_at": record.began_at,
        "ended_at": record.ended_at,
        "seconds": record.seconds,
        "slots": record.slots,
        "slot_use": record.slot_use,
        "run_dir": str(record.run_dir),
        "facts": record.facts,
    }


def log_line(trial: Trial) -> dict[str, Any]:
    """One line of `log --json`: also a line that `replay` takes. The metric of a crash is null."""
    return {
        "trial": trial.number,
        "parent": trial.parent,
        "status": str(trial.outcome),
        "reason": str(trial.reason),
        "hypothesis": trial.hypothesis,
        "edits": [edit.to_row() for edit in trial.edits],
        "metric": None if trial.outcome is Outcome.CRASH else trial.value,
        "delta": trial.delta,
        "n": trial.n,
        "stdev": trial.stdev,
        "seconds": trial.seconds,
        "usd": trial.usage.cost_usd,
        "model": trial.model,
        "commit": trial.commit,
    }


def to_json(row: dict[str, Any]) -> str:
    """One line of strict JSON in ASCII: numbers that JSON lacks become null."""
    return json.dumps({key: _finite(value) for key, value in row.items()}, allow_nan=False)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


LOG_HEADER = (
    f"{'trial':>5}  {'status':7}  {'reason':15}  {'metric':>12}  {'delta':>12}  {'n':>2}  {'commit':7}  hypothesis"
)


def log_row(trial: Trial) -> str:
    """One trial on one line, in the columns of LOG_HEADER; only the last one has spaces."""
    cells = (
        f"{trial.number:>5}",
        f"{trial.outcome!s:7}",
        f"{trial.reason!s:15}",
        f"{_value(trial):>12}",
        f"{'-' if trial.delta is None else _signed(trial.delta):>12}",
        f"{trial.n:>2}",
        f"{short_commit(trial):7}",
        plain.one_line(trial.hypothesis),
    )
    return "  ".join(cells).rstrip()


def show(
    trial: Trial,
    measured: Sequence[Measured] = (),
    replies: Sequence[Reply] = (),
    diff: str = "",
    facts: gates.Facts = MappingProxyType({}),
) -> str:
    """One trial in full, ending with a line break. `diff` is its change as git prints it, `facts` the run's."""
    sections = [
        ("", _facts(trial, gates.holdout_of(facts, trial.number))),
        ("Diff", plain.lines(diff)),
        ("Measurements", "\n".join(_measurements(measured))),
        ("Output", plain.lines(trial.tail)),
    ]
    for place, reply in enumerate(replies, 1):
        of = f" {place}" if len(replies) > 1 else ""
        sections.append((f"Prompt{of}", plain.lines("\n\n".join(reply.prompt))))
        sections.append((f"Reply{of} ({_bill(reply)})", plain.lines(reply.text)))
    return "\n\n".join(_section(title, text) for title, text in sections if text.strip()) + "\n"


def _section(title: str, text: str) -> str:
    body = text.strip("\n")
    return f"--- {title} ---\n{body}" if title else body


def _facts(trial: Trial, holdout: str) -> str:
    model, usage = plain.one_line(trial.model), trial.usage
    rows = [
        ("Trial", str(trial.number)),
        ("Hypothesis", plain.one_line(trial.hypothesis)),
        ("Outcome", f"{trial.outcome}, {trial.reason}: {_WORDS[trial.reason]}"),
        ("Note", plain.one_line(trial.note)),
        ("Implausible", "a gain this large is rarely real: look at the diff" if trial.implausible else ""),
        ("Metric", _value(trial) + _spread(trial)),
        ("Delta", "" if trial.delta is None else f"{_signed(trial.delta)} (positive is better)"),
        ("Holdout", holdout),
        ("Parent", "" if trial.parent is None else str(trial.parent)),
        ("Operator", str(trial.operator or "")),
        ("Commit", trial.commit or "-"),
        ("Lines", f"+{trial.added} -{trial.removed}"),
        ("Files", ", ".join(dict.fromkeys(plain.one_line(edit.path) for edit in trial.edits))),
        ("Measured", f"{plain.times(trial.n)}, {plain.duration(trial.seconds)}" if trial.n else "never"),
        ("Slot", "" if trial.worker is None else str(trial.worker)),
        ("Memory", "" if trial.memory_gb is None else f"{trial.memory_gb:.1f} GB"),
        ("Also printed", plain.pairs(trial.extra)),
        ("Model", model),
        ("Cost", f"{plain.dollars(usage.cost_usd)}, {usage.tokens:,} tokens ({usage.cached:,} from cache)"),
    ]
    return "\n".join(f"{label + ':':13} {text}" for label, text in rows if text)


def _measurements(measured: Iterable[Measured]) -> list[str]:
    return [
        f"{event.purpose!s:9} slot {event.slot}  {_measurement(event.measurement)}  {event.commit[:7]}"
        for event in measured
    ]


def _measurement(measurement: Measurement) -> str:
    value = measurement.value
    result = plain.number(value, 12) if value is not None else f"ERR, {measurement.failure or 'no value'}"
    gigabytes = max(measurement.peak_bytes, measurement.gpu_peak_bytes) / 2**30
    times = f"{plain.duration(measurement.wall_seconds)} wall, {plain.duration(measurement.cpu_seconds)} CPU"
    return f"{result:>14}  {times}, {gigabytes:.1f} GB"


def _bill(reply: Reply) -> str:
    usage = reply.usage
    model = plain.one_line(reply.model) or "no model"
    return f"{model}, {plain.duration(usage.seconds)}, {usage.tokens:,} tokens, {plain.dollars(usage.cost_usd)}"


def _value(trial: Trial) -> str:
    if trial.outcome is Outcome.CRASH:
        return "ERR"
    return "-" if trial.value is None else plain.number(trial.value)


def _spread(trial: Trial) -> str:
    return "" if trial.stdev is None else f" (standard deviation {plain.number(trial.stdev)})"


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{plain.number(value)}"
