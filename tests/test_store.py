from __future__ import annotations

import csv
import json
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path

import pytest
from anyio import CancelScope, create_task_group, lowlevel, run_process
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoresearch import results, schema
from autoresearch.errors import StoreError, UsageError
from autoresearch.events import (
    Applied,
    Approved,
    Began,
    CanaryMade,
    Deferred,
    Ended,
    Event,
    Exhausted,
    Landed,
    Measured,
    MeasureReplaced,
    Merged,
    Proposed,
    ProposingFailed,
    Rejected,
    Resumed,
    SlotFailed,
    SlotReady,
    SlotsComplete,
    Stamped,
    StopAsked,
    TakenOver,
    TimePassed,
)
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.store import RunLock, SQLiteStore
from autoresearch.trial import (
    Candidate,
    Change,
    Edit,
    Measurement,
    Operator,
    Outcome,
    Proposal,
    Purpose,
    Reason,
    Reply,
    Substitute,
    Trial,
    Usage,
)

pytestmark = pytest.mark.anyio

METRIC = Metric("val_bpb", Direction.MINIMIZE, Reader(ReaderKind.NAME, "val_bpb"))
CHANGE = Change(
    "longer\u2028idea \udcff \ud800",
    (Edit("a.py", old="x" * 2000, new="\udc80" * 1500), Edit("b", content=""), Edit("c", delete=True)),
)
REPLY = Reply("r" * 3000, ("shared" * 500, "short"), "claude-opus-5-5", Usage(10, 4, 2, 3, 0.25, 1.5))
BARE_REPLY = replace(REPLY, prompt=())
CANDIDATE = Candidate("c0ffee", "7ree", 3, 1)
MEASUREMENT = Measurement(0.5, None, 0, 1.5, 1.2, 2**30, extra={"peak_vram_mb": 45060.2}, tail="t\x1b" * 900)
TRIAL = Trial(
    number=7,
    outcome=Outcome.KEEP,
    reason=Reason.IMPROVED,
    hypothesis='quote " tab\tnul\x00 ünïcode',
    parent=3,
    operator=Operator.EXPLORE,
    edits=CHANGE.edits,
    commit="a1b2c3d4e5",
    tree="7ree",
    value=0.871,
    delta=0.01,
    n=4,
    stdev=0.002,
    added=5,
    removed=2,
    seconds=60.5,
    usage=Usage(10, 4, 2, 3, 0.25, 1.5),
    model="claude-opus-5-5",
    worker=2,
    memory_gb=44.0,
    extra={"mfu": 0.4},
    tail="end\udcff of output\n" * 200,
    note="better",
    implausible=True,
    ended_at=1.75e9,
)
EVENTS: list[Event] = [
    Began({"objective": "minimize", "max_cost": float("inf"), "scope": ["a.py"]}, "ba5e", "7ree", True, False, 0.5),
    CanaryMade("ca5a", Substitute.NOTHING, "a.py"),
    SlotReady(0, "GPU 0"),
    SlotsComplete(),
    MeasureReplaced("ruff check | grep Found"),
    Measured(0, 0, Purpose.BASELINE, "ba5e", MEASUREMENT),
    Measured(0, 0, Purpose.BASELINE, "ba5e", Measurement(None, Reason.TIMEOUT, None)),
    TakenOver((Measured(0, 1, Purpose.BASELINE, "ba5e", MEASUREMENT),)),
    Approved(METRIC),
    SlotFailed(0, "disk full"),
    Proposed(1, Proposal(CHANGE, BARE_REPLY, 0)),
    ProposingFailed(2, "no edits", BARE_REPLY),
    ProposingFailed(2, "refused"),
    Deferred(3, "overloaded", 2.5, 0.125),
    Applied(1, CANDIDATE),
    Rejected(4, Reason.OUT_OF_SCOPE, "setup.py"),
    Merged(1, "0ther", CANDIDATE),
    Merged(1, "0ther", None),
    Landed(1, "c0ffee"),
    Exhausted(5),
    TimePassed(),
    StopAsked("Ctrl-C"),
    Ended("stopped", {"slot_use": 0.9, "slots": 8}),
    Resumed({"objective": "minimize"}),
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def tsv(run_dir: Path) -> list[list[str]]:
    with open(run_dir / "results.tsv", newline="", encoding="utf-8") as file:
        return list(csv.reader(file, dialect="excel-tab"))


def query(run_dir: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(run_dir / "run.db")) as connection:
        return connection.execute(sql).fetchall()


async def test_every_event_comes_back_as_it_was(tmp_path: Path) -> None:
    assert {type(event) for event in EVENTS} == set(Event.__args__)
    stored = [Stamped(1.75e9 + place, event) for place, event in enumerate(EVENTS)]
    async with SQLiteStore.open(tmp_path) as store:
        for stamped in stored:
            await store.append(stamped)
        assert [as_json(each) for each in await store.events()] == [as_json(each) for each in stored]
    async with SQLiteStore.open(tmp_path) as store:
        assert [as_json(each) for each in await store.events()] == [as_json(each) for each in stored]


def as_json(stamped: Stamped) -> tuple[object, ...]:
    """Comparable, whatever sequences and mappings a config was made of."""
    return stamped.at, type(stamped.event), json.dumps(schema.to_row(stamped.event))


async def test_shared_prompts_are_stored_once_and_not_loaded_with_events(tmp_path: Path) -> None:
    async with SQLiteStore.open(tmp_path) as store:
        for trial in range(1, 6):
            reply = replace(REPLY, prompt=("shared" * 500, f"own {trial}"))
            await store.append(Stamped(1.0, Proposed(trial, Proposal(CHANGE, reply))))
        assert all(stamped.event.proposal.reply == BARE_REPLY for stamped in await store.events())  # type: ignore[union-attr]
    # The reply's text, two long edits, the shared part and five short ones.
    assert query(tmp_path, "SELECT count(*) FROM texts") == [(1 + 2 + 1 + 5,)]
    assert query(tmp_path, "SELECT sum(input), sum(cost_usd) FROM spent") == [(50, 1.25)]


async def test_a_trial_comes_back_as_it_was(tmp_path: Path) -> None:
    empty = {each.name for each in fields(Trial) if getattr(TRIAL, each.name) == each.default}
    assert not empty, "every field takes part in this test"
    async with SQLiteStore.open(tmp_path) as store:
        await store.record(TRIAL)
        await store.record(Trial(2, Outcome.CRASH, Reason.EXIT, "late"))
        assert await store.earlier_trials() == [TRIAL, Trial(2, Outcome.CRASH, Reason.EXIT, "late")]


json_numbers = st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False), max_size=3)
any_edits = st.lists(
    st.builds(Edit, st.text(st.characters(), min_size=1), content=st.text(st.characters(), max_size=20)), max_size=3
).map(tuple)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    trial=st.builds(
        Trial, st.just(1), hypothesis=st.text(), extra=json_numbers, edits=any_edits, tail=st.text(st.characters())
    )
)
def test_any_trial_goes_into_a_row_and_back(trial: Trial) -> None:
    row, bodies = schema.pack_trial(trial)
    texts = {digest: schema.decompress(body) for digest, body in schema.compress(bodies)}
    assert schema.unpack_trial(row, texts) == trial


