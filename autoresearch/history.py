"""A run's database read from outside: for `status`, `log`, `show` and the like, also while the run writes.

Plain sqlite3, read-only, nothing is created beside the database. Each function opens it, asks for what it needs and
closes it. All raise StoreError where the database cannot be read.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from autoresearch import schema
from autoresearch.errors import StoreError, UsageError
from autoresearch.events import Measured, Proposed, ProposingFailed
from autoresearch.metric import Metric
from autoresearch.record import RunInfo, RunRecord, RunState
from autoresearch.trial import Outcome, Reason, Reply, Trial, Usage

FOLDER = ".autoresearch"
_PORTION = 500
_NOT_BEGUN = "the run has not begun: it was stopped before its first record; start it again under the same tag"


def lock_holder(run_dir: Path) -> int | None:
    """The process that runs a run now; None where none does, 0 where it has not said which it is."""
    try:
        descriptor = os.open(run_dir / schema.LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 20).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)
    return None


def runs(root: Path) -> list[RunInfo]:
    """The runs of the repository at `root`, the one that was begun or resumed first first.

    A start that was killed before its run was recorded is none. A database that cannot be read is listed by its age.
    """
    found = (_info(path.parent) for path in (root / FOLDER).glob(f"*/{schema.DATABASE}"))
    return sorted((info for info in found if info), key=lambda info: (info.began_at, info.tag))


def resolve_tag(root: Path, tag: str | None) -> Path:
    """The folder of the run called `tag`; without one, of the latest.

    Raises:
        UsageError: there is no such run.
    """
    known = runs(root)
    if not known:
        raise UsageError(f'there is no run in {root}: start one with `autoresearch "OBJECTIVE" "MEASURE" "SCOPE"`')
    if tag is None:
        return known[-1].run_dir
    for info in known:
        if info.tag == tag:
            return info.run_dir
    raise UsageError(f"there is no run called {tag}: the runs here are {', '.join(info.tag for info in known)}")


def read_run(run_dir: Path, now: float | None = None) -> RunRecord:
    """Where a run stands; `now` is the present in seconds since the epoch.

    Raises:
        UsageError: it has not begun.
    """
    pid = lock_holder(run_dir)
    with _reading(run_dir) as connection:
        spans = _Spans(connection, time.time() if now is None else now, pid is not None)
        outcomes, confirmed, spread = _counts(connection)
        baseline = _one(connection, "number = 0")
        return RunRecord(
            tag=run_dir.name,
            run_dir=run_dir,
            state=spans.state,
            pid=pid,
            stop_reason=spans.stop_reason,
            config=spans.config,
            metric=_metric(connection),
            baseline=baseline,
            best=_one(connection, "outcome = 'keep' ORDER BY seq DESC LIMIT 1"),
            outcomes=outcomes,
            deterministic=None if spread is None else spread == 0,
            confirmed=confirmed,
            top=_few(connection, "outcome = 'keep' AND number > 0", "delta IS NULL, delta DESC"),
            failed=_few(connection, "outcome != 'keep'", _NEAREST_FIRST),
            usage=_usage(connection),
            began_at=spans.began_at,
            ended_at=spans.ended_at,
            seconds=spans.seconds,
            slot_use=spans.slot_use,
            slots=spans.slots,
            facts=_known(connection),
            folder=spans.folder,
        )


def trials(run_dir: Path, status: Outcome | None = None, reason: Reason | None = None) -> Iterator[Trial]:
    """Ended trials in the order in which they ended, with their edits, without their tails.

    A portion at a time, so that a pipe that is closed early stops it early.
    """
    where, values = ["seq > ?"], list[Any]()
    if status is not None:
        where, values = [*where, "outcome = ?"], [*values, str(status)]
    if reason is not None:
        where, values = [*where, "reason = ?"], [*values, str(reason)]
    columns = schema.SELECT_TRIALS.replace("SELECT ", "SELECT seq, ", 1)
    query = f"{columns} WHERE {' AND '.join(where)} ORDER BY seq LIMIT {_PORTION}"
    seen = 0
    while True:
        with _reading(run_dir) as connection:
            rows = connection.execute(query, (seen, *values)).fetchall()
            texts = _texts(connection, schema.trial_references((row[1:] for row in rows), tails=False))
        for row in rows:
            yield schema.unpack_trial(row[1:], texts)
        if len(rows) < _PORTION:
            return
        seen = rows[-1][0]


def trial(run_dir: Path, number: int) -> Trial:
    """One ended trial, whole.

    Raises:
        UsageError: there is no such trial, or it has not ended.
    """
    with _reading(run_dir) as connection:
        rows = connection.execute(f"{schema.SELECT_TRIALS} WHERE number = ?", (number,)).fetchall()
        if rows:
            return schema.unpack_trial(rows[0], _texts(connection, schema.trial_references(rows)))
        (last,) = connection.execute("SELECT max(number) FROM trials").fetchone()
        (begun,) = connection.execute("SELECT count(*) FROM events WHERE trial = ?", (number,)).fetchone()
    if begun:
        raise UsageError(f"trial {number} has not ended yet")
    known = "none has ended yet" if last is None else f"trials go from 0 to {last}"
    raise UsageError(f"there is no trial {number} in the run {run_dir.name}: {known}")


def measurements(run_dir: Path, number: int) -> list[Measured]:
    """All measurements of a trial, in order."""
    return [event for event in _events(run_dir, number, "Measured") if isinstance(event, Measured)]


def prompt_and_reply(run_dir: Path, number: int) -> list[Reply]:
    """What the proposer was shown and said for a trial, prompts included; several where it was sent back."""
    found = list[Reply]()
    for event in _events(run_dir, number, "Proposed", "ProposingFailed"):
        if isinstance(event, Proposed):
            found.append(event.proposal.reply)
        elif isinstance(event, ProposingFailed) and event.reply:
            found.append(event.reply)
    return found


def facts(run_dir: Path) -> dict[str, Any]:
    """What is known of a run as a whole, by name."""
    with _reading(run_dir) as connection:
        return _known(connection)


class _Spans:
    """From when to when processes ran the run, and what they said at their ends."""

    def __init__(self, connection: sqlite3.Connection, now: float, alive: bool) -> None:
        kinds = "'Began', 'Resumed', 'StopAsked', 'Ended'"
        rows = connection.execute(f"SELECT seq, at, kind, payload FROM events WHERE kind IN ({kinds}) ORDER BY seq")
        marks = [(seq, at, kind, json.loads(payload)) for seq, at, kind, payload in rows]
        if not marks or marks[0][2] != "Began":
            raise UsageError(_NOT_BEGUN)
        last_at = connection.execute("SELECT at FROM events ORDER BY seq DESC LIMIT 1").fetchone()[0]
        starts = [mark for mark in marks if mark[2] in ("Began", "Resumed")]
        before = "SELECT at FROM events WHERE seq = ?"
        ends = [connection.execute(before, (mark[0] - 1,)).fetchone()[0] for mark in starts[1:]]
        _, _, kind, fields = marks[-1]
        self.state = _state(kind, alive)
        self.ended_at = None if self.state in (RunState.RUNNING, RunState.DRAINING) else last_at
        self.stop_reason = fields["why"] if kind == "Ended" else None
        self.config = starts[-1][3]["config"] | _replaced(connection, starts[-1][0])
        self.folder = starts[0][3].get("folder", "")
        self.began_at = starts[0][1]
        ends.append(now if self.ended_at is None else last_at)
        self.seconds = sum(max(0.0, end - start[1]) for start, end in zip(starts, ends, strict=True))
        facts = [fields.get("facts", {}) for _, _, kind, fields in marks if kind == "Ended"]
        # A process that ended before its first slot was ready says nothing about slots.
        self.slots = next((fact["slots"] for fact in reversed(facts) if fact.get("slots")), None)
        self.slot_use = _slot_use(facts)


def _replaced(connection: sqlite3.Connection, since: int) -> dict[str, str]:
    """The measure command that took the place of the configured one, if one did."""
    query = "SELECT payload FROM events WHERE kind = 'MeasureReplaced' AND seq > ? ORDER BY seq DESC LIMIT 1"
    row = connection.execute(query, (since,)).fetchone()
    return {"measure": json.loads(row[0])["command"]} if row else {}


def _state(last_mark: str, alive: bool) -> RunState:
    if last_mark == "Ended":
        return RunState.ENDED
    if not alive:
        return RunState.INTERRUPTED
    return RunState.DRAINING if last_mark == "StopAsked" else RunState.RUNNING


def _slot_use(facts: Iterable[dict[str, Any]]) -> float | None:
    """The mean over processes, by the slot time that each had."""
    known = [fact for fact in facts if fact.get("slot_use") is not None]
    weights = [fact.get("slots", 1) * fact.get("seconds", 1.0) for fact in known]
    if sum(weights) <= 0:
        return None
    return float(sum(fact["slot_use"] * weight for fact, weight in zip(known, weights, strict=True)) / sum(weights))


_NEAREST_FIRST = "outcome = 'crash', reason = 'duplicate', delta IS NULL, delta DESC"


def _counts(connection: sqlite3.Connection) -> tuple[dict[str, int], int, float | None]:
    """Trials by outcome, candidates that were measured more than once, and the largest spread of any."""
    outcomes = {str(outcome): 0 for outcome in Outcome}
    outcomes |= dict(connection.execute("SELECT outcome, count(*) FROM trials GROUP BY outcome"))
    repeated, spread = connection.execute("SELECT count(*), max(stdev) FROM trials WHERE n > 1").fetchone()
    ((begun, baseline_n),) = connection.execute("SELECT count(*), max(n) FROM trials WHERE number = 0").fetchall()
    if begun:
        outcomes["keep"] -= 1
    return outcomes, repeated - (begun and baseline_n > 1), spread


def _metric(connection: sqlite3.Connection) -> Metric | None:
    row = connection.execute("SELECT payload FROM events WHERE kind = 'Approved' ORDER BY seq DESC LIMIT 1").fetchone()
    return Metric.from_row(json.loads(row[0])["metric"]) if row else None


def _usage(connection: sqlite3.Connection) -> Usage:
    columns = "input", "cached", "written", "output", "cost_usd", "seconds"
    sums = ", ".join(f"coalesce(sum({column}), 0)" for column in columns)
    return Usage(*connection.execute(f"SELECT {sums} FROM spent").fetchone())


def _known(connection: sqlite3.Connection) -> dict[str, Any]:
    """What was noted of the run; nothing in a database of a version that had no such table."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    rows = connection.execute("SELECT name, value FROM facts ORDER BY name") if "facts" in tables else ()
    return {name: json.loads(value) for name, value in rows}


