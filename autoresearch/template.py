"""Texts made from the settings: the commented autoresearch.toml of `init`, and the README's table of options."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import Field
from typing import Any

from autoresearch.config import FIELDS, WORDS, flag_of

GUESSED_FROM = ("pyproject.toml", "package.json")
"""The files whose text `guess` wants to see."""


def default_text(field: Field[Any]) -> str:
    """A setting's default as a user writes it; empty where it has none."""
    default: Any = field.default
    if default is None or isinstance(default, bool) or default in ((), ""):
        return ""
    return f"{default / 60:g}m" if field.metadata["metavar"] == "T" else str(default)


def help_text(field: Field[Any]) -> str:
    """One line of help for its flag, with what else a user should know of it in parentheses."""
    default = default_text(field)
    notes = ["repeatable"] if field.default == () else []
    notes += [f"default: {default}"] if default else []
    notes += ["not available yet"] if field.metadata["later"] else []
    told = f"do not {field.metadata['help']}" if field.name == "canary" else str(field.metadata["help"])
    return f"{told} ({'; '.join(notes)})" if notes else told


def options_table() -> str:
    """The README's table of all options, in Markdown."""
    rows = ["| flag | key in autoresearch.toml | meaning |", "|---|---|---|"]
    for name, field in FIELDS.items():
        if name not in WORDS:
            rows.append(f"| {_flags(name)} | {_keys(name)} | {_escaped(help_text(field))} |")
    return "\n".join(rows) + "\n"


def guess(names: Collection[str], texts: Mapping[str, str]) -> dict[str, Any]:
    """What a repository probably wants: objective, measure and scope.

    `names` are the entries of its top folder, folders with a trailing `/`; `texts` those of GUESSED_FROM that exist.
    """
    if "train.py" in names:
        command = "uv run train.py" if "uv.lock" in names else "python train.py"
        measure = f"{command} > run.log 2>&1 && grep '^val_bpb:' run.log"
        return {"objective": "minimize val_bpb", "measure": measure, "scope": ["train.py"]}
    sources = [f"{name}/" for name in ("src", "lib", "app") if f"{name}/" in names] or ["src/"]
    if "package.json" in names:
        measure = "npm run build 2>&1 | grep -oP 'Total: \\K[\\d.]+'"
        return {"objective": "minimize bundle size bytes", "measure": measure, "scope": sources}
    if "tests/" in names or "pytest" in texts.get("pyproject.toml", ""):
        measure = "pytest -q 2>&1 | tail -1"
        return {"objective": "maximize pytest pass rate", "measure": measure, "scope": sources}
    if "ruff" in texts.get("pyproject.toml", ""):
        measure = "ruff check . 2>&1 | grep -E '^Found|^All checks'"
        return {"objective": "minimize ruff warnings", "measure": measure, "scope": sources}
    return {"objective": "minimize seconds", "measure": "python benchmark.py", "scope": sources}


def toml(guessed: Mapping[str, Any]) -> str:
    """A commented autoresearch.toml: the guessed settings set, all others shown with their defaults."""
    lines = [
        "# Settings of autoresearch for this repository. A flag on the command line wins over this file.",
        "# The first three are guesses: look at them, then try `autoresearch check`.",
        "",
    ]
    for name in WORDS:
        lines += [f"# {FIELDS[name].metadata['help']}", f"{name} = {json.dumps(guessed[name])}", ""]
    group = ""
    for name, field in FIELDS.items():
        if name in WORDS or field.metadata["later"]:
            continue
        if field.metadata["group"] != group:
            group = field.metadata["group"]
            lines += ["", f"# --- {group} ---", ""]
        lines.append(f"# {field.metadata['help']}")
        lines.append(f"# {name} = {_example(field)}")
    return "\n".join(lines) + "\n"


def _example(field: Field[Any]) -> str:
    """A value as TOML: the default, else one that shows the form."""
    default = default_text(field)
    metavar = field.metadata["metavar"]
    if field.type == "bool":
        return str(field.default).lower()
    if default:
        return default if metavar in ("N", "P") else json.dumps(default)
    forms = {"T": '"5m"', "USD": "5.00", "N": "1", "VALUE": "0.5"}
    if metavar in forms:
        return str(field.default) if field.default == 0 else forms[metavar]
    if field.name == "direction":
        return '"minimize"'
    return "[]" if field.default == () else '""'


def _flags(name: str) -> str:
    metadata = FIELDS[name].metadata
    if name == "direction":
        return "`--minimize`, `--maximize`"
    flags = [flag_of(name), *([metadata["short"]] if metadata["short"] else [])]
    if name == "network":
        flags.insert(0, "--network")
    shown = ", ".join(f"`{flag}`" for flag in flags)
    return f"{shown} `{metadata['metavar']}`" if metadata["metavar"] else shown


def _keys(name: str) -> str:
    return "`direction`, `minimize`, `maximize`" if name == "direction" else f"`{name}`"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
