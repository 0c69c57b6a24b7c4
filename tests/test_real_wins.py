"""Wins that are real, through real processes: luck, cancelling pairs, flaky tests, load, and a copy that is measured.

Noise is a table, read on by each measurement of a tree: a test knows what every run saw, however slow the machine is.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from autoresearch.acceptance import POOL
from autoresearch.events import Event, Landed, Measured, Merged, SlotReady, TakenOver, event_from_row
from autoresearch.load import disturbed
from autoresearch.state.pairs import REPEATED
from autoresearch.trial import Purpose, mean
from tests.checkouts import made, whole
from tests.ground import Ground, picture

TAG = ("--tag", "t", "--yes", "--plain", "--no-canary")
ONE = (*TAG, "--workers", "1", "--proposers", "1")
TURNS = """\
import fcntl, os, sys, time, zlib

folder = sys.argv[1]
texts = {name: open(os.path.join("knobs", name)).read() for name in sorted(os.listdir("knobs"))}
knobs = {name: float(text.split()[0]) for name, text in texts.items()}


def turn(name):
    # How many came before under this name.
    with open(os.path.join(folder, name), "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b".")
        return file.tell() - 1


tree = f"{zlib.crc32(repr(texts).encode()):x}"
time_of_tree = turn(tree)
noise = (0.2, -0.3, 0.1, -0.2, 0.3, -0.1)[time_of_tree % 6]
"""
"""The beginning of each measure command: `knobs` by file, and the `noise` of this measurement of this tree."""


@dataclass(frozen=True)
class Knobs:
    """A repository of files with a number each, and a run on it."""

    ground: Ground

    @property
    def words(self) -> list[str]:
        return ["minimize loss", f"{sys.executable} -SE measure.py {self.ground.folder}", "knobs"]

    def run(self, *words: str) -> str:
        """What a run to its end has said; the branch must keep the law."""
        done = self.ground.do(*self.words, *words)
        assert done.returncode == 0, done.stderr
        each_keep_was_measured_beside_the_one_before(self.ground)
        return done.stdout

    def ends(self) -> list[tuple[str, str]]:
        """Status and reason of each trial, in the order of their numbers."""
        rows = sorted(self.ground.rows(), key=lambda row: int(row["trial"]))
        return [(row["status"], row["reason"]) for row in rows[1:]]

    def noise(self) -> dict[str, Any]:
        facts = json.loads(self.ground.do("status", "--json").stdout)["facts"]
        noise: dict[str, Any] = facts["noise"]
        return noise


def made_of(folder: Path, script: str, knobs: Mapping[str, float]) -> Knobs:
    ground = Ground(folder)
    ground.write("measure.py", TURNS + script)
    for name, value in knobs.items():
        ground.write(f"knobs/{name}", f"{value:g}\n")
    ground.git("add", "-A")
    ground.git("commit", "-q", "-m", "knobs")
    return Knobs(ground)


def turned(name: str, text: object, parent: int | None = None) -> dict[str, Any]:
    """A line of a replay file: a knob is set."""
    line = {"hypothesis": f"{name} {text}", "edits": [{"path": f"knobs/{name}", "content": f"{text}\n"}]}
    return line if parent is None else line | {"parent": parent}


# The law.


def stored(ground: Ground) -> list[Event]:
    """All that has happened, in order."""
    with closing(sqlite3.connect(ground.root / ".autoresearch" / "t" / "run.db")) as connection:
        found = connection.execute("SELECT kind, payload FROM events ORDER BY seq")
        return [event_from_row(kind, json.loads(payload)) for kind, payload in found]


def each_keep_was_measured_beside_the_one_before(ground: Ground) -> None:
    """Every tree on the branch has fresh runs on top of its predecessor, which has runs of its own; none else decide.

    Where all values are equal, two suffice. Pairs of timings that others disturbed may be left out, no other value.
    """
    shown = ground.git("log", "--all", "--format=%H %T %P").splitlines()
    trees = {line.split()[0]: line.split()[1] for line in shown}
    parents = {line.split()[0]: line.split()[2:] for line in shown}
    rows, events = {row["trial"]: row for row in ground.rows()}, stored(ground)
    cpus = {event.slot: event.cpus for event in events if isinstance(event, SlotReady)}
    status = json.loads(ground.do("status", "--json").stdout)
    exact, paired = status["deterministic"], status["facts"]["noise"]["kind"] == "time-like"
    landed = [(place, event) for place, event in enumerate(events) if isinstance(event, Landed)]
    chain = ground.git("rev-list", "--reverse", "main..autoresearch/t").split()
    assert [event.commit for _, event in landed] == chain
    for (place, keep), before in zip(landed, [ground.git("rev-parse", "main").strip(), *chain], strict=False):
        seen = [event for event in _measured(events[:place]) if event.measurement.ok]
        of_tree = [event for event in seen if trees[event.commit] == trees[keep.commit]]
        if exact:
            assert len({event.measurement.value for event in of_tree}) == 1 and len(of_tree) >= 2
            continue
        fresh = [event for event in of_tree if event.purpose is Purpose.CONFIRM]
        beside = [event for event in seen if trees[event.commit] == trees[before]]
        assert len(fresh) >= 2 and len(beside) >= min(len(fresh), POOL)
        if rows[str(keep.trial)]["reason"] != "replaced":
            assert {before} == {parent for event in fresh for parent in parents[event.commit]}
        calm, doubtful = [], []
        for event in fresh:
            in_slot = [other for other in seen if other.slot == event.slot]
            at = in_slot.index(event)
            pair = in_slot[max(0, at - 1) : at + 2]  # the other side came just before or after it
            told = paired and any(disturbed(other.measurement, cpus[event.slot]) for other in pair)
            (doubtful if told else calm).append(event.measurement.value or 0.0)
        counts = range(max(0, len(doubtful) - REPEATED), len(doubtful) + 1)
        means = [mean(calm + list(some)) for n in counts for some in combinations(doubtful, n) if calm or some]
        assert float(list(rows[str(keep.trial)].values())[1]) in [pytest.approx(each) for each in means]


def _measured(events: Sequence[Event]) -> Iterator[Measured]:
    for event in events:
        if isinstance(event, TakenOver):
            yield from event.measured
        elif isinstance(event, Measured):
            yield event


# Luck.


def test_a_lucky_spike_is_not_kept_and_a_win_is_worth_what_its_fresh_runs_gave(tmp_path: Path) -> None:
    lucky = """\
lucky = 50 if "lucky" in texts["a"] and time_of_tree == 0 else 0
print("loss:", sum(knobs.values()) + noise - lucky)
"""
    knobs = made_of(tmp_path, lucky, {"a": 90, "b": 10})
    said = knobs.run(*ONE, "--proposer", knobs.ground.replay(turned("a", "90 lucky"), turned("a", "70 lucky")))
    assert knobs.ends() == [("discard", "unconfirmed"), ("keep", "improved")]
    spike, win = knobs.ground.rows()[1:]
    fresh = [event for event in _measured(stored(knobs.ground)) if event.purpose is Purpose.CONFIRM]
    for row, trial in ((spike, 1), (win, 2)):
        values = [event.measurement.value or 0.0 for event in fresh if event.trial == trial]
        assert float(row["loss"]) == pytest.approx(mean(values))
        assert (int(row["n"]), len(values) > 1) == (len(values) + 1, True)
    assert float(spike["loss"]) > 99 and 79 < float(win["loss"]) < 81
    assert knobs.ground.git("log", "--format=%s", "main..autoresearch/t") == "a 70 lucky\n"
    assert "trial 1 discarded (unconfirmed: fresh runs " in said
    assert "- a 90 lucky — 99.9" in said or "- a 90 lucky — 100" in said


# Moved incumbents.


def test_of_a_cancelling_pair_one_lands_and_of_a_compatible_pair_both(tmp_path: Path) -> None:
    valley = """\
loss = 100 - 10 * knobs["a"] - 8 * knobs["b"] + 18 * knobs["a"] * knobs["b"] - 7 * knobs["c"] - 5 * knobs["d"]
print("loss:", loss + noise)
"""
    knobs = made_of(tmp_path, valley, dict.fromkeys("abcd", 0))
    lines = knobs.ground.replay(*(turned(name, 1, parent=0) for name in "abcd"))
    said = knobs.run(*TAG, "--workers", "2", "--proposer", lines)
    ends = knobs.ends()
    assert sorted(ends[:2]) == [("discard", "superseded"), ("keep", "improved")]
    assert ends[2:] == [("keep", "improved")] * 2
    better = "ab"[ends.index(("keep", "improved"))]
    tip = {name: knobs.ground.git("show", f"autoresearch/t:knobs/{name}").strip() for name in "abcd"}
    assert tip == {name: str(int(name in f"{better}cd")) for name in "abcd"}
    assert "rebased onto the new best, measured again" in said
    combined = [event for event in stored(knobs.ground) if isinstance(event, Merged)]
    measured = {event.commit for event in _measured(stored(knobs.ground))}
    assert len(combined) >= 3  # each that came after the first to land
    assert all(event.candidate is not None and event.candidate.commit in measured for event in combined)


# Tests that fail now and then.

EXACT = "none in 3 measurements: deterministic so far"
SUITE = """\
import fcntl, os
from src import done

def test_is_flaky():
    with open(os.environ["FOLDER"] + "/runs", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b".")
        assert (file.tell() - 1) % 5 == 3

def test_first(): assert done >= 1
def test_second(): assert done >= 2
def test_third(): assert done >= 3
"""


def test_a_flaky_suite_is_found_out_and_a_lucky_run_of_it_is_not_kept(tmp_path: Path) -> None:
    ground = Ground(tmp_path)
    ground.write("src.py", "done = 1\n")
    ground.write("test_suite.py", SUITE)
    ground.git("add", "-A")
    ground.git("commit", "-q", "-m", "a suite")
    edits = [{"path": "src.py", "content": f"done = {done}\n"} for done in ("1  # nothing", "3")]
    lines = ground.replay(*({"hypothesis": edit["content"].strip(), "edits": [edit]} for edit in edits))
    command = f"{sys.executable} -m pytest -q -p no:cacheprovider --assert=plain 2>&1 | tail -1"
    environment = {"FOLDER": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    words = ("maximize test pass count", command, "src.py", *ONE, "--proposer", lines)
    done = ground.do(*words, folder=None, **environment)
    assert done.returncode == 0, done.stderr
    each_keep_was_measured_beside_the_one_before(ground)
    said = [line[10:] for line in done.stdout.splitlines()]
    nothing, first, then, lucky, real = [line for line in said if line.startswith(("baseline:", "noise:", "trial"))]
    assert (nothing, first) == ("baseline: 1, measured 3 times, all equal", f"noise: {EXACT}")
    assert then.startswith("noise: noisy, standard deviation 0.")
    assert lucky.startswith("trial 1 discarded (unconfirmed: fresh runs are no better)")
    assert real.startswith("trial 2 kept (improved) 3")
    assert [row["reason"] for row in ground.rows()] == ["baseline", "unconfirmed", "improved"]


# A loaded machine.

CROWD = """\
import atexit

SLOTS, LOAD = 3, 10
now, slot = os.path.join(folder, "now"), os.environ["AUTORESEARCH_SLOT"]
os.makedirs(now, exist_ok=True)
here = os.path.join(now, slot)
open(here, "w").close()
atexit.register(os.unlink, here)
began = time.monotonic()
if turn("all") < SLOTS:  # the baseline, in all slots at once
    while os.path.getsize(os.path.join(folder, "all")) < SLOTS and time.monotonic() < began + 60:
        time.sleep(0.005)
    others = SLOTS - 1
else:
    others = len(os.listdir(now)) - 1
    time.sleep(0.03)
    others = max(others, len(os.listdir(now)) - 1)
value = sum(knobs.values()) + LOAD * others + noise
with open(os.path.join(folder, "log"), "a") as file:
    seed, tree = os.environ["AUTORESEARCH_SEED"], texts["a"] + texts["b"]
    print(began, time.monotonic(), slot, seed, tree.replace("\\n", "/"), value, sep="\\t", file=file)
print("loss:", value)
"""
"""Each measurement that runs at the same moment makes the value worse by LOAD."""


@dataclass(frozen=True)
class Stay:
    """One measurement, as it has told itself."""

    began: float
    ended: float
    slot: str
    seed: int
    tree: str
    value: float


def stays(folder: Path) -> list[Stay]:
    """By when they began."""
    found = []
    for line in (folder / "log").read_text().splitlines():
        began, ended, slot, seed, tree, value = line.split("\t")
        found.append(Stay(float(began), float(ended), slot, int(seed), tree, float(value)))
    return sorted(found, key=lambda stay: stay.began)


def test_what_load_distorts_is_confirmed_alone_by_turns_in_one_slot(tmp_path: Path) -> None:
    knobs = made_of(tmp_path, CROWD, {"a": 90, "b": 10})
    lines = knobs.ground.replay(turned("b", "10 nothing"), turned("a", 50), turned("b", 40))
    said = knobs.run(*TAG, "--workers", "3", "--proposer", lines)
    assert [end for end, _ in knobs.ends()] == ["discard", "keep", "discard"]
    assert "noise: time-like, standard deviation " in said
    assert "; confirmed in interleaved pairs while nothing else is measured; " in said
    noise = knobs.noise()
    assert (noise["kind"], noise["paired"], noise["alone"], noise["exclusive"]) == ("time-like", True, True, False)
    baseline, win = (float(row["loss"]) for row in knobs.ground.rows() if row["status"] == "keep")
    assert 99 < baseline < 101 and 59 < win < 61

    seen = stays(tmp_path)
    confirmed = [event for event in _measured(stored(knobs.ground)) if event.purpose is Purpose.CONFIRM]
    count = sum(event.trial == 2 for event in confirmed)
    pairs = [place for place, stay in enumerate(seen) if stay.tree == "50/10/" and stay.seed > 0][:count]
    for place in pairs:
        candidate, others = seen[place], seen[:place] + seen[place + 1 :]
        assert all(other.ended < candidate.began or candidate.ended < other.began for other in others)
        incumbent = seen[place + (1 if candidate.seed % 2 == 0 else -1)]  # they take turns to begin
        assert (incumbent.tree, incumbent.slot, incumbent.seed) == ("90/10/", candidate.slot, candidate.seed)
        assert incumbent.value < 101 and candidate.value < 61
    assert len({seen[place].seed % 2 for place in pairs}) == 2


def test_exclusive_measures_one_at_a_time(tmp_path: Path) -> None:
    knobs = made_of(tmp_path, CROWD.replace("SLOTS, LOAD = 3", "SLOTS, LOAD = 0"), {"a": 90, "b": 10})
    lines = knobs.ground.replay(turned("b", "10 nothing"), turned("a", 50))
    said = knobs.run(*TAG, "--workers", "2", "--exclusive", "on", "--proposer", lines)
    assert [end for end, _ in knobs.ends()] == ["discard", "keep"]
    assert all(before.ended < after.began for before, after in pairwise(stays(tmp_path)))
    assert "; measured one at a time" in said and knobs.noise()["exclusive"]


BUSY = """\
hertz = os.sysconf("SC_CLK_TCK")


def used(pid):
    with open(f"/proc/{pid}/stat") as file:
        return sum(int(word) for word in file.read().rpartition(")")[2].split()[11:13]) / hertz


busy = open(os.path.join(folder, "busy")).read()
enough = used(busy) + (0.12 if 0 < int(os.environ["AUTORESEARCH_SEED"]) < 1000 else 0)
end = time.monotonic() + 60
while used(busy) < enough and time.monotonic() < end:
    time.sleep(0.01)
print("latency:", sum(knobs.values()) + noise)
"""
"""A confirmation lasts until a busy process outside the run has had its share."""


@contextmanager
def busy(folder: Path) -> Iterator[None]:
    """A process that uses what CPU time it gets; `folder` holds its number."""
    process = subprocess.Popen([sys.executable, "-SEc", "while True: pass"])
    try:
        (folder / "busy").write_text(str(process.pid))
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="needs /proc/stat, which is not there")
def test_pairs_beside_which_others_use_the_machine_are_repeated_and_then_marked(tmp_path: Path) -> None:
    knobs = made_of(tmp_path, BUSY, {"a": 90, "b": 10})
    with busy(tmp_path):
        lines = knobs.ground.replay(turned("a", 50))
        process = knobs.ground.start("minimize latency", *knobs.words[1:], *ONE, "--repeats", "2", "--proposer", lines)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    each_keep_was_measured_beside_the_one_before(knobs.ground)
    marked = "other programs used the machine while it was compared"
    assert f"trial 1 kept (improved: {marked}) " in out
    assert marked in knobs.ground.do("show", "1").stdout
    pairs = [event for event in _measured(stored(knobs.ground)) if event.purpose is Purpose.CONFIRM]
    assert len(pairs) == REPEATED + 2


# A copy that is measured.


def test_an_editable_install_into_the_checkout_is_led_to_the_slot_and_improves(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """That one which cannot be led is refused is in test_sees_edits."""
    home, venv = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("venv") / "venv"
    git = {"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "Jo"}
    git |= {"GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "jo@example.org", "GIT_OPTIONAL_LOCKS": "0"}
    env = {"PATH": f"{venv}/bin:{os.environ['PATH']}", "VIRTUAL_ENV": str(venv), "HOME": str(home)}
    env |= git | {"XDG_CACHE_HOME": str(home / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    files = {"src/shop/__init__.py": "", "src/shop/prices.py": "TOTAL = 100\n"}
    bench = {"bench.py": "from shop.prices import TOTAL\nprint('total:', TOTAL)\n"}
    checkout = made(tmp_path_factory, env, files | bench)
    (site,) = venv.glob("lib/python*/site-packages")
    (site / "shop.pth").write_text(f"{checkout.root}/src\n")
    lines = checkout.replay(("cheaper", whole("src/shop/prices.py", "TOTAL = 90\n")))
    words = ("minimize total", "python bench.py", "src", "--tag", "t", "--yes", "--plain", "--workers", "2")
    ended = checkout.do(*words, "--proposer", lines)
    assert ended.code == 0
    assert "imports `src` from this checkout; slots put their own first" in ended.plan
    assert "Canary noticed (crash, exit 1)" in ended.plan
    assert ended.verdicts[1] == ("keep", "improved", "cheaper")


# What is known before the first trial.


def test_noise_is_said_first_and_what_check_measured_is_taken_over(tmp_path: Path) -> None:
    knobs = made_of(tmp_path, 'print("loss:", sum(knobs.values()) + noise)\n', {"a": 90, "b": 10})
    checked = knobs.ground.do("check", *knobs.words, "--workers", "1", "--no-canary", "--plain")
    assert checked.returncode == 0
    noise = "noisy, standard deviation 0.265 (2 degrees of freedom)"
    assert f"Noise {noise}; a gain of " in " ".join(checked.stdout.split())
    lines = knobs.ground.replay(turned("a", 50))
    out = knobs.run(*ONE, "--json", "--proposer", lines)
    said = [json.loads(line) for line in out.splitlines()]
    names = [line["event"] for line in said]
    assert names.index("noise") < names.index("trial_ended")
    told = said[names.index("noise")]
    assert (told["kind"], told["dof"], told["stdev"]) == ("noisy", 2, pytest.approx(0.265, abs=0.001))
    assert knobs.noise().keys() <= told.keys()
    baseline = next(row["text"] for row in said[0]["rows"] if row["label"] == "Baseline")
    assert "the first of 3 that check measured, " in baseline
    events = stored(knobs.ground)
    assert any(isinstance(event, TakenOver) and len(event.measured) == 3 for event in events)
    assert not [event for event in events if isinstance(event, Measured) and event.purpose is Purpose.BASELINE]


# Measured again.


NUMBER = r"[\d.]+"


def test_the_headline_is_measured_again_and_so_is_any_trial(tmp_path: Path) -> None:
    knobs = made_of(tmp_path, 'print("loss:", sum(knobs.values()) + noise)\n', {"a": 90, "b": 10})
    lines = knobs.ground.replay(turned("a", 50), turned("a", 40))
    out = knobs.run(*ONE, "--max-trials", "1", "--proposer", lines)
    assert "Stops          after 1 trial, " in out
    (headline,) = [line for line in out.splitlines() if line.startswith("Re-measured: ")]
    assert re.fullmatch(
        rf"Re-measured: {NUMBER} -> {NUMBER} \(improvement: -4.*%, 95% interval .*, n = 5 \+ 5\)", headline
    )
    before = picture(knobs.ground.root)
    again = knobs.ground.do("replay", "1", "--repeats", "3")
    assert (again.returncode, again.stderr) == (0, "")
    assert ", n = 3 + 3)\n" in again.stdout
    report = knobs.ground.do("check", *knobs.words, "--workers", "1", "--no-canary", "--plain", "--aa", "6")
    assert (report.returncode, report.stderr) == (0, "")
    assert "| candidates that change nothing | 6 |\n| kept (all falsely) | 0 of 6: 0.0% " in report.stdout
    assert picture(knobs.ground.root) == before