def _one(connection: sqlite3.Connection, where: str) -> Trial | None:
    row = connection.execute(f"{schema.SELECT_TRIALS} WHERE {where}").fetchone()
    return schema.unpack_trial(row) if row else None


def _few(connection: sqlite3.Connection, where: str, order: str) -> tuple[Trial, ...]:
    rows = connection.execute(f"{schema.SELECT_TRIALS} WHERE {where} ORDER BY {order}, seq LIMIT 5")
    return tuple(schema.unpack_trial(row) for row in rows)


def _events(run_dir: Path, number: int, *kinds: str) -> Iterator[Any]:
    with _reading(run_dir) as connection:
        query = (
            f"SELECT kind, payload FROM events WHERE trial = ? AND kind IN ({', '.join('?' * len(kinds))}) ORDER BY seq"
        )
        rows = connection.execute(query, (number, *kinds)).fetchall()
        texts = _texts(connection, schema.references((payload for _, payload in rows), prompts=True))
    return (schema.unpack_event(kind, payload, texts, prompts=True) for kind, payload in rows)


def _texts(connection: sqlite3.Connection, hashes: set[bytes]) -> dict[bytes, str]:
    rows = (row for query in schema.text_queries(hashes) for row in connection.execute(*query))
    return {digest: schema.decompress(body) for digest, body in rows}


def _info(run_dir: Path) -> RunInfo | None:
    try:
        with _reading(run_dir) as connection:
            (at,) = connection.execute("SELECT max(at) FROM events WHERE kind IN ('Approved', 'Resumed')").fetchone()
    except UsageError:
        return None
    except StoreError:
        at = (run_dir / schema.DATABASE).stat().st_mtime
    return None if at is None else RunInfo(run_dir.name, run_dir, at, lock_holder(run_dir))


@contextmanager
def _reading(run_dir: Path) -> Iterator[sqlite3.Connection]:
    """The database, read-only, as it was at one moment.

    Without a write-ahead log nobody has it open: `immutable` then reads the file alone, where `mode=ro` would leave a
    new log and its index behind.
    """
    path = run_dir / schema.DATABASE
    mode = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None)
        ) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(schema.MIGRATIONS):
                raise schema.newer_than_known(version, path)
            if version == 0 and not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise UsageError(_NOT_BEGUN)
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        raise schema.store_error(error, path) from error
