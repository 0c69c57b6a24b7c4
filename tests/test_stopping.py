"""When a run has reached what was asked of it, and in which words it says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.budget import Budget, Limits
from autoresearch.config import RunConfig
from autoresearch.metric import Direction
from autoresearch.state.stopping import Standing, stop_reason

STANDING = Standing(
    best=5.0,
    direction=Direction.MINIMIZE,
    at_bound=False,
    since_keep=3,
    elapsed_seconds=60.0,
    live=0,
    exhausted="",
    cost_bound_usd=0.25,
)
DONE = Budget(Limits(usd=1.0), trials=7, usd=0.8)


@pytest.mark.parametrize(
    ("config", "standing", "budget", "why"),
    [
        ({}, {}, Budget(), ""),
        ({"max_time": 61.0}, {}, Budget(), ""),
        ({"max_time": 60.0}, {}, Budget(), "--max-time reached"),
        ({"max_trials": 8}, {}, DONE, "--max-cost reached"),
        ({"max_trials": 7}, {}, DONE, "--max-trials reached"),
        ({"target": 4.9}, {}, Budget(), ""),
        ({"target": 5.0}, {}, Budget(), "--target reached"),
        ({"target": 5.0}, {"direction": Direction.MAXIMIZE}, Budget(), "--target reached"),
        ({"target": 5.1}, {"direction": Direction.MAXIMIZE}, Budget(), ""),
        ({}, {"at_bound": True}, Budget(), "nothing left to gain: the metric is at its bound"),
        ({"patience": 4}, {}, Budget(), ""),
        ({"patience": 3}, {}, Budget(), "--patience: 3 trials without a keep"),
        ({}, {"exhausted": "proposals exhausted"}, Budget(), "proposals exhausted"),
        ({}, {"exhausted": "proposals exhausted", "live": 1}, Budget(), ""),
        ({}, {}, DONE, "--max-cost reached"),
        ({}, {"live": 1}, DONE, ""),
        ({}, {"cost_bound_usd": 0.1}, DONE, ""),
    ],
)
def test_each_reason(config: dict[str, Any], standing: dict[str, Any], budget: Budget, why: str) -> None:
    assert stop_reason(replace(RunConfig(), **config), budget, replace(STANDING, **standing)) == why


@given(
    st.builds(
        Standing,
        best=st.floats(-1e9, 1e9),
        direction=st.sampled_from(Direction),
        at_bound=st.just(False),
        since_keep=st.integers(0, 10_000),
        elapsed_seconds=st.floats(0, 1e9),
        live=st.integers(0, 9),
        exhausted=st.just(""),
        cost_bound_usd=st.floats(0, 10),
    ),
    st.integers(0, 10_000),
)
def test_without_a_condition_a_run_never_stops(standing: Standing, trials: int) -> None:
    assert stop_reason(RunConfig(), Budget(trials=trials, usd=1e6), standing) == ""
