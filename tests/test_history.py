from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from autoresearch import history, schema
from autoresearch.errors import StoreError, UsageError
from autoresearch.events import (
    Approved,
    Began,
    Deferred,
    Ended,
    Event,
    Measured,
    MeasureReplaced,
    Proposed,
    ProposingFailed,
    Resumed,
    Stamped,
    StopAsked,
    TimePassed,
    kind_of,
)
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.record import RunState
from autoresearch.store import RunLock, SQLiteStore
from autoresearch.trial import (
    Change,
    Edit,
    Measurement,
    Outcome,
    Proposal,
    Purpose,
    Reason,
    Reply,
    Trial,
    Usage,
)

pytestmark = pytest.mark.anyio

METRIC = Metric("val_bpb", Direction.MINIMIZE, Reader(ReaderKind.NAME, "val_bpb"))
CONFIG = {"objective": "minimize val_bpb", "confidence": 0.99}
BEGAN = Began(CONFIG, "ba5e", "7ree")
BASELINE = Trial(0, Outcome.KEEP, Reason.BASELINE, "baseline", value=0.998, n=3, stdev=0.001)
REPLY = Reply("long answer " * 200, ("shared part " * 200, "own part"), "m", Usage(100, 60, 0, 10, 0.5, 2.0))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path / history.FOLDER / "mar26"


@pytest.fixture
async def store(run_dir: Path) -> AsyncIterator[SQLiteStore]:
    async with SQLiteStore.open(run_dir) as opened:
        yield opened


async def append(store: SQLiteStore, *events: Event, start: float = 1000.0, step: float = 10.0) -> None:
    for place, event in enumerate(events):
        await store.append(Stamped(start + step * place, event))


async def test_a_run_in_short(store: SQLiteStore, run_dir: Path) -> None:
    proposed = Proposed(1, Proposal(Change("a", ()), REPLY))
    await append(store, BEGAN, Approved(METRIC), proposed, ProposingFailed(2, "useless", REPLY))
    await append(store, Deferred(3, "overloaded", cost_usd=0.25), start=1040.0)
    await store.record(BASELINE)
    keeps = [(1, 0.99, 0.008), (4, 0.95, 0.04), (6, 0.94, 0.01)]
    for number, value, delta in keeps:
        await store.record(
            Trial(number, Outcome.KEEP, Reason.IMPROVED, "k", value=value, delta=delta, n=3, stdev=0.002)
        )
    await store.record(Trial(2, Outcome.CRASH, Reason.EXIT, "crash"))
    await store.record(Trial(3, Outcome.DISCARD, Reason.WORSE, "far", value=2.0, delta=-1.0, n=1))
    await store.record(Trial(5, Outcome.DISCARD, Reason.UNCONFIRMED, "near", value=0.95, delta=-0.01, n=2))
    await store.record(Trial(7, Outcome.DISCARD, Reason.CONFLICT, "unmeasured"))
    await append(store, Ended("--max-trials reached", {"slot_use": 0.9, "slots": 8, "seconds": 100.0}), start=1100.0)

    record = history.read_run(run_dir)
    assert (record.tag, record.branch, record.objective) == ("mar26", "autoresearch/mar26", "minimize val_bpb")
    assert (record.state, record.pid, record.stop_reason) == (RunState.ENDED, None, "--max-trials reached")
    assert record.metric == METRIC
    assert record.baseline == BASELINE
    assert record.best is not None and record.best.number == 6
    assert record.outcomes == {"keep": 3, "discard": 3, "crash": 1}
    assert record.experiments == 7
    assert (record.deterministic, record.confirmed) == (False, 4)
    assert [trial.number for trial in record.top] == [4, 6, 1]
    assert [trial.hypothesis for trial in record.failed] == ["near", "far", "unmeasured", "crash"]
    assert record.usage == Usage(200, 120, 0, 20, 1.25, 4.0)
    assert (record.began_at, record.ended_at, record.seconds) == (1000.0, 1100.0, 100.0)
    assert (record.slot_use, record.slots) == (0.9, 8)


