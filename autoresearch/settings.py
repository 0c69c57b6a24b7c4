"""Reads the files that hold settings: autoresearch.toml and [tool.autoresearch] of pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoresearch.errors import ConfigError

TOML_NAME = "autoresearch.toml"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the files say; empty where there is none."""

    folder: Path
    """The folder whose files were read: where a run starts that takes its objective from them."""
    toml: Mapping[str, Any]
    pyproject: Mapping[str, Any]


def checkout_top(start: Path) -> Path | None:
    """The nearest folder from `start` upwards with `.git` or `.autoresearch`; None where there is none."""
    folders = [start, *start.parents]
    return next(
        (folder for folder in folders if (folder / ".git").exists() or (folder / ".autoresearch").is_dir()), None
    )


def load(start: Path) -> Settings:
    """The settings that hold in `start`: its own files, else those of the nearest folder above it in the checkout.

    Raises:
        ConfigError: a file is not TOML or cannot be read; names the line.
    """
    top = checkout_top(start) or start
    for folder in (start, *start.parents):
        toml = _read(folder / TOML_NAME)
        pyproject = _table(_read(folder / "pyproject.toml"))
        if toml or pyproject or folder == top:
            return Settings(folder if toml or pyproject else start, toml, pyproject)
    return Settings(start, {}, {})


def _table(pyproject: Mapping[str, Any]) -> Mapping[str, Any]:
    tool = pyproject.get("tool", {})
    table = tool.get("autoresearch", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise ConfigError("pyproject.toml", "tool.autoresearch", "it is not a table")
    return table


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except tomllib.TOMLDecodeError as error:
        what, line = re.sub(r" \(at .*\)$", "", str(error)), re.search(r"line (\d+)", str(error))
        raise ConfigError(path.name, f"line {line[1]}" if line else "at its end", f"not TOML: {what}") from None
    except UnicodeDecodeError:
        raise ConfigError(path.name, "the file", "not UTF-8") from None
    except OSError as error:
        raise ConfigError(path.name, "the file", f"cannot be read: {error.strerror}") from None
