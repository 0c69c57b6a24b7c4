from __future__ import annotations

import re
import tomllib

import pytest

from autoresearch import template
from autoresearch.config import FIELDS, merge


@pytest.mark.parametrize(
    ("names", "texts", "objective"),
    [
        ({"train.py", "program.md", "pyproject.toml"}, {}, "minimize val_bpb"),
        ({"package.json", "src/"}, {"package.json": "{}"}, "minimize bundle size bytes"),
        ({"pyproject.toml", "src/"}, {"pyproject.toml": "[tool.pytest]"}, "maximize pytest pass rate"),
        ({"tests/", "lib/"}, {}, "maximize pytest pass rate"),
        ({"pyproject.toml"}, {"pyproject.toml": "[tool.ruff]"}, "minimize ruff warnings"),
        (set(), {}, "minimize seconds"),
    ],
)
def test_what_init_writes_is_a_configuration(names: set[str], texts: dict[str, str], objective: str) -> None:
    guessed = template.guess(names, texts)
    config = merge({}, tomllib.loads(template.toml(guessed)))
    assert config.objective == objective
    assert (config.measure, list(config.scope)) == (guessed["measure"], guessed["scope"])


def test_every_available_setting_is_shown_once_and_can_be_uncommented() -> None:
    text = template.toml(template.guess((), {}))
    shown = tomllib.loads(re.sub(r"^# (\w+ = .*)$", r"\1", text, flags=re.MULTILINE))
    assert set(shown) == {name for name, field in FIELDS.items() if not field.metadata["later"]}
    filled = {name: value for name, value in shown.items() if value not in ("", [])}
    merge({}, filled)