async def test_recording_again_changes_nothing(tmp_path: Path) -> None:
    async with SQLiteStore.open(tmp_path) as store:
        await store.append(Stamped(1.0, Approved(METRIC)))
        await store.record(TRIAL)
        await store.record(replace(TRIAL, value=0.1))
        assert await store.earlier_trials() == [TRIAL]
        assert tsv(tmp_path) == [results.header("val_bpb"), results.row(TRIAL)]


async def test_results_are_written_from_the_approval_on(tmp_path: Path) -> None:
    async with SQLiteStore.open(tmp_path) as store:
        await store.record(replace(TRIAL, number=0, reason=Reason.BASELINE))
        assert not (tmp_path / "results.tsv").exists()
        await store.append(Stamped(1.0, Approved(METRIC)))
        assert [row[6] for row in tsv(tmp_path)] == ["trial", "0"]
        for number in (3, 1, 2):
            await store.record(replace(TRIAL, number=number))
        assert [row[6] for row in tsv(tmp_path)] == ["trial", "0", "3", "1", "2"]


@pytest.mark.parametrize("damage", ["lost", "torn", "appended"])
async def test_results_are_whole_after_opening(tmp_path: Path, damage: str) -> None:
    async with SQLiteStore.open(tmp_path) as store:
        await store.append(Stamped(1.0, Approved(METRIC)))
        await store.record(TRIAL)
    path = tmp_path / "results.tsv"
    whole = path.read_bytes()
    damaged = {"lost": None, "torn": whole[:-20], "appended": whole + b"mine\r\n"}[damage]
    path.unlink() if damaged is None else path.write_bytes(damaged)
    async with SQLiteStore.open(tmp_path) as store:
        assert path.read_bytes() == whole
        path.unlink()
        await store.record(replace(TRIAL, number=8))
        assert [row[6] for row in tsv(tmp_path)] == ["trial", "7", "8"]
    assert set(os.listdir(tmp_path)) == {"run.db", "results.tsv"}


