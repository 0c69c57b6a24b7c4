from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.config import FIELDS, RunConfig, from_mapping, merge, read_mapping
from autoresearch.errors import ConfigError
from autoresearch.metric import Direction


def test_a_flag_wins_over_the_file_which_wins_over_pyproject() -> None:
    config = merge(
        {"workers": "8"}, {"workers": 4, "timeout": "90s"}, {"workers": 2, "timeout": "1h", "seed": 3, "scope": "src/"}
    )
    assert (config.workers, config.timeout, config.seed, config.scope) == (8, 90.0, 3, ("src/",))


def test_lists_replace_lists() -> None:
    assert merge({"check": ["mypy"]}, {"check": ["ruff check", "pytest"]}).check == ("mypy",)


@pytest.mark.parametrize(
    "values", [{"minimize": True}, {"direction": "minimize"}, {"maximize": False, "minimize": True}]
)
def test_a_direction_has_two_spellings(values: dict[str, Any]) -> None:
    assert merge({}, values).direction is Direction.MINIMIZE


def test_a_flag_of_direction_wins_over_either_spelling() -> None:
    assert merge({"direction": "maximize"}, {"minimize": True}).direction is Direction.MAXIMIZE


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"workerz": 3}, "autoresearch.toml: workerz: unknown key; did you mean `workers`?"),
        ({"max-trials": 3}, "autoresearch.toml: max-trials: unknown key; did you mean `max_trials`?"),
        ({"workers": 0}, "autoresearch.toml: workers: `0` is too small; it is at least 1"),
        ({"max_time": "5x"}, "autoresearch.toml: max_time: `5x` is not a duration"),
        ({"lessons": 5}, "autoresearch.toml: lessons: not available yet"),
        ({"constraint": "p99 = 3"}, "autoresearch.toml: constraint: `p99 = 3` is not a bound on a number"),
        ({"constraint": ["a <= 1", "b <= c"]}, "autoresearch.toml: constraint: `b <= c`: `c` is neither a number nor"),
        ({"network": False}, "autoresearch.toml: network: not available yet"),
        ({"effort": "heroic"}, "autoresearch.toml: effort: `heroic` is not one of low, medium"),
        ({"minimize": True, "maximize": True}, "autoresearch.toml: maximize: the other direction is set too"),
        ({"minimize": "yes"}, "autoresearch.toml: minimize: `yes` is neither true nor false"),
        ({"direction": "up"}, "autoresearch.toml: direction: `up` is not one of minimize, maximize"),
        ({"tool": {"autoresearch": {}}}, "autoresearch.toml: tool: settings stand at the top of the file"),
    ],
)
def test_a_wrong_setting_names_its_place(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        merge({}, values)
    assert str(caught.value).startswith(said)


def test_a_wrong_flag_is_named_as_it_was_typed() -> None:
    with pytest.raises(ConfigError, match=r"^--max-time: `5x` is not a duration"):
        merge({"max_time": "5x"})
    with pytest.raises(ConfigError, match=r"^--no-network: not available yet"):
        merge({"network": False})


def test_what_is_not_available_yet_may_be_set_to_what_holds_anyway() -> None:
    assert merge({"sandbox": "off", "network": True}) == RunConfig()


def test_an_agent_implies_the_command_proposer() -> None:
    assert merge({"agent": "codex"}, {"proposer": "claude"}).proposer == "command"
    with pytest.raises(ConfigError, match=r"--agent: it needs `--proposer command`, and the proposer is `mutate`"):
        merge({"agent": "codex", "proposer": "mutate"})
    with pytest.raises(ConfigError, match=r"needs --agent"):
        merge({"proposer": "command"})


def test_changes_are_typed_and_only_what_was_given() -> None:
    assert read_mapping({"max_trials": "50", "max_cost": "none"}, "") == {"max_trials": 50, "max_cost": math.inf}


def test_a_base_keeps_what_is_not_set() -> None:
    base = RunConfig(objective="minimize x", workers=3)
    assert from_mapping({"workers": 5}, "resume", base) == replace(base, workers=5)


texts = st.text(min_size=1).filter(str.strip)
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "objective": texts,
    "scope": st.lists(texts),
    "direction": st.sampled_from(["minimize", "maximize"]),
    "timeout": st.floats(0.001, 1e6),
    "max_cost": st.floats(0, 1e6) | st.just("none"),
    "target": st.floats(allow_nan=False, allow_infinity=False),
    "workers": st.integers(1, 1000),
    "yes": st.booleans(),
    "min_gain": st.floats(0, 100).map(lambda gain: f"{gain}%"),
}


@settings(max_examples=25)
@given(st.fixed_dictionaries({}, optional=SETTINGS))
def test_a_row_gives_the_same_settings_back(values: dict[str, Any]) -> None:
    config = from_mapping(values, "here")
    stored = json.loads(json.dumps(config.to_row(), allow_nan=False))
    assert RunConfig.from_row(stored) == config
    assert set(stored) == set(FIELDS)


def test_a_row_of_a_later_version_is_read() -> None:
    assert RunConfig.from_row({"workers": 2, "telepathy": True}) == RunConfig(workers=2)


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_is_described_and_reads_its_default(name: str) -> None:
    field = FIELDS[name]
    assert field.metadata["help"] and field.metadata["group"]
    assert field.default in (None, "") or field.metadata["read"](field.default) == field.default


def test_every_command_that_decides_is_one_whose_files_are_protected() -> None:
    config = RunConfig(measure="m", build="b", check=("c", "d"), screen="s", holdout="h", feedback="shown", setup="u")
    assert config.commands == ("m", "b", "c", "d", "s", "h")
