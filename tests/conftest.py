"""The same on every machine, whatever its speed and its user's settings; the seconds that each test file took."""

from __future__ import annotations

import os
from collections import defaultdict

import pytest
from hypothesis import settings

# To search for new counterexamples: HYPOTHESIS_PROFILE=default, or --hypothesis-seed.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

# A hook of git sets GIT_DIR, a user's settings sign commits, a key costs money, a terminal's wishes colour the output.
LED = ("ANTHROPIC_", "AUTORESEARCH_", "GIT_")
WISHES = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "XDG_CONFIG_HOME")
for name in [name for name in os.environ if name.startswith(LED) or name in WISHES]:
    del os.environ[name]
os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


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
