"""The summary: printed when a run ends, and by `status`."""

from __future__ import annotations

import shlex

from autoresearch import plain, results
from autoresearch.comparison import FACT, Comparison
from autoresearch.noise import FACT as NOISE
from autoresearch.noise import Kind
from autoresearch.record import CONFIRMATIONS, RunRecord, RunState
from autoresearch.results import short_commit
from autoresearch.trial import Outcome, Trial
from autoresearch.views import gates


def render(record: RunRecord, tip: str = "") -> str:
    """The run in words, ending with a line break. `tip` is where the keeps are, if not on the branch."""
    rows = [*_head(record), "", "Top improvements:", *_top(record), "", "Failed ideas:", *_failed(record), ""]
    rows += [f"Re-measured: {_remeasured(record)}", *_account(record), *_next_steps(record, tip or record.branch)]
    return "\n".join(rows) + "\n"


def _head(record: RunRecord) -> list[str]:
    return [
        "=== Autoresearch Summary ===",
        f"Branch: {record.branch}",
        f"Experiments run: {record.experiments}",
        f"Kept: {record.outcomes.get(Outcome.KEEP, 0)}",
        f"Discarded: {record.outcomes.get(Outcome.DISCARD, 0)}",
        f"Crashed: {record.outcomes.get(Outcome.CRASH, 0)}",
        *_metrics(record),
    ]


def _metrics(record: RunRecord) -> list[str]:
    baseline = record.baseline.value if record.baseline else None
    best = record.best.value if record.best else None
    if baseline is None or best is None:
        return ["Baseline metric: (not measured yet)", "Best metric: (not measured yet)"]
    before, after = plain.apart(baseline, best)
    return [f"Baseline metric: {before}", f"Best metric: {after} (improvement: {plain.improvement(baseline, best)})"]


def _top(record: RunRecord) -> list[str]:
    rows = [
        f"{place}. {short_commit(trial)} — {_idea(trial)} — {_value(trial)}"
        for place, trial in enumerate(record.top, 1)
    ]
    return rows or ["(none)"]


def _failed(record: RunRecord) -> list[str]:
    return [f"- {_idea(trial)} — {_value(trial)}, {trial.reason}" for trial in record.failed] or ["(none)"]


def _idea(trial: Trial) -> str:
    return plain.one_line(trial.hypothesis or trial.note) or "(no hypothesis)"


def _value(trial: Trial) -> str:
    if trial.outcome is Outcome.CRASH:
        return "ERR"
    return "not measured" if trial.value is None else plain.number(trial.value)


def _account(record: RunRecord) -> list[str]:
    usage = record.usage
    return [
        f"Expected false keeps: {_false_keeps(record)}",
        *gates.account(record.facts),
        f"Stopped: {_stopped(record)}",
        f"Time: {plain.duration(record.seconds)}",
        f"Cost: {plain.dollars(usage.cost_usd)}",
        f"Tokens: {usage.tokens:,} ({usage.cached:,} from cache)",
        f"Slot use: {_slot_use(record)}",
    ]


def _remeasured(record: RunRecord) -> str:
    """What measuring baseline and best afresh has given: `A -> B (gain, interval, n)`, or `skipped (why)`."""
    fact = record.facts.get(FACT)
    if fact is None:
        return "skipped (the run has not come to its end)"
    if "skipped" in fact:
        return f"skipped ({fact['skipped']})"
    return "; ".join([Comparison.from_row(fact).words, *fact["failed"]])


def _false_keeps(record: RunRecord) -> str:
    """A bound: of so many confirmations, each of what is no better passes with a probability of 1 - confidence."""
    confidence, kept = record.config.get("confidence"), record.outcomes.get(Outcome.KEEP, 0)
    if kept == 0:
        return "0 (nothing was kept)"
    if record.deterministic is None or confidence is None or record.config.get("repeats") == 1:
        return "not known (nothing was measured twice)"
    if record.facts.get(NOISE, {}).get("kind") == Kind.DETERMINISTIC or record.deterministic:
        return "0 (the metric is deterministic)"
    tests = int(record.facts.get(CONFIRMATIONS, {}).get("begun", record.confirmed))
    bound = plain.number(min(float(kept), tests * (1.0 - confidence)), 2)
    wrong = plain.number(100 * (1.0 - confidence), 3)
    tested = "1 confirmation" if tests == 1 else f"{tests} confirmations"
    return f"at most {bound} of {kept} ({tested}; one of what is no better is passed with a probability of {wrong}%)"


def _stopped(record: RunRecord) -> str:
    match record.state:
        case RunState.RUNNING:
            return f"not yet, it is running (pid {record.pid})"
        case RunState.DRAINING:
            return f"not yet, running measurements end (pid {record.pid})"
        case RunState.INTERRUPTED:
            return f"interrupted; `autoresearch resume {record.tag}` finishes what was running"
        case RunState.ENDED:
            return plain.one_line(record.stop_reason or "")


def _slot_use(record: RunRecord) -> str:
    if record.slot_use is None:
        return "not known"
    slots = "" if record.slots is None else f" of {record.slots} slot{'' if record.slots == 1 else 's'}"
    return f"{100 * record.slot_use:.0f}%{slots}"


def _next_steps(record: RunRecord, tip: str) -> list[str]:
    table = shlex.quote(str(record.run_dir / results.FILE))
    steps = [f"Results: column -ts $'\\t' {table} | less -S"]
    if record.state in (RunState.ENDED, RunState.INTERRUPTED):
        steps.append(f"Go on: autoresearch resume {record.tag}{_more(record)}")
    kept = record.outcomes.get(Outcome.KEEP, 0)
    return [*steps, f"Take it: git merge {tip}" if kept else "Take it: (nothing was kept)"]


def _more(record: RunRecord) -> str:
    """The limit that a run must be given anew, because it has reached it."""
    flag = (record.stop_reason or "").split(" ")[0].rstrip(":")
    if record.state is not RunState.ENDED or not flag.startswith("--"):
        return ""
    return f" {flag} " + (str(2 * record.experiments) if flag == "--max-trials" else "...")