async def test_the_state_follows_the_lock_and_the_last_mark(store: SQLiteStore, run_dir: Path) -> None:
    async def state(*events: Event) -> RunState:
        await append(store, *events)
        return history.read_run(run_dir).state

    with RunLock(run_dir):
        assert await state(BEGAN, TimePassed()) is RunState.RUNNING
        assert history.read_run(run_dir).pid == os.getpid()
        assert await state(StopAsked("Ctrl-C"), TimePassed()) is RunState.DRAINING
    assert await state() is RunState.INTERRUPTED
    with RunLock(run_dir):
        assert await state(Resumed(CONFIG)) is RunState.RUNNING
        assert await state(Ended("target reached")) is RunState.ENDED
    assert await state() is RunState.ENDED


async def test_time_counts_only_while_a_process_ran(store: SQLiteStore, run_dir: Path) -> None:
    await append(store, BEGAN, TimePassed(), start=1000.0, step=50.0)  # killed at 1050
    resumed = Resumed({"objective": "later"})
    await append(store, resumed, Ended("a", {"slot_use": 0.5, "slots": 2, "seconds": 10.0}), start=5000.0, step=10.0)
    with RunLock(run_dir):
        await append(store, resumed, start=9000.0)
        record = history.read_run(run_dir, now=9007.0)
        assert (record.seconds, record.ended_at, record.objective) == (50.0 + 10.0 + 7.0, None, "later")
    await append(store, Ended("b", {"slot_use": 1.0, "slots": 2, "seconds": 30.0}), start=9030.0)
    record = history.read_run(run_dir)
    assert (record.seconds, record.ended_at, record.slot_use) == (90.0, 9030.0, 0.875)
    await append(store, resumed, Ended("c", {"slot_use": 0.0, "slots": 0, "seconds": 1.0}), start=9990.0)
    record = history.read_run(run_dir)
    assert (record.slots, record.slot_use) == (2, 0.875)


@pytest.mark.parametrize(("spreads", "deterministic"), [((), None), ((0.0, 0.0), True), ((0.0, 0.1), False)])
async def test_deterministic_is_what_every_repetition_says(
    store: SQLiteStore, run_dir: Path, spreads: tuple[float, ...], deterministic: bool | None
) -> None:
    await append(store, BEGAN)
    for number, spread in enumerate(spreads):
        await store.record(Trial(number, Outcome.KEEP, Reason.IMPROVED, "x", value=1.0, n=2, stdev=spread))
    await store.record(Trial(9, Outcome.DISCARD, Reason.WORSE, "x", value=1.0, n=1))
    assert history.read_run(run_dir).deterministic is deterministic


async def test_a_run_just_begun_can_be_read(store: SQLiteStore, run_dir: Path) -> None:
    with pytest.raises(UsageError, match="has not begun"):
        history.read_run(run_dir)
    await append(store, BEGAN)
    record = history.read_run(run_dir)
    assert (record.baseline, record.best, record.metric, record.experiments) == (None, None, None, 0)


async def test_trials_are_filtered_and_carry_their_edits(store: SQLiteStore, run_dir: Path) -> None:
    edits = (Edit("a.py", content="long " * 500),)
    crash = Trial(1, Outcome.CRASH, Reason.EXIT, "c", edits=edits, tail="Traceback")
    await store.record(BASELINE)
    await store.record(Trial(2, Outcome.DISCARD, Reason.WORSE, "w"))
    await store.record(crash)
    assert list(history.trials(run_dir))[2] == replace(crash, tail="")
    assert [trial.number for trial in history.trials(run_dir)] == [0, 2, 1]
    assert [trial.number for trial in history.trials(run_dir, status=Outcome.DISCARD)] == [2]
    assert [trial.number for trial in history.trials(run_dir, reason=Reason.EXIT)] == [1]
    assert not list(history.trials(run_dir, Outcome.KEEP, Reason.EXIT))
    assert history.trial(run_dir, 1) == crash


async def test_a_trial_that_is_not_there(store: SQLiteStore, run_dir: Path) -> None:
    with pytest.raises(UsageError, match="none has ended yet"):
        history.trial(run_dir, 4)
    await store.record(BASELINE)
    await append(store, Proposed(1, Proposal(Change("a", ()), REPLY)))
    with pytest.raises(UsageError, match="trials go from 0 to 0"):
        history.trial(run_dir, 4)
    with pytest.raises(UsageError, match="has not ended yet"):
        history.trial(run_dir, 1)


