"""The metric: read from real outputs, chosen on the baseline, read again by the stored rule alone."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.errors import UsageError
from autoresearch.metric import (
    Direction,
    Metric,
    Reader,
    ReaderKind,
    choose,
    direction_of,
    readings,
    secondary,
    settle,
    suggested_command,
)
from autoresearch.trial import Measurement, Reason

KARPATHY = """\
step 00953 (100.0%) | loss: 2.953132 | lrm: 0.00 | dt: 315ms | tok/sec: 1,663,203 | mfu: 39.8% | epoch: 1
---
val_bpb:          0.997900
training_seconds: 300.1
total_seconds:    325.9
peak_vram_mb:     45060.2
mfu_percent:      39.80
total_tokens_M:   499.6
num_steps:        953
"""
NPM_BUILD = "1048576\n"
RUFF_TRAILER = "[*] 3 fixable with `--fix`.\n"
MINIMIZE, MAXIMIZE = Direction.MINIMIZE, Direction.MAXIMIZE


def ended(stdout: str = "", exit_code: int | None = 0, failure: Reason | None = None) -> Measurement:
    return Measurement(None, failure, exit_code, 3.5, 2.0, 7 * 2**20, stdout=stdout)


def chosen(stdout: str, objective: str, asked: str | None = None, exit_code: int = 0) -> tuple[Metric, Measurement]:
    """The metric as chosen on this output, and the output settled by it."""
    metric = choose(ended(stdout, exit_code), objective, asked, None)
    return metric, settle(ended(stdout, exit_code), metric)


def refused(stdout: str, objective: str, asked: str | None = None, exit_code: int | None = 0) -> str:
    with pytest.raises(UsageError) as caught:
        choose(ended(stdout, exit_code), objective, asked, None)
    return str(caught.value)


@pytest.mark.parametrize(
    ("printed", "objective", "direction", "name", "value"),
    [
        ("2 failed, 10 passed, 1 error in 0.12s\n", "maximize pytest pass rate", MAXIMIZE, "pytest.rate", 10 / 13),
        ("10 passed in 0.1s\n", "maximize pytest pass rate", MAXIMIZE, "pytest.rate", 1.0),
        ("1 error in 0.10s\n", "maximize pytest pass rate", MAXIMIZE, "pytest.rate", 0.0),
        ("2 failed, 10 passed in 0.12s\n", "maximize test pass count", MAXIMIZE, "pytest.count", 10.0),
        ("no tests ran in 0.01s\n", "maximize test pass count", MAXIMIZE, "pytest.count", 0.0),
        ("val_bpb:          0.997900\n", "minimize val_bpb", MINIMIZE, "val_bpb", 0.9979),
        (KARPATHY, "minimize val_bpb", MINIMIZE, "val_bpb", 0.9979),
        (NPM_BUILD, "minimize bundle size bytes", MINIMIZE, "", 1048576.0),
        ("Found 12 errors.\n", "minimize ruff warnings", MINIMIZE, "ruff.errors", 12.0),
        ("All checks passed!\n", "minimize ruff warnings", MINIMIZE, "ruff.errors", 0.0),
        ("accuracy: 0.873\n", "maximize extraction accuracy", MAXIMIZE, "accuracy", 0.873),
        ("Extraction accuracy: 93.1%\n", "maximize extraction accuracy", MAXIMIZE, "Extraction accuracy", 93.1),
        ("accuracy = 0.93 (279/300)\n", "maximize extraction accuracy", MAXIMIZE, "accuracy", 0.93),
        ("extraction_accuracy 0.5\n", "maximize extraction accuracy", MAXIMIZE, "extraction_accuracy", 0.5),
        ("Final accuracy is 0.93\n", "maximize extraction accuracy", MAXIMIZE, "Final accuracy is", 0.93),
    ],
)
def test_the_six_invocations_read_what_their_commands_print(
    printed: str, objective: str, direction: Direction, name: str, value: float
) -> None:
    metric, measurement = chosen(printed, objective)
    assert (metric.direction, metric.name, measurement.value) == (direction, name, value)
    assert measurement.failure is None


@pytest.mark.parametrize(
    ("objective", "direction"),
    [
        ("minimize val_bpb", MINIMIZE),
        ("Maximise the pass rate", MAXIMIZE),
        ("reduce bundle size", MINIMIZE),
        ("fewer ruff warnings", MINIMIZE),
        ("make startup take less time", MINIMIZE),
        ("shrink the binary", MINIMIZE),
        ("raise test coverage", MAXIMIZE),
        ("higher throughput", MAXIMIZE),
        ("improve accuracy", MAXIMIZE),
        ("improve error rate", MINIMIZE),
        ("optimize p99 latency", MINIMIZE),
        ("improve the parser", None),
        ("improve accuracy and latency", None),
        ("maximize accuracy while reducing latency", None),
        ("maximize accuracy with fewer parameters", MAXIMIZE),
        ("minimize latency without increasing memory", MINIMIZE),
        ("minimize max latency", MINIMIZE),
        ("minimize latency at at least 90% accuracy", MINIMIZE),
        ("lower loss, higher accuracy", None),
        ("val_bpb", None),
        ("make it fast", None),
        ("", None),
    ],
)
def test_the_direction_follows_from_the_objectives_words(objective: str, direction: Direction | None) -> None:
    assert direction_of(objective) is direction


@pytest.mark.parametrize(
    ("printed", "objective", "values"),
    [
        ("METRIC score=5\nscore: 7\n", "maximize score", {"score": 5}),
        ("METRIC a=1\nMETRIC b=2\nMETRIC a=3\n", "minimize c", {"a": 3, "b": 2}),
        ("METRIC size=1.5 kB", "minimize c", {"size": 1500}),
        ("loss: 3\nloss: 2\n", "minimize loss", {"loss": 2}),
        ("loss: 3\rloss: 2\r", "minimize loss", {"loss": 2}),
        ("\x1b[1mloss\x1b[0m: \x1b[32m0.25\x1b[0m\n", "minimize loss", {"loss": 0.25}),
        ("Val-Loss=0.5\n", "minimize val_loss", {"Val-Loss": 0.5}),
        ("loss: 1\nacc: 2\n", "weigh loss and acc", {"loss": 1, "acc": 2}),
        ("val loss: 1\nloss: 2\n", "minimize val loss", {"val loss": 1}),
        ("train loss: 1\nval loss: 2\n", "minimize val loss", {"val loss": 2}),
        ("epoch=3 loss=0.2 acc=0.9\n", "minimize loss", {"loss": 0.2}),
        ("step 100 | loss 0.25 | acc 0.9\n", "minimize loss", {"loss": 0.25}),
        ('{"accuracy": 0.93, "loss": 1e-05}\n', "minimize loss", {"loss": 1e-5}),
        ("2024-01-01 12:30:01,123 - root - INFO - accuracy: 0.93\n", "maximize accuracy", {"accuracy": 0.93}),
        ("INFO:root:accuracy: 0.93\n", "maximize accuracy", {"accuracy": 0.93}),
        ("top 5 accuracy: 0.9\ndone 3\n", "maximize accuracy", {"done": 3}),
        ("throughput: 1234.5 tokens/sec\n", "maximize throughput", {"throughput": 1234.5}),
        ("**Accuracy (%):** 93.1\n", "maximize accuracy", {"Accuracy (%)": 93.1}),
        ("Time:        0.2 s, estimated 1 s\n", "minimize test time", {"Time": 0.2}),
        ("size: 1,234,567 bytes\n", "minimize size", {"size": 1234567}),
        ("latency: 12.5 ms ± 0.3 ms\n", "minimize latency", {"latency": 0.0125}),
        ("accuracy: 0.93.\n", "maximize accuracy", {"accuracy": 0.93}),
        ("score: 0,123\n3\n", "maximize score", {"": 3}),
        ("of 5\n", "minimize the number of errors", {"of": 5}),
        ("result\n17\nbye\n", "minimize x", {"": 17}),
        ("[2024-01-01 12:30:01] 17\n", "minimize x", {"": 17}),
        ("12:30:01.250 17\n", "minimize x", {"": 17}),
        ("elapsed 1m 30.5s\n", "minimize x", {"elapsed": 90.5}),
        ("Duration  229ms (setup 3ms, tests 9ms)\n", "minimize tests duration", {"Duration": 0.229}),
        (
            "Time (mean ± σ):  10.9 ms ± 0.1 ms  [User: 0.7 ms, System: 0.2 ms]",
            "minimize system time",
            {"hyperfine.time": 0.0109},
        ),
        ("ok  \tx\t0.002s\tcoverage: 80.0% of statements", "maximize coverage", {"coverage.percent": 80}),
        ("", "minimize x", {}),
        ("no number here, v1.2.3 of 2024-01-01\n", "minimize x", {}),
        (RUFF_TRAILER, "minimize ruff warnings", {}),
    ],
)
def test_the_first_rule_that_finds_anything_decides(printed: str, objective: str, values: dict[str, float]) -> None:
    assert {item.name: item.value for item in readings(printed, objective)} == values


@pytest.mark.parametrize(
    ("printed", "asked", "value"),
    [
        ("loss: 3\nacc: 2\n", "loss", 3.0),
        ("Val Loss: 3\n", "VAL-loss", 3.0),
        ("METRIC a=1\na: 5\n", "a", 1.0),
        ("METRIC a=1\nMETRIC b=5\n", "B", 5.0),
        ("Overall accuracy: 87.3% (262/300)\n", "overall_accuracy", 87.3),
        ("10 passed in 0.1s\n", "pytest.rate", 1.0),
        ("x=1\nx=2\n", r"^x=(\d+)$", 2.0),
        ("gzip 98 kB\n", r"gzip (\d+ kB)", 98000.0),
        ("x=1\r\nx=2\r\n", r"^x=(\d+)$", 2.0),
        ("f(x) = 2\n", "f(x", 2.0),
        ("", "wall_seconds", 3.5),
        ("12\n", "CPU-seconds", 2.0),
        ("12\n", "peak_rss_mb", 7.0),
    ],
)
def test_what_was_asked_for_is_read(printed: str, asked: str, value: float) -> None:
    assert chosen(printed, "minimize it", asked)[1].value == value


@pytest.mark.parametrize(
    ("printed", "seconds_or_bytes"),
    [
        ("1.02 MB", 1_020_000),
        ("998 kB", 998_000),
        ("1 KiB", 1024),
        ("1.5MiB", 1.5 * 2**20),
        ("4.0K\tdist", 4096),
        ("12 B", 12),
        ("1.2 MB/s", 1_200_000),
        ("15ms", 0.015),
        ("3.1 µs", 3.1e-6),
        ("3.1 μs", 3.1e-6),
        ("250 ns", 250e-9),
        ("2 min", 120),
        ("1h 2m 3s", 3723),
        ("0m1.234s", 1.234),
        ("0:01:15", 75),
        ("93.1%", 93.1),
        ("2.5x", 2.5),
        ("1_000", 1000),
        ("-1.5e-3", -0.0015),
        ("1.e-03", 0.001),
        (".5", 0.5),
    ],
)
def test_units_are_brought_to_bytes_and_seconds(printed: str, seconds_or_bytes: float) -> None:
    assert [item.value for item in readings(printed, "minimize it")] == [pytest.approx(seconds_or_bytes, rel=1e-15)]


def test_a_regex_with_two_groups_is_refused() -> None:
    assert "2 groups" in refused("x=1\n", "minimize x", r"(x)=(\d)")


def test_a_broken_regex_is_refused() -> None:
    assert "is no regular expression: nothing to repeat" in refused("x=1\n", "minimize x", r"x=(*\d)")


@pytest.mark.parametrize(
    "printed",
    [
        "10 passed in 0.1s\n",
        "loss: 1\nquality: 2\n",
        "METRIC a=1\nMETRIC b=2\n",
        "312 kB, gzip 98 kB\n",
        "Overall accuracy: 87.3% (262/300)\n",
        "  a (1) [2.5] 3e-05 * 4,000 + 5 %\n",
    ],
)
def test_each_reading_of_an_ambiguous_output_is_picked_by_its_metric(printed: str) -> None:
    objective = "minimize loss, maximize quality"
    found = readings(printed, objective)
    assert len(found) > 1
    message = refused(printed, objective)
    for item in found:
        asked = item.reader.key.removeprefix("METRIC ")
        assert f"--metric {asked}" in message or f"--metric '{asked}'" in message
        assert [again.value for again in readings(printed, objective, asked)] == [item.value]
    assert len(message.splitlines()) <= 12


@pytest.mark.parametrize(
    ("printed", "asked", "said"),
    [
        ("", None, ["printed no number", "it printed nothing"]),
        ("nothing to see\nat all\n", None, ["printed no number", "  at all"]),
        ("a: 1\nb: 2\n", "c", ["--metric c", "it names a, b"]),
        ("loss: 3\nloss: nan\n", "loss", ["nan"]),
        ("inf\n", None, ["inf"]),
        ("x=oops\n", r"x=(\w+)", ["nan"]),
    ],
)
def test_a_baseline_without_a_finite_number_is_refused(printed: str, asked: str | None, said: list[str]) -> None:
    message = refused(printed, "minimize it", asked)
    assert all(part in message for part in said)


@pytest.mark.parametrize(
    ("measurement", "said"),
    [
        (ended("loss: 1", exit_code=-9), "signal 9"),
        (ended("loss: 1", exit_code=139), "signal 11"),
        (ended("loss: 1", exit_code=None), "--timeout"),
        (ended("loss: 1", failure=Reason.TIMEOUT), "--timeout"),
        (ended("loss: 1", failure=Reason.BUILD_FAILED), "build"),
        (ended("loss: 1", failure=Reason.CHECKS_FAILED), "check"),
        (ended("loss: 1", failure=Reason.MEMORY), "memory"),
        (ended("", exit_code=127), "status 127"),
    ],
)
def test_a_failed_baseline_is_refused(measurement: Measurement, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        choose(replace(measurement, tail="the end\n"), "minimize loss", None, None)


def test_of_another_command_it_is_not_said_that_it_is_the_measure_command() -> None:
    with pytest.raises(UsageError, match=r"^the command printed no number; print one to stdout\nit printed last:"):
        choose(ended("hi\n"), "minimize loss", None, None, "the command")


def test_the_direction_must_be_known() -> None:
    assert "--minimize or --maximize" in refused("loss: 1\n", "loss")
    assert choose(ended("loss: 1\n"), "loss", None, MAXIMIZE).direction is MAXIMIZE
    assert choose(ended("loss: 1\n"), "minimize loss", None, MAXIMIZE).direction is MAXIMIZE


@pytest.mark.parametrize(
    ("objective", "name", "value"),
    [("minimize build time", "wall_seconds", 3.5), ("reduce cpu time", "cpu_seconds", 2.0)],
)
def test_time_is_measured_where_the_output_has_no_number(objective: str, name: str, value: float) -> None:
    metric, measurement = chosen("done\n", objective)
    assert (metric.name, measurement.value) == (name, value)


def test_time_is_not_measured_where_it_makes_no_sense() -> None:
    assert "no number" in refused("done\n", "maximize runtime")
    assert "no number" in refused("done\n", "minimize build time", exit_code=1)
    assert chosen("12\n", "minimize build time")[1].value == 12


LOSS = Metric("loss", MINIMIZE, Reader(ReaderKind.NAME, "loss"))


@pytest.mark.parametrize(
    ("measurement", "nonzero_ok", "failure"),
    [
        (ended("loss: 1"), False, None),
        (ended("loss: 1", exit_code=1), False, Reason.EXIT),
        (ended("loss: 1", exit_code=1), True, None),
        (ended("loss: 1", exit_code=-11), True, Reason.SIGNAL),
        (ended("loss: 1", exit_code=137), True, Reason.SIGNAL),
        (ended("loss: 1", exit_code=141), True, None),
        (ended("loss: 1", exit_code=None), True, Reason.TIMEOUT),
        (ended("loss: 1", failure=Reason.MEMORY), False, Reason.MEMORY),
        (ended("loss: 1", failure=Reason.CHECKS_FAILED), False, Reason.CHECKS_FAILED),
        (ended("loss: nan"), False, Reason.NO_METRIC),
        (ended("loss: 1\nloss: -inf"), False, Reason.NO_METRIC),
        (ended("acc: 1"), False, Reason.NO_METRIC),
        (ended(""), False, Reason.NO_METRIC),
    ],
)
def test_a_measurement_is_settled_by_exit_status_and_output(
    measurement: Measurement, nonzero_ok: bool, failure: Reason | None
) -> None:
    settled = settle(measurement, replace(LOSS, nonzero_ok=nonzero_ok))
    assert settled.failure is failure
    assert settled.value == (1.0 if failure is None else None)


@pytest.mark.parametrize(
    ("baseline", "objective", "later", "value"),
    [
        ("METRIC a=1\n", "minimize x", "METRIC a=2\nMETRIC b=3\na: 9\n", 2.0),
        ("loss: 1\n", "minimize loss", "loss: 5\nacc: 6\nother loss: 7\n", 5.0),
        ("1\n", "minimize x", "first 2\nthen 3 and 4\n", 4.0),
        ("Found 2 errors.\n", "minimize ruff warnings", "All checks passed!\n10 passed in 0.1s\n", 0.0),
        ("FAILED (failures=2)\n", "minimize unittest failures", "OK\n", 0.0),
    ],
)
def test_the_stored_rule_alone_reads_later_outputs(baseline: str, objective: str, later: str, value: float) -> None:
    metric = choose(ended(baseline), objective, None, None)
    assert settle(ended(later), Metric.from_row(json.loads(json.dumps(metric.to_row())))).value == value


@pytest.mark.parametrize(
    ("printed", "objective", "at_bound"),
    [
        ("10 passed in 0.1s", "maximize pytest pass rate", True),
        ("10 passed in 0.1s", "maximize test pass count", True),
        ("9 passed, 1 failed in 0.1s", "maximize test pass count", False),
        ("All checks passed!", "minimize ruff warnings", True),
        ("All checks passed!", "maximize ruff warnings", False),
        ("accuracy: 100%", "maximize accuracy", False),
        ("loss: 0", "minimize loss", False),
    ],
)
def test_nothing_left_to_gain_is_a_known_tools_word(printed: str, objective: str, at_bound: bool) -> None:
    assert chosen(printed, objective)[1].at_bound is at_bound


def test_the_baselines_exit_status_is_remembered() -> None:
    assert chosen("Found 2 errors.", "minimize ruff warnings", exit_code=1)[0].nonzero_ok
    assert not chosen("Found 2 errors.", "minimize ruff warnings")[0].nonzero_ok


def test_other_named_numbers_are_secondary() -> None:
    numbers = secondary(KARPATHY, replace(LOSS, name="val_bpb"))
    assert "val_bpb" not in numbers
    assert numbers["peak_vram_mb"] == 45060.2
    assert numbers["mfu_percent"] == 39.8
    assert numbers["tok/sec"] == 1663203
    assert secondary("x 5\nloss: nan\n", None) == {}


def test_secondary_numbers_are_bounded() -> None:
    numbers = secondary("\n".join(f"name{number}: {number}" for number in range(500)) + f"\n{'a' * 50}: 1", None)
    assert len(numbers) == 40
    assert numbers["name499"] == 499


@pytest.mark.parametrize(
    ("measure", "printed", "suggested"),
    [
        ("ruff check src/ 2>&1 | tail -1", RUFF_TRAILER, "ruff check src/ 2>&1 | grep -E '^Found|^All checks'"),
        ("ruff check . |tail -n 1 ", "1 unsafe fix available with `--fix --unsafe-fixes`.",
         "ruff check . | grep -E '^Found|^All checks'"),
        ("ruff check src/ 2>&1 | tail -1", "Found 1 error.\n", None),
        ("ruff check src/ 2>&1 | tail -2", "Found 3 errors.\n" + RUFF_TRAILER, None),
        ("ruff check src/ | cat", RUFF_TRAILER, None),
        ("make lint | tail -1", RUFF_TRAILER, None),
        ("ruff check src/ | tail -1", "", None),
    ],
)  # fmt: skip
def test_ruffs_trailer_suggests_the_command_that_works(measure: str, printed: str, suggested: str | None) -> None:
    assert suggested_command(measure, printed) == suggested


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
METRICS = [
    LOSS,
    Metric("", MAXIMIZE, Reader(ReaderKind.NUMBER)),
    Metric("", MINIMIZE, Reader(ReaderKind.REGEX, r"(\w+)")),
    Metric("a", MINIMIZE, Reader(ReaderKind.NAME, "METRIC a")),
    *(Metric(key, MAXIMIZE, Reader(ReaderKind.TOOL, key)) for key in ("pytest.rate", "unittest.count", "go.time")),
]
FRAGMENTS = (
    "1 passed in 1s",
    "loss:",
    "METRIC a=",
    "OK",
    "(",
    " ",
    "\n",
    "\r",
    "9" * 400,
    "nan",
    "\x1b[",
    "%",
    "1e999",
)
TEXTS = st.text() | st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3)).map("".join)


@given(TEXTS, st.sampled_from(METRICS))
def test_settling_never_raises_and_gives_a_finite_value_or_a_reason(text: str, metric: Metric) -> None:
    settled = settle(ended(text), metric)
    assert (settled.value is None) == (settled.failure is Reason.NO_METRIC)
    assert settled.value is None or math.isfinite(settled.value)
    assert settle(settled, metric) == settled


@given(TEXTS, st.sampled_from(["minimize loss", "maximize pass rate", "minimize time", ""]))
def test_choosing_gives_what_settling_reads_or_refuses(text: str, objective: str) -> None:
    try:
        metric = choose(ended(text), objective, None, MINIMIZE)
    except UsageError:
        return
    assert settle(ended(text), metric).ok


@given(NUMBERS, st.sampled_from([": ", "=", " ", " = ", ":      "]))
def test_any_float_is_read_back_exactly(value: float, separator: str) -> None:
    assert [item.value for item in readings(f"score{separator}{value!r}\n", "maximize score")] == [value]
    assert [item.value for item in readings(f"{value!r}\n", "maximize score")] == [value]


@given(NUMBERS, NUMBERS)
def test_gain_is_antisymmetric(before: float, after: float) -> None:
    for direction in Direction:
        assert direction.gain(before, after) == -direction.gain(after, before)
    assert MINIMIZE.gain(before, after) == -MAXIMIZE.gain(before, after)
    assert not (MINIMIZE.better(before, after) and MAXIMIZE.better(before, after))


@pytest.mark.parametrize(
    "unit", ["1", " ", "1 ", "1.", "a", "a:", "1,111", "12m ", "1:1", "-", "_", "=", "(", "1 a | ", "\x1b]", "TOTAL 1 "]
)
def test_reading_is_linear_on_one_long_line(unit: str) -> None:
    def seconds(length: int) -> float:
        text = (unit * length)[:length] + "!"
        began = time.process_time()
        readings(text, "minimize a loss")
        secondary(text, None)
        return time.process_time() - began

    # A quadratic reader takes 100 times longer on the second text, and far over half a second.
    assert seconds(30_000) < 0.5 + 30 * seconds(3_000)


def test_many_lines_that_nearly_match_a_tool_are_read_in_time() -> None:
    lines = [
        "Tests  " + "1 a | " * 70,
        "TOTAL " + "1 " * 200,
        "1 a" + " a" * 200,
        "time:" + " " * 400 + "[",
        "Tests: " + "1 passed, " * 45,
        "FAILED (" + "a=1, " * 80,
        " " * 450 + "x",
    ]
    text = "\n".join(lines * (65536 // sum(map(len, lines)) + 1))
    began = time.process_time()
    readings(text, "minimize a loss")
    assert time.process_time() - began < 5
