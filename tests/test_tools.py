"""Known tools' summaries: each text below is what the tool itself printed."""

from __future__ import annotations

import math

import pytest

from autoresearch.quantities import clean_lines
from autoresearch.tools import is_trailer, meant, summary

PYTEST_COLOUR = (
    "\x1b[32m============================== \x1b[32m\x1b[1m2 passed\x1b[0m\x1b[32m in 0.01s\x1b[0m"
    "\x1b[32m ===============================\x1b[0m"
)
PYTEST_ALL = "= 1 failed, 2 passed, 1 skipped, 1 xfailed, 1 xpassed, 1 warning, 1 error in 0.02s ="
PYTEST_COV = """\
pass/test_b.py       2      0   100%
------------------------------------
TOTAL                3      1    67%
2 passed in 0.03s
"""
UNITTEST = """\
----------------------------------------------------------------------
Ran 7 tests in 0.001s

FAILED (failures=1, errors=1, skipped=1, expected failures=1, unexpected successes=1)
"""
UNITTEST_OK = "Ran 3 tests in 0.250s\n\nOK\n"
JEST = """\
Test Suites: 1 failed, 1 passed, 2 total
Tests:       1 failed, 1 skipped, 1 todo, 2 passed, 5 total
Snapshots:   0 total
Time:        0.401 s
Ran all test suites matching t.
"""
JEST_COLOUR = """\
\x1b[1mTest Suites: \x1b[22m\x1b[1m\x1b[32m1 passed\x1b[39m\x1b[22m, 1 total
\x1b[1mTests:       \x1b[22m\x1b[1m\x1b[32m1 passed\x1b[39m\x1b[22m, 1 total
\x1b[1mSnapshots:   \x1b[22m0 total
\x1b[1mTime:\x1b[22m        0.197 s, estimated 1 s
"""
VITEST = """\
\x1b[2m Test Files \x1b[22m \x1b[1m\x1b[31m1 failed\x1b[39m\x1b[22m\x1b[90m (1)\x1b[39m
\x1b[2m      Tests \x1b[22m \x1b[1m\x1b[31m1 failed\x1b[39m\x1b[22m\x1b[2m | \x1b[22m\x1b[1m\x1b[32m1 passed\x1b[39m\
\x1b[22m\x1b[2m | \x1b[22m\x1b[33m1 skipped\x1b[39m\x1b[2m | \x1b[22m\x1b[90m1 todo\x1b[39m\x1b[90m (4)\x1b[39m
\x1b[2m   Start at \x1b[22m 21:52:43
\x1b[2m   Duration \x1b[22m 229ms\x1b[2m (transform 15ms, setup 0ms, import 29ms, tests 9ms, environment 0ms)\x1b[22m
"""
CARGO = """\
running 3 tests
test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.13s
running 2 tests
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
running 1 test
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.12s
"""
GO = """\
=== RUN   TestA
--- PASS: TestA (0.00s)
=== RUN   TestB
    a_test.go:4: no
--- FAIL: TestB (0.00s)
=== RUN   TestC
    a_test.go:5:
--- SKIP: TestC (0.00s)
FAIL
FAIL\tx\t0.003s
=== RUN   TestS
--- PASS: TestS (0.00s)
PASS
ok  \tx/sub\t0.002s
FAIL
"""
GO_BENCH = """\
goos: linux
goarch: amd64
pkg: x
cpu: AMD EPYC
BenchmarkX-2   \t     100\t         3.600 ns/op\t       0 B/op\t       0 allocs/op
BenchmarkY-2   \t     100\t       250 ns/op
PASS
ok  \tx\t0.004s
"""
HYPERFINE = """\
Benchmark 1: sleep 0.01
  Time (mean ± σ):      10.9 ms ±   0.1 ms    [User: 0.7 ms, System: 0.2 ms]
  Range (min … max):    10.9 ms …  11.2 ms    3 runs
"""
HYPERFINE_TWO = (
    HYPERFINE
    + """\
Benchmark 2: sleep 0.02
  Time (mean ± σ):      21.0 ms ±   0.1 ms    [User: 0.5 ms, System: 0.5 ms]
  Range (min … max):    21.0 ms …  21.1 ms    3 runs

Summary
  'sleep 0.01' ran
    1.91 ± 0.02 times faster than 'sleep 0.02'
"""
)
CRITERION = """\
fib 20                  time:   [26.029 µs 26.251 µs 26.505 µs]
                        change: [-38.292% -37.342% -36.524%] (p = 0.00 < 0.05)
                        Performance has improved.
a name that is too long for one line
                        time:   [1.0290 ms 1.2510 ms 1.5050 ms]
"""
ESLINT = """\
/src/a.js
  1:5   warning  'x' is assigned a value but never used  no-unused-vars

\x1b[31m\x1b[1m✖ 3 problems (2 errors, 1 warning)\x1b[22m\x1b[39m
\x1b[31m\x1b[1m  1 error and 0 warnings potentially fixable with the `--fix` option.\x1b[22m\x1b[39m
"""
ISTANBUL = """\
----------|---------|----------|---------|---------|-------------------
File      | % Stmts | % Branch | % Funcs | % Lines | Uncovered Line #s
----------|---------|----------|---------|---------|-------------------
All files |   85.71 |       75 |     100 |   85.71 |
"""