async def test_what_a_trial_went_through(store: SQLiteStore, run_dir: Path) -> None:
    first = Measured(1, 0, Purpose.SCREEN, "c0", Measurement(0.9, tail="long output " * 200))
    second = Measured(1, 2, Purpose.CONFIRM, "c0", Measurement(0.91))
    other = Measured(2, 1, Purpose.SCREEN, "c1", Measurement(None, Reason.TIMEOUT))
    failed = ProposingFailed(1, "useless", replace(REPLY, text="no"))
    await append(store, failed, Proposed(1, Proposal(Change("a", ()), REPLY)), first, other, second)
    assert history.measurements(run_dir, 1) == [first, second]
    assert history.prompt_and_reply(run_dir, 1) == [replace(REPLY, text="no"), REPLY]
    assert history.prompt_and_reply(run_dir, 2) == []


async def test_reading_leaves_nothing_behind(run_dir: Path) -> None:
    async with SQLiteStore.open(run_dir) as store:
        await append(store, BEGAN)
        live = set(os.listdir(run_dir))
        assert history.read_run(run_dir).tag == "mar26"
        assert set(os.listdir(run_dir)) == live
        killed = run_dir.with_name("killed")
        shutil.copytree(run_dir, killed)
    for folder in (run_dir, killed):
        before = {name: (folder / name).read_bytes() for name in os.listdir(folder) if not name.endswith("-shm")}
        history.read_run(folder)
        assert list(history.trials(folder)) == []
        assert {name: (folder / name).read_bytes() for name in before} == before
        assert {name for name in os.listdir(folder) if not name.endswith("-shm")} == set(before)
    assert set(os.listdir(run_dir)) == {"run.db"}
    assert history.lock_holder(run_dir) is None
    assert set(os.listdir(run_dir)) == {"run.db"}


def test_asking_for_the_holder_does_not_take_the_lock(run_dir: Path) -> None:
    with RunLock(run_dir):
        assert history.lock_holder(run_dir) == os.getpid()
        assert history.lock_holder(run_dir) == os.getpid()
    assert history.lock_holder(run_dir) is None
    with RunLock(run_dir):
        pass


async def test_the_latest_run_is_meant_where_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run"):
        history.resolve_tag(tmp_path, None)
    for tag, at in (("first", 1000.0), ("second", 2000.0)):
        async with SQLiteStore.open(tmp_path / history.FOLDER / tag) as store:
            await append(store, BEGAN, Approved(METRIC), start=at)
    async with SQLiteStore.open(tmp_path / history.FOLDER / "stillborn"):
        pass
    assert [info.tag for info in history.runs(tmp_path)] == ["first", "second"]
    assert history.resolve_tag(tmp_path, None).name == "second"
    assert history.resolve_tag(tmp_path, "first").name == "first"
    async with SQLiteStore.open(tmp_path / history.FOLDER / "first") as store:
        await append(store, Resumed(CONFIG), start=3000.0)
    assert history.resolve_tag(tmp_path, None).name == "first"
    for unknown in ("third", "../mar26", "stillborn", ""):
        with pytest.raises(UsageError, match="the runs here are second, first"):
            history.resolve_tag(tmp_path, unknown)


async def test_a_damaged_run_does_not_hide_the_others(tmp_path: Path) -> None:
    broken = tmp_path / history.FOLDER / "broken"
    async with SQLiteStore.open(broken.with_name("whole")) as store:
        await append(store, BEGAN, Approved(METRIC))
    os.mkdir(broken)
    await anyio.Path(broken / "run.db").write_bytes(b"not a database, whatever its name says " * 50)
    assert {info.tag for info in history.runs(tmp_path)} == {"broken", "whole"}
    with pytest.raises(StoreError, match="not a run's database"):
        history.read_run(history.resolve_tag(tmp_path, "broken"))


async def test_the_measure_command_is_the_one_that_was_taken(store: SQLiteStore, run_dir: Path) -> None:
    await append(store, replace(BEGAN, folder="src"), MeasureReplaced("ruff check | grep Found"))
    record = history.read_run(run_dir)
    assert (record.config["measure"], record.folder) == ("ruff check | grep Found", "src")
    await append(store, Resumed(CONFIG | {"measure": "later"}))
    assert history.read_run(run_dir).config["measure"] == "later"


