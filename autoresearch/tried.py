"""What was tried, in a bounded number of lines: what was kept, what came near, what failed and why.

Pure, and the same for equal histories, whatever their length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from autoresearch.reply import one_line
from autoresearch.trial import Outcome, Reason, Trial

KEPT_FIRST, KEPT_LAST = 5, 10
NEAR = 10
FAILED = 10
RECENT = 12
"""Most lines of each kind."""

_NEAR_REASONS = frozenset({Reason.WORSE, Reason.EQUAL, Reason.UNCONFIRMED, Reason.SUPERSEDED, Reason.SCREENED_OUT})


def tried(history: Sequence[Trial]) -> str:
    """The ended trials as text, the baseline left out; empty where there are none.

    Kept: the first and the last ones. Near misses: the discarded ones that lost least. Failed: the last crashes and
    failed checks, with the last line that they printed. Then the most recent others, so that nothing is asked twice.
    """
    trials = [trial for trial in history if not trial.baseline]
    if not trials:
        return ""
    kept = [trial for trial in trials if trial.outcome is Outcome.KEEP]
    shown_kept = kept if len(kept) <= KEPT_FIRST + KEPT_LAST else [*kept[:KEPT_FIRST], *kept[-KEPT_LAST:]]
    near = sorted((trial for trial in trials if _is_near(trial)), key=lambda trial: -(trial.delta or 0.0))[:NEAR]
    failed = [trial for trial in trials if trial.outcome is not Outcome.KEEP and trial.reason not in _NEAR_REASONS]
    shown_failed = failed[-FAILED:]
    shown = {trial.number for trial in (*shown_kept, *near, *shown_failed)}
    recent = list(islice((trial for trial in reversed(trials) if trial.number not in shown), RECENT))[::-1]
    sections = [
        _counts(trials),
        _section(f"Kept ({len(kept)})", shown_kept),
        _section("Near misses, the nearest first", near),
        _section("Failed, the last ones", shown_failed),
        _section("Others, the most recent", recent),
    ]
    return "\n\n".join(section for section in sections if section)


def _is_near(trial: Trial) -> bool:
    return trial.outcome is Outcome.DISCARD and trial.reason in _NEAR_REASONS and trial.delta is not None


def _counts(trials: Sequence[Trial]) -> str:
    reasons = Counter(f"{trial.outcome} {trial.reason.replace('_', ' ')}" for trial in trials)
    counted = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"{len(trials)} trials so far: {counted}."


def _section(title: str, trials: Sequence[Trial]) -> str:
    return "\n".join([f"{title}:", *(_row(trial) for trial in trials)]) if trials else ""


def _row(trial: Trial) -> str:
    """One trial on one line: number, hypothesis, value and gain, reason; for a failure the last line it printed."""
    parts = [f"- trial {trial.number}: {one_line(trial.hypothesis, 160)}"]
    if trial.value is not None:
        gain = "" if trial.delta is None else f", gain {trial.delta:+.3g}"
        parts.append(f"{trial.value:.6g}{gain}")
    parts.append(trial.reason.replace("_", " "))
    if trial.note:
        parts.append(one_line(trial.note, 160))
    if trial.value is None:
        last = next((line for line in reversed(trial.tail.splitlines()[-20:]) if line.strip()), "")
        parts.append(one_line(last, 200))
    return " | ".join(part for part in parts if part)
