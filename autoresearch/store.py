"""The run's memory: SQLite, written by one coordinator, and results.tsv, which is derived from it.

The tables are described in `autoresearch.schema`. The database runs in WAL mode with synchronous=FULL: when a call
returns, its row survives a crash of the process and of the machine. results.tsv is appended to while the run goes on
and rebuilt whole when the store is opened and closed.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiosqlite
from anyio import CancelScope, Lock, to_thread

from autoresearch import results, schema
from autoresearch.errors import StoreError, UsageError
from autoresearch.events import Approved, Stamped, kind_of
from autoresearch.trial import Trial

_BUSY_SECONDS = 10.0


class RunLock:
    """Held by the process that runs a run: a flock, so that it ends with the process, however that ends.

    A context manager, entered once.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / schema.LOCK
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            UsageError: another process holds it.
            StoreError: the lock file cannot be made.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise schema.store_error(error, self._path) from error
        if not _lock(descriptor):
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise UsageError(f"already running (pid {holder or 'unknown'})")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> bool:
    """Whether the lock could be taken. Whoever asks for its holder holds it for an instant, so ask a few times."""
    for _ in range(10):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return True
    return False


class SQLiteStore:
    """Implements `protocols.Store` over aiosqlite; needs asyncio.

    Law. Calls may be made concurrently and are carried out in the order in which they were made. A call that is
    cancelled while it waits for its turn has not happened; once begun, it happens whole.
    """

    def __init__(self, connection: aiosqlite.Connection, run_dir: Path) -> None:
        """Use `open` instead."""
        self._connection = connection
        self._run_dir = run_dir
        self._turn = Lock()
        self._metric: str | None = None
        """The metric's name; None until the plan is agreed to, and results.tsv is not written before."""
        self._stored = set[bytes]()
        """Hashes of texts that this process has stored, so that a shared prompt is compressed once."""

    @classmethod
    @asynccontextmanager
    async def open(cls, run_dir: Path) -> AsyncIterator[Self]:
        """The store of a run; makes folder and database where there are none. Hold the run's lock meanwhile.

        Raises:
            StoreError: it cannot be read or written, or a newer version wrote it.
        """
        store = cls(await _connect(run_dir / schema.DATABASE), run_dir)
        try:
            await store._read_metric()
            await store._rebuild_results()
            yield store
        finally:
            with CancelScope(shield=True):
                try:
                    async with store._turn:
                        await store._rebuild_results()
                finally:
                    await store._connection.close()

    async def append(self, stamped: Stamped) -> None:
        """Store an event, in the order of the calls.

        Raises:
            StoreError: it cannot be written; nothing of it is stored.
        """
        event = stamped.event
        packed, usage = schema.pack_event(event), schema.usage_of(event)
        values = (stamped.at, kind_of(event), getattr(event, "trial", None), packed.json)
        statements: list[tuple[str, Iterable[Any]]] = [
            ("INSERT INTO events (at, kind, trial, payload) VALUES (?, ?, ?, ?)", values)
        ]
        if usage is not None:
            spent = "INSERT INTO spent VALUES (last_insert_rowid(), ?, ?, ?, ?, ?, ?)"
            statements.append((spent, schema.usage_row(usage)))
        async with self._turn:
            with CancelScope(shield=True):
                await self._write(packed.texts, statements)
                if isinstance(event, Approved):
                    self._metric = event.metric.name
                    await self._rebuild_results()

    async def record(self, trial: Trial) -> None:
        """Store an ended trial as a row and append it to results.tsv. Recording it again changes nothing.

        Raises:
            StoreError: the row cannot be written; or it is stored and results.tsv cannot be, which opening mends.
        """
        values, texts = schema.pack_trial(trial)
        async with self._turn:
            with CancelScope(shield=True):
                fresh = await self._write(texts, [(schema.INSERT_TRIAL, values)])
                if fresh and self._metric is not None and not await to_thread.run_sync(self._append_result, trial):
                    await self._rebuild_results()

    async def note(self, name: str, value: Mapping[str, Any]) -> None:
        """Store a fact about the run, in place of the earlier one of that name.

        Raises:
            StoreError: it cannot be written; the earlier one stays.
        """
        values = (name, json.dumps(value))
        async with self._turn:
            with CancelScope(shield=True):
                await self._write({}, [("INSERT OR REPLACE INTO facts VALUES (?, ?)", values)])

    async def events(self) -> list[Stamped]:
        """All events in order. Their replies come without prompts, which only `show` needs.

        Raises:
            StoreError: they cannot be read.
        """
        rows = await self._fetch("SELECT at, kind, payload FROM events ORDER BY seq")
        texts = await self._texts(schema.references(row[2] for row in rows))
        return await to_thread.run_sync(schema.stamp_all, rows, texts)

    async def earlier_trials(self) -> list[Trial]:
        """All recorded trials, whole, in the order in which they ended.

        Raises:
            StoreError: they cannot be read.
        """
        rows = await self._fetch(f"{schema.SELECT_TRIALS} ORDER BY seq")
        texts = await self._texts(schema.trial_references(rows))
        return [schema.unpack_trial(row, texts) for row in rows]

    async def facts(self) -> dict[str, Any]:
        """All facts by name.

        Raises:
            StoreError: they cannot be read.
        """
        rows = await self._fetch("SELECT name, value FROM facts ORDER BY name")
        return {name: json.loads(value) for name, value in rows}

    async def _write(self, texts: Mapping[bytes, bytes], statements: Iterable[tuple[str, Iterable[Any]]]) -> bool:
        """Carry out one transaction; whether its last statement stored a row."""
        fresh = {digest: body for digest, body in texts.items() if digest not in self._stored}
        bodies = await to_thread.run_sync(schema.compress, fresh) if fresh else ()
        try:
            await self._connection.execute("BEGIN IMMEDIATE")
            await self._connection.executemany("INSERT OR IGNORE INTO texts VALUES (?, ?)", bodies)
            for sql, parameters in statements:
                cursor = await self._connection.execute(sql, parameters)
            await self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._error(error) from error
        finally:
            if self._connection.in_transaction:
                await self._connection.rollback()
        self._stored.update(fresh)
        return cursor.rowcount > 0

    async def _fetch(self, sql: str, parameters: Iterable[Any] = ()) -> list[Any]:
        try:
            with CancelScope(shield=True):
                rows = list(await self._connection.execute_fetchall(sql, parameters))
        except sqlite3.Error as error:
            raise self._error(error) from error
        return rows

    async def _texts(self, hashes: set[bytes]) -> dict[bytes, str]:
        rows = [row for query in schema.text_queries(hashes) for row in await self._fetch(*query)]
        return {digest: schema.decompress(body) for digest, body in rows}

    async def _read_metric(self) -> None:
        rows = await self._fetch(
            "SELECT at, kind, payload FROM events WHERE kind = 'Approved' ORDER BY seq DESC LIMIT 1"
        )
        if rows:
            (approved,) = schema.stamp_all(rows, {})
            assert isinstance(approved.event, Approved)
            self._metric = approved.event.metric.name

    def _append_result(self, trial: Trial) -> bool:
        """Append a line to results.tsv; False where there is none to append to."""
        line = results.lines([results.row(trial)]).encode()
        try:
            with open(self._results, "r+b", buffering=0) as file:
                file.seek(0, os.SEEK_END)
                return file.write(line) == len(line)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise schema.store_error(error, self._results) from error

    async def _rebuild_results(self) -> None:
        """Write results.tsv whole, from the database; readers see the old file or the new one."""
        if self._metric is None:
            return
        rows = await self._fetch(f"{schema.SELECT_TRIALS} ORDER BY seq")
        await to_thread.run_sync(_replace, self._results, self._metric, rows)

    @property
    def _results(self) -> Path:
        return self._run_dir / results.FILE

    def _error(self, error: sqlite3.Error) -> StoreError:
        return schema.store_error(error, self._run_dir / schema.DATABASE)


def _replace(path: Path, metric: str, rows: list[Any]) -> None:
    table = [results.header(metric), *(results.row(schema.unpack_trial(row)) for row in rows)]
    temporary = path.with_suffix(".tsv.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(results.lines(table).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise schema.store_error(error, path) from error


async def _connect(path: Path) -> aiosqlite.Connection:
    """Open the database, bring it to this version's schema."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise schema.store_error(error, path.parent) from error
    with CancelScope(shield=True):
        try:
            connection = await aiosqlite.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
        except sqlite3.Error as error:
            raise schema.store_error(error, path) from error
        try:
            await _prepare(connection, path)
        except BaseException:
            await connection.close()
            raise
    return connection


async def _prepare(connection: aiosqlite.Connection, path: Path) -> None:
    try:
        ((version,),) = await connection.execute_fetchall("PRAGMA user_version")
        if version > len(schema.MIGRATIONS):
            raise schema.newer_than_known(version, path)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            await connection.execute_fetchall(f"PRAGMA {pragma}")
        for number, script in enumerate(schema.MIGRATIONS[version:], version + 1):
            await connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
    except sqlite3.Error as error:
        raise schema.store_error(error, path) from error