@pytest.mark.parametrize(
    ("printed", "key", "value"),
    [
        ("2 failed, 10 passed, 1 error in 0.12s", "pytest.rate", 10 / 13),
        ("2 failed, 10 passed, 1 error in 0.12s", "pytest.failure_rate", 3 / 13),
        ("2 failed, 10 passed, 1 error in 0.12s", "pytest.failures", 3),
        ("2 failed, 10 passed, 1 error in 0.12s", "pytest.errors", 1),
        ("10 passed in 75.20s (0:01:15)", "pytest.time", 75.2),
        ("10 passed in 75.20s (0:01:15)", "pytest.warnings", 0),
        (PYTEST_COLOUR, "pytest.count", 2),
        (PYTEST_ALL, "pytest.rate", 0.5),
        (PYTEST_ALL, "pytest.skipped", 1),
        (PYTEST_ALL, "pytest.warnings", 1),
        ("no tests ran in 0.01s", "pytest.count", 0),
        ("no tests ran in 0.01s", "pytest.rate", math.nan),
        ("\x1b[31m\x1b[31m\x1b[1m1 error\x1b[0m\x1b[31m in 0.11s\x1b[0m\x1b[0m", "pytest.rate", 0),
        ("2 deselected in 0.01s", "pytest.count", 0),
        (PYTEST_COV, "pytest.count", 2),
        (PYTEST_COV, "coverage.percent", 67),
        (UNITTEST, "unittest.count", 2),
        (UNITTEST, "unittest.rate", 2 / 5),
        (UNITTEST, "unittest.time", 0.001),
        (UNITTEST_OK, "unittest.rate", 1),
        ("FAILED (failures=2)", "unittest.failures", 2),
        ("OK", "unittest.failures", 0),
        ("Ran 0 tests in 0.000s\n\nNO TESTS RAN", "unittest.count", 0),
        (JEST, "jest.count", 2),
        (JEST, "jest.rate", 2 / 3),
        (JEST, "jest.time", 0.401),
        (JEST_COLOUR, "jest.rate", 1),
        (JEST_COLOUR, "jest.time", 0.197),
        (VITEST, "vitest.rate", 0.5),
        (VITEST, "vitest.skipped", 1),
        (VITEST, "vitest.time", 0.229),
        (CARGO, "cargo.count", 4),
        (CARGO, "cargo.rate", 4 / 5),
        (CARGO, "cargo.skipped", 1),
        (CARGO, "cargo.time", 0.25),
        (GO, "go.count", 2),
        (GO, "go.rate", 2 / 3),
        (GO, "go.time", 0.005),
        (GO_BENCH, "go.BenchmarkX", 3.6e-9),
        (GO_BENCH, "go.BenchmarkY", 250e-9),
        ("ok  \tx\t0.002s\tcoverage: 80.0% of statements\nok  \ty\t0.002s\tcoverage: 60.0% of statements",
         "coverage.percent", 70),
        ("total:\t\t\t(statements)\t\t85.7%", "coverage.percent", 85.7),
        (HYPERFINE, "hyperfine.time", 0.0109),
        (HYPERFINE_TWO, "hyperfine.time2", 0.021),
        (CRITERION, "criterion.fib 20", 26.251e-6),
        (CRITERION, "criterion.a name that is too long for one line", 1.251e-3),
        ("Found 4 errors.\n[*] 3 fixable with `--fix`.", "ruff.errors", 4),
        ("Found 5 errors (3 fixed, 2 remaining).", "ruff.errors", 2),
        ("Found 1 error.", "ruff.errors", 1),
        ("\x1b[1;32mAll checks passed!\x1b[0m", "ruff.errors", 0),
        ("\x1b[1m\x1b[31mFound 2 errors in 1 file (checked 1 source file)\x1b(B\x1b[m", "mypy.errors", 2),
        ("Found 1 error in 1 file (errors prevented further checking)", "mypy.errors", 1),
        ("Success: no issues found in 3 source files", "mypy.errors", 0),
        (ESLINT, "eslint.problems", 3),
        (ESLINT, "eslint.errors", 2),
        (ESLINT, "eslint.warnings", 1),
        ("TOTAL                2      0      4      0   100%", "coverage.percent", 100),
        ("TOTAL                2      0  93.14%", "coverage.percent", 93.14),
        ("| **TOTAL**       |    **2** |    **0** | **100%** |", "coverage.percent", 100),
        (ISTANBUL, "coverage.percent", 85.71),
        ("Statements   : 85.71% ( 6/7 )", "coverage.percent", 85.71),
    ],
)  # fmt: skip
def test_a_quantity_is_read_from_what_the_tool_prints(printed: str, key: str, value: float) -> None:
    found = summary(clean_lines(printed), key)
    assert found is not None
    assert found.value == pytest.approx(value, nan_ok=True, rel=1e-12)
    assert found.line in clean_lines(printed)


