"""When a run has reached what was asked of it. Each reason is the sentence that the summary shows."""

from __future__ import annotations

from dataclasses import dataclass

from autoresearch.budget import Budget
from autoresearch.config import RunConfig
from autoresearch.metric import Direction


@dataclass(frozen=True, slots=True)
class Standing:
    """What the stop conditions look at."""

    best: float
    direction: Direction
    at_bound: bool
    since_keep: int
    elapsed_seconds: float
    """Of the whole run, `resume` included, pauses between processes left out."""
    live: int
    """Trials without a row."""
    exhausted: str
    """Why nothing is proposed any more; empty: something is."""
    cost_bound_usd: float


def time_is_up(config: RunConfig, elapsed_seconds: float) -> str:
    """Why the run ends, or an empty string; holds from the plan's approval on."""
    return "--max-time reached" if config.max_time is not None and elapsed_seconds >= config.max_time else ""


def stop_reason(config: RunConfig, budget: Budget, standing: Standing) -> str:
    """Why the run ends, or an empty string."""
    if why := time_is_up(config, standing.elapsed_seconds):
        return why
    if config.max_trials is not None and budget.trials >= config.max_trials:
        return "--max-trials reached"
    if config.target is not None and not standing.direction.better(config.target, standing.best):
        return "--target reached"
    if standing.at_bound:
        return "nothing left to gain: the metric is at its bound"
    if config.patience is not None and standing.since_keep >= config.patience:
        return f"--patience: {standing.since_keep} trials without a keep"
    if standing.live == 0 and standing.exhausted:
        return standing.exhausted
    if standing.live == 0 and not budget.affords(standing.cost_bound_usd):
        return "--max-cost reached"
    return ""