async def test_facts_are_read_by_name_and_an_older_database_has_none(store: SQLiteStore, run_dir: Path) -> None:
    await append(store, BEGAN)
    assert history.read_run(run_dir).facts == {}
    await store.note("noise", {"stdev": 0.5, "kind": "noisy"})
    assert history.read_run(run_dir).facts == {"noise": {"stdev": 0.5, "kind": "noisy"}}
    with closing(sqlite3.connect(run_dir / "run.db")) as connection:
        connection.executescript("DROP TABLE facts; PRAGMA user_version = 1")
    assert history.read_run(run_dir).facts == {}


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer autoresearch"):
        history.read_run(tmp_path)


def test_a_database_of_which_only_the_file_exists_has_not_begun(tmp_path: Path) -> None:
    run_dir = tmp_path / history.FOLDER / "empty"
    run_dir.mkdir(parents=True)
    (run_dir / "run.db").touch()
    assert history.runs(tmp_path) == []
    with pytest.raises(UsageError, match="has not begun"):
        history.read_run(run_dir)


def synthetic(run_dir: Path, trials: int) -> None:
    """A database as a long run leaves it, written in one transaction."""
    run_dir.mkdir(parents=True)
    with closing(sqlite3.connect(run_dir / "run.db", isolation_level=None)) as connection:
        connection.executescript("".join(schema.MIGRATIONS) + f"PRAGMA user_version = {len(schema.MIGRATIONS)}; BEGIN")

        def write(event: Event) -> None:
            packed, usage = schema.pack_event(event), schema.usage_of(event)
            connection.executemany("INSERT OR IGNORE INTO texts VALUES (?, ?)", schema.compress(packed.texts))
            values = (1000.0, kind_of(event), getattr(event, "trial", None), packed.json)
            connection.execute("INSERT INTO events (at, kind, trial, payload) VALUES (?, ?, ?, ?)", values)
            if usage:
                row = schema.usage_row(usage)
                connection.execute("INSERT INTO spent VALUES (last_insert_rowid(), ?, ?, ?, ?, ?, ?)", row)

        write(BEGAN)
        write(Approved(METRIC))
        for number in range(trials):
            edits = (Edit("train.py", old=f"lr = {number}", new=f"lr = {number + 1}\n" * 20),)
            reply = replace(REPLY, prompt=(*REPLY.prompt, f"history {number}"))
            write(Proposed(number, Proposal(Change(f"idea {number}", edits), reply)))
            for purpose in (Purpose.SCREEN, Purpose.CONFIRM):
                write(Measured(number, 0, purpose, "c0ffee", Measurement(1.0, tail=f"step {number}\n" * 50)))
            outcome = Outcome.KEEP if number % 100 == 0 else Outcome.DISCARD
            trial = Trial(
                number, outcome, Reason.WORSE, f"idea {number}", edits=edits, value=1.0, delta=-1.0 / (number + 1)
            )
            values, texts = schema.pack_trial(replace(trial, tail=f"step {number}\n" * 50))
            connection.executemany("INSERT OR IGNORE INTO texts VALUES (?, ?)", schema.compress(texts))
            connection.execute(schema.INSERT_TRIAL, values)
        connection.execute("COMMIT")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Counts what SQLite does for a question, in steps of its virtual machine: no clock, no luck."""
    connect, counted = sqlite3.connect, count()

    def counting(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_progress_handler(lambda: next(counted) < 0, 1)
        return connection

    monkeypatch.setattr(history.sqlite3, "connect", counting)

    def run(look: Callable[[], object]) -> int:
        before = next(counted)
        look()
        return next(counted) - before

    return run


@pytest.mark.parametrize("look", [history.trial, history.measurements, history.prompt_and_reply])
def test_one_trial_costs_the_same_in_a_long_run(
    run_dir: Path, steps: Callable[[Callable[[], object]], int], look: Callable[[Path, int], object]
) -> None:
    short, long = run_dir.with_name("short"), run_dir.with_name("long")
    synthetic(short, 20)
    synthetic(long, 300)
    assert look(long, 7)
    assert steps(lambda: look(long, 7)) < 1.2 * steps(lambda: look(short, 7)) + 10


def test_a_whole_run_costs_a_few_steps_per_trial(run_dir: Path, steps: Callable[[Callable[[], object]], int]) -> None:
    short, long = run_dir.with_name("short"), run_dir.with_name("long")
    synthetic(short, 200)
    synthetic(long, 1200)
    assert (steps(lambda: history.read_run(long)) - steps(lambda: history.read_run(short))) / 1000 < 150
    assert steps(lambda: next(history.trials(long))) < 100 * history._PORTION