async def test_concurrent_calls_are_carried_out_in_order(tmp_path: Path) -> None:
    async with SQLiteStore.open(tmp_path) as store:
        async with create_task_group() as group:
            for number in range(40):
                group.start_soon(store.append, Stamped(float(number), TimePassed()))
                group.start_soon(store.record, Trial(number, Outcome.DISCARD, Reason.WORSE, "x"))
        assert [stamped.at for stamped in await store.events()] == [float(number) for number in range(40)]
        assert [trial.number for trial in await store.earlier_trials()] == list(range(40))


async def test_a_cancelled_call_has_happened_whole_or_not_at_all(tmp_path: Path) -> None:
    event = Proposed(1, Proposal(CHANGE, REPLY))
    async with SQLiteStore.open(tmp_path) as store:
        await store.append(Stamped(0.0, Approved(METRIC)))
        for number in range(30):
            async with create_task_group() as group:
                scope = CancelScope()

                async def cancelled(number: int, scope: CancelScope) -> None:
                    with scope:
                        await store.append(Stamped(float(number), event))
                        await store.record(replace(TRIAL, number=number))

                group.start_soon(cancelled, number, scope)
                for _ in range(number):
                    await lowlevel.checkpoint()
                scope.cancel()
            await store.append(Stamped(-1.0, TimePassed()))  # the next writer finds it free
        recorded = [str(trial.number) for trial in await store.earlier_trials()]
        assert [row[6] for row in tsv(tmp_path)[1:]] == recorded
        events = [stamped.at for stamped in await store.events() if isinstance(stamped.event, Proposed)]
        assert {float(number) for number in recorded} <= set(events)
    assert query(tmp_path, "SELECT count(*) FROM spent") == [(len(events),)]
    assert 0 < len(events) < 30, "some calls were begun and some were not"


async def test_a_row_that_cannot_be_stored_leaves_the_store_usable(tmp_path: Path) -> None:
    async with SQLiteStore.open(tmp_path) as store:
        with pytest.raises(OverflowError):
            await store.record(replace(TRIAL, n=2**70))
        assert query(tmp_path, "SELECT count(*) FROM texts") == [(0,)]
        await store.record(TRIAL)
        assert await store.earlier_trials() == [TRIAL]


async def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer autoresearch"):
        async with SQLiteStore.open(tmp_path):
            pass


async def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "run.db").write_bytes(b"hello, I am a text file, not a database at all" * 20)
    with pytest.raises(StoreError, match="not a run's database"):
        async with SQLiteStore.open(tmp_path):
            pass


async def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        async with SQLiteStore.open(tmp_path / "file" / "nov22"):
            pass


