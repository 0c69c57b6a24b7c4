"""Prints the seconds that each test file took."""

from __future__ import annotations

from collections import defaultdict

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    seconds: defaultdict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.location[0]] += report.duration
    if len(seconds) > 1:
        terminalreporter.section("seconds per test file")
        for file, spent in sorted(seconds.items(), key=lambda row: -row[1]):
            terminalreporter.line(f"{spent:7.1f}  {file}")