@pytest.mark.parametrize(
    ("printed", "objective", "keys"),
    [
        ("10 passed in 0.1s", "maximize pytest pass rate", {"pytest.rate"}),
        ("10 passed in 0.1s", "maximize test pass count", {"pytest.count"}),
        ("10 passed in 0.1s", "minimize test time", {"pytest.time"}),
        ("10 passed in 0.1s", "minimize seconds", {"pytest.time"}),
        ("10 passed, 3 warnings in 0.1s", "minimize test warnings", {"pytest.warnings"}),
        ("10 passed in 0.1s", "minimize failing tests", {"pytest.failures"}),
        ("10 passed in 0.1s", "minimize test failure rate", {"pytest.failure_rate"}),
        ("10 passed in 0.1s", "minimize skipped tests", {"pytest.skipped"}),
        ("10 passed in 0.1s", "maximize quality", {"pytest.rate", "pytest.count", "pytest.time"}),
        ("no tests ran in 0.01s", "maximize pass rate", {"pytest.rate"}),
        (PYTEST_COV, "maximize coverage", {"coverage.percent"}),
        (PYTEST_COV, "maximize test pass rate", {"pytest.rate"}),
        ("Found 4 errors.\n10 passed in 0.1s", "minimize ruff warnings", {"ruff.errors"}),
        ("Found 4 errors.", "minimize lint warnings", {"ruff.errors"}),
        ("Found 4 errors.\nFound 2 errors in 1 file (checked 1 source file)", "minimize errors",
         {"ruff.errors", "mypy.errors"}),
        (ESLINT, "minimize eslint warnings", {"eslint.warnings"}),
        (ESLINT, "minimize lint findings", {"eslint.problems"}),
        (ESLINT, "minimize errors and warnings", {"eslint.problems"}),
        (CRITERION, "minimize the time of fib 20", {"criterion.fib 20"}),
        (GO_BENCH, "minimize BenchmarkY", {"go.BenchmarkY"}),
        (GO_BENCH, "minimize the benchmark", {"go.BenchmarkX", "go.BenchmarkY"}),
        ("ok  \tx\t0.002s", "minimize test time", {"go.time"}),
        ("ok  \tx\t0.002s", "maximize passing tests", set()),
        ("OK", "minimize errors", set()),
        ("OK", "minimize unittest errors", {"unittest.errors"}),
        ("2 tests collected in 0.01s", "maximize test pass count", set()),
        ("5 files changed in 3s", "minimize time", set()),
        ("Found 4 errors in the text", "minimize errors", set()),
    ],
)  # fmt: skip
def test_the_objective_chooses_among_tools_and_quantities(printed: str, objective: str, keys: set[str]) -> None:
    assert {item.key for item in meant(clean_lines(printed), objective, maximize=None)} == keys


def test_a_quantity_that_goes_the_objectives_way_comes_first() -> None:
    found = meant(["10 passed in 0.1s"], "maximize passing tests in the given time", maximize=True)
    assert [item.key for item in found] == ["pytest.count"]


@pytest.mark.parametrize(
    ("printed", "key", "at_bound"),
    [
        ("10 passed in 0.1s", "pytest.rate", True),
        ("10 passed in 0.1s", "pytest.count", True),
        ("10 passed in 0.1s", "pytest.time", False),
        ("9 passed, 1 failed in 0.1s", "pytest.count", False),
        ("1 skipped in 0.1s", "pytest.count", False),
        ("9 passed, 1 error in 0.1s", "pytest.rate", False),
        ("All checks passed!", "ruff.errors", True),
        ("Success: no issues found in 3 source files", "mypy.errors", True),
        ("TOTAL     2      0   100%", "coverage.percent", True),
        ("TOTAL     2      1   50%", "coverage.percent", False),
    ],
)
def test_the_bound_of_a_tools_quantity_is_known(printed: str, key: str, at_bound: bool) -> None:
    found = summary([printed], key)
    assert found is not None
    assert found.at_bound is at_bound


def test_a_key_is_found_in_any_case_and_an_unknown_one_is_not() -> None:
    assert summary(["10 passed in 0.1s"], "PyTest.Rate") is not None
    assert summary(["10 passed in 0.1s"], "pytest.speed") is None
    assert summary(["10 passed in 0.1s"], "nosuch.rate") is None
    assert summary(["10 passed in 0.1s"], "pytest") is None


@pytest.mark.parametrize(
    "line",
    [
        "[*] 3 fixable with `--fix`.",
        "[*] 3 fixable with the `--fix` option.",
        "[*] 4 fixable with `--fix` (2 unsafe fixes available with `--fix --unsafe-fixes`).",
        "1 unsafe fix available with `--fix --unsafe-fixes`.",
        "No fixes available (1 hidden fix can be enabled with the `--unsafe-fixes` option).",
        "  1 error and 0 warnings potentially fixable with the `--fix` option.",
    ],
)
def test_a_line_about_fixes_is_a_trailer(line: str) -> None:
    assert is_trailer(line)


@pytest.mark.parametrize("line", ["Found 4 errors.", "All checks passed!", "12", ""])
def test_a_count_is_no_trailer(line: str) -> None:
    assert not is_trailer(line)
