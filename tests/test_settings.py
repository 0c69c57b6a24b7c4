from __future__ import annotations

from pathlib import Path

import pytest

from autoresearch.errors import ConfigError
from autoresearch.settings import checkout_top, load


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub").mkdir()
    return tmp_path


def test_both_files_are_read(checkout: Path) -> None:
    (checkout / "autoresearch.toml").write_text("workers = 3\n")
    (checkout / "pyproject.toml").write_text("[tool.autoresearch]\nseed = 5\n")
    settings = load(checkout)
    assert (settings.folder, settings.toml, settings.pyproject) == (checkout, {"workers": 3}, {"seed": 5})


def test_a_subfolder_takes_the_nearest_settings_above_it(checkout: Path) -> None:
    (checkout / "autoresearch.toml").write_text("workers = 3\n")
    assert load(checkout / "sub").folder == checkout
    (checkout / "sub" / "autoresearch.toml").write_text("workers = 4\n")
    assert load(checkout / "sub").toml == {"workers": 4}


def test_nothing_is_read_above_the_checkout(checkout: Path) -> None:
    (checkout / "sub" / ".git").write_text("gitdir: elsewhere\n")
    (checkout / "autoresearch.toml").write_text("workers = 3\n")
    assert load(checkout / "sub").toml == {}


def test_the_top_is_where_git_or_our_folder_lies(checkout: Path) -> None:
    assert checkout_top(checkout / "sub") == checkout
    (checkout / "sub" / ".autoresearch").mkdir()
    assert checkout_top(checkout / "sub") == checkout / "sub"


def test_broken_toml_names_its_line(checkout: Path) -> None:
    (checkout / "autoresearch.toml").write_text("workers = 3\nscope = = 1\n")
    with pytest.raises(ConfigError, match=r"^autoresearch.toml: line 2: not TOML: Invalid value$"):
        load(checkout)
    (checkout / "autoresearch.toml").write_text('scope = "')
    with pytest.raises(ConfigError, match=r"^autoresearch.toml: .*not TOML"):
        load(checkout)


def test_what_cannot_be_read_is_said(checkout: Path) -> None:
    (checkout / "autoresearch.toml").write_bytes(b"objective = '\xff'\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(checkout)
    (checkout / "autoresearch.toml").unlink()
    (checkout / "autoresearch.toml").mkdir()
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        load(checkout)


def test_a_table_that_is_none_is_said(checkout: Path) -> None:
    (checkout / "pyproject.toml").write_text('[tool]\nautoresearch = "yes"\n')
    with pytest.raises(ConfigError, match=r"tool.autoresearch: it is not a table"):
        load(checkout)
