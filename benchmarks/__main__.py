"""`python -m benchmarks NAME [--quick] [--json FILE]`: answer one question, in a table and as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.report import FOLDER, Report

NAMES = ("false_keeps", "night", "merge_gains", "search_under_noise")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what the rules are worth.")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer nights, wider intervals")
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"default: {FOLDER.name}/NAME.json beside this file")
    parser.add_argument("--real", action="store_true", help="false_keeps: one campaign through git and processes")
    asked = parser.parse_args(arguments)
    if asked.real and asked.name != "false_keeps":
        parser.error("--real goes with false_keeps")
    name = "real_campaign" if asked.real else asked.name
    made: Report = import_module(f"benchmarks.{name}").report(quick=asked.quick)
    print(made.text())
    made.write(asked.json or FOLDER / f"{name}.json")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
