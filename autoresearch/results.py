"""How a trial becomes a row of results.tsv.

The file is Python's csv with the dialect excel-tab. Its first four columns are those of Karpathy's results.tsv; the
second is named after the metric. It loads with `pandas.read_csv(path, sep="\\t", na_values=["ERR"])`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from autoresearch.plain import one_line
from autoresearch.trial import Outcome, Reason, Trial

FILE = "results.tsv"

_COLUMNS = (
    "status",
    "description",
    "memory_gb",
    "reason",
    "trial",
    "parent",
    "worker",
    "delta",
    "n",
    "stdev",
    "lines",
    "seconds",
    "tokens",
    "usd",
    "model",
)


def header(metric: str) -> list[str]:
    """The column names; `metric` is the metric's name, empty where it has none."""
    return ["commit", one_line(metric) or "metric", *_COLUMNS]


def row(trial: Trial) -> list[str]:
    """The trial's cells, in the order of `header`."""
    return [
        short_commit(trial),
        "ERR" if trial.outcome is Outcome.CRASH else _number(trial.value),
        str(trial.outcome),
        _description(trial),
        "" if trial.memory_gb is None else f"{trial.memory_gb:.1f}",
        str(trial.reason),
        str(trial.number),
        _whole(trial.parent),
        _whole(trial.worker),
        _number(trial.delta),
        str(trial.n),
        _number(trial.stdev),
        f"+{trial.added}-{trial.removed}",
        _number(trial.seconds),
        str(trial.usage.tokens),
        _number(trial.usage.cost_usd),
        one_line(trial.model),
    ]


def _description(trial: Trial) -> str:
    if trial.baseline:
        return "baseline"
    said = f"{trial.hypothesis} ({trial.note})" if trial.reason is Reason.DUPLICATE else trial.hypothesis
    return one_line(said or trial.note)


def lines(rows: Iterable[list[str]]) -> str:
    """Rows as text, each with its line end."""
    text = io.StringIO(newline="")
    csv.writer(text, dialect="excel-tab").writerows(rows)
    return text.getvalue()


def short_commit(trial: Trial) -> str:
    """The first seven digits, or `-`."""
    return trial.commit[:7] if trial.commit else "-"


def _number(value: float | None) -> str:
    """Python's repr of a float, so that no digit is lost; 0.0 is added because -0.0 reads like an error."""
    return "" if value is None else repr(float(value) + 0.0)


def _whole(value: int | None) -> str:
    return "" if value is None else str(value)