async def test_a_locked_database_is_said_to_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoresearch.store._BUSY_SECONDS", 0.05)
    async with SQLiteStore.open(tmp_path) as store:
        with closing(sqlite3.connect(tmp_path / "run.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="another program keeps it locked"):
                await store.append(Stamped(1.0, TimePassed()))
        await store.append(Stamped(2.0, TimePassed()))
        assert [stamped.at for stamped in await store.events()] == [2.0]


@pytest.mark.parametrize(
    ("name", "words"),
    [("SQLITE_FULL", "make room"), ("SQLITE_READONLY_DBMOVED", "permissions"), ("SQLITE_CORRUPT_VTAB", "damaged")],
)
def test_errors_say_what_to_do(name: str, words: str) -> None:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorname = name
    assert words in str(schema.store_error(error, Path("run.db")))


FILLING = """
import resource, sys
from pathlib import Path
import anyio
from autoresearch.errors import StoreError
from autoresearch.events import Stamped, StopAsked, TimePassed
from autoresearch.store import SQLiteStore

async def main():
    async with SQLiteStore.open(Path(sys.argv[1])) as store:
        await store.append(Stamped(1.0, TimePassed()))
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        for number in range(1000):
            try:
                await store.append(Stamped(2.0, StopAsked("x" * 900)))
            except StoreError as error:
                print(number, error, flush=True)
                break
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await store.append(Stamped(3.0, TimePassed()))

anyio.run(main)
"""


async def test_a_write_that_the_disk_refuses_leaves_nothing_half_done(tmp_path: Path) -> None:
    child = await run_process([sys.executable, "-c", FILLING, str(tmp_path)])
    stored, message = child.stdout.decode().split(" ", 1)
    assert "disk" in message
    async with SQLiteStore.open(tmp_path) as store:
        assert [stamped.at for stamped in await store.events()] == [1.0, *[2.0] * int(stored), 3.0]


def test_a_run_is_locked_by_one_process(tmp_path: Path) -> None:
    holds = "import sys; from pathlib import Path; from autoresearch.store import RunLock\n"
    holds += "with RunLock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holds, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match=rf"already running \(pid {child.pid}\)"), RunLock(tmp_path):
            pass
        child.kill()
        child.wait()
        with RunLock(tmp_path):
            assert (tmp_path / "run.lock").read_text() == str(os.getpid())
    with RunLock(tmp_path):
        pass


WRITING = """
import sys
from itertools import count
from pathlib import Path
import anyio
from autoresearch.events import Proposed, Stamped
from autoresearch.store import SQLiteStore
from autoresearch.trial import Change, Edit, Outcome, Proposal, Reason, Reply, Trial

async def main():
    async with SQLiteStore.open(Path(sys.argv[1])) as store:
        for number in count(int(sys.argv[2])):
            change = Change("idea", (Edit("a", content=str(number) * 800),))
            proposal = Proposal(change, Reply("r" * 1200, ("p", str(number))))
            await store.append(Stamped(float(number), Proposed(number, proposal)))
            print("event", number, flush=True)
            await store.record(Trial(number, Outcome.DISCARD, Reason.WORSE, "idea", edits=change.edits))
            print("trial", number, flush=True)

anyio.run(main)
"""


async def test_no_acknowledged_row_is_lost_when_killed(tmp_path: Path) -> None:
    chance = random.Random(0)
    async with SQLiteStore.open(tmp_path) as store:
        await store.append(Stamped(0.0, Approved(METRIC)))
    start = 0
    for _ in range(6):
        acknowledged = kill_after(tmp_path, start, chance.randrange(1, 40))
        async with SQLiteStore.open(tmp_path) as store:
            events = [stamped.event.trial for stamped in await store.events() if isinstance(stamped.event, Proposed)]
            trials = await store.earlier_trials()
            assert [row[6] for row in tsv(tmp_path)[1:]] == [str(trial.number) for trial in trials]
        assert len(set(events)) == len(events)
        assert {number for kind, number in acknowledged if kind == "event"} <= set(events)
        assert {number for kind, number in acknowledged if kind == "trial"} <= {trial.number for trial in trials}
        assert all(trial.edits[0].content == str(trial.number) * 800 for trial in trials)
        start = max(events) + 1


def kill_after(run_dir: Path, start: int, lines: int) -> list[tuple[str, int]]:
    """Kill the writer after so many acknowledgements; all that it made until then."""
    command = [sys.executable, "-c", WRITING, str(run_dir), str(start)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        text = "".join(child.stdout.readline() for _ in range(lines))
        child.kill()
        text += child.stdout.read()
    pairs = [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]
    assert len(pairs) >= lines
    return [(kind, int(number)) for kind, number in pairs]
