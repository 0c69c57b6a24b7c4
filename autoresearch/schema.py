"""The run's database: its tables, and how events and trials become rows and come back.

events   seq, at, kind, trial, payload: what happened, in order; the run's state is their fold. `at` is seconds since
         the epoch, `kind` a class of `autoresearch.events`, `trial` the trial that it is about, `payload` JSON.
spent    event, input, cached, written, output, cost_usd, seconds: tokens and dollars of the events that cost something.
trials   one row per ended trial, `seq` the order in which they ended: the fields of `autoresearch.trial.Trial`, its
         usage in six columns, `extra` and `edits` as JSON, `tail` the hash of a text.
facts    name, value: what is known of the run as a whole, JSON; a later value replaces the earlier one.
texts    hash, body: long texts, each stored once; the body is UTF-8 with surrogatepass, compressed by zlib.

In JSON, `{"#": hash}` stands for a long text and `{"@": hash}` for a part of a prompt, the hash in hex.
`PRAGMA user_version` counts the migrations that a database has had.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoresearch.errors import StoreError
from autoresearch.events import Deferred, Event, Proposed, ProposingFailed, Stamped, event_from_row, to_row
from autoresearch.trial import Edit, Operator, Outcome, Reason, Trial, Usage

DATABASE = "run.db"
LOCK = "run.lock"

MIGRATIONS = (
    """
    CREATE TABLE texts (
        hash BLOB PRIMARY KEY,
        body BLOB NOT NULL
    ) STRICT;
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        trial INTEGER,
        payload TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_by_kind ON events (kind);
    CREATE INDEX events_by_trial ON events (trial, kind) WHERE trial IS NOT NULL;
    CREATE TABLE spent (
        event INTEGER PRIMARY KEY REFERENCES events (seq),
        input INTEGER NOT NULL,
        cached INTEGER NOT NULL,
        written INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cost_usd REAL NOT NULL,
        seconds REAL NOT NULL
    ) STRICT;
    CREATE TABLE trials (
        seq INTEGER PRIMARY KEY,
        number INTEGER NOT NULL UNIQUE,
        outcome TEXT NOT NULL,
        reason TEXT NOT NULL,
        parent INTEGER,
        operator TEXT,
        "commit" TEXT,
        tree TEXT,
        value REAL,
        delta REAL,
        n INTEGER NOT NULL,
        stdev REAL,
        added INTEGER NOT NULL,
        removed INTEGER NOT NULL,
        seconds REAL NOT NULL,
        input INTEGER NOT NULL,
        cached INTEGER NOT NULL,
        written INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cost_usd REAL NOT NULL,
        proposal_seconds REAL NOT NULL,
        model TEXT NOT NULL,
        worker INTEGER,
        memory_gb REAL,
        implausible INTEGER NOT NULL,
        ended_at REAL NOT NULL,
        hypothesis TEXT NOT NULL,
        note TEXT NOT NULL,
        extra TEXT NOT NULL,
        tail BLOB REFERENCES texts (hash),
        edits TEXT NOT NULL
    ) STRICT;
    CREATE INDEX trials_by_outcome ON trials (outcome, reason, n, stdev);
    """,
    """
    CREATE TABLE facts (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;
    """,
)
"""Each is run once, in its own transaction; never changed after a release, only added to."""

LONG_TEXT = 1000
"""Characters from which a text is stored apart."""

_TEXT = re.compile(r'\{"#": "([0-9a-f]{32})"\}')
_TEXT_OR_PROMPT = re.compile(r'\{"[#@]": "([0-9a-f]{32})"\}')

Texts = Mapping[bytes, str]


@dataclass(frozen=True, slots=True)
class Packed:
    """JSON whose long texts are taken out, and the texts by hash, ready to store."""

    json: str
    texts: Mapping[bytes, bytes] = field(default_factory=dict)
    """Encoded, not compressed yet."""


def pack_event(event: Event) -> Packed:
    """The event's payload; all parts of a prompt are stored apart, because the next prompt repeats them."""
    row, texts = to_row(event), dict[bytes, bytes]()
    if row.get("reply"):
        row["reply"]["prompt"] = [{"@": _take_out(part, texts).hex()} for part in row["reply"]["prompt"]]
    return Packed(json.dumps(_shorten(row, texts)), texts)


def unpack_event(kind: str, payload: str, texts: Texts, prompts: bool = False) -> Event:
    """The event that `pack_event` took; `texts` holds what `references` named. Without `prompts` replies have none.

    Raises:
        StoreError: an event that this version does not know, or a text that is missing.
    """
    try:
        row = _unpack(payload, texts)
        if row.get("reply") and not prompts:
            row["reply"]["prompt"] = ()
        return event_from_row(kind, row)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"an event {kind} of the run cannot be read ({error}): use the version of autoresearch that wrote it"
        ) from error


def stamp_all(rows: Iterable[tuple[float, str, str]], texts: Texts) -> list[Stamped]:
    """Events of rows (at, kind, payload), without prompts."""
    return [Stamped(at, unpack_event(kind, payload, texts)) for at, kind, payload in rows]


def references(payloads: Iterable[str], prompts: bool = False) -> set[bytes]:
    """Hashes of the texts that stored JSON needs."""
    pattern = _TEXT_OR_PROMPT if prompts else _TEXT
    return {bytes.fromhex(match) for payload in payloads for match in pattern.findall(payload)}


def usage_of(event: Event) -> Usage | None:
    """What an event cost; None where it cost nothing."""
    match event:
        case Proposed():
            return event.proposal.reply.usage
        case ProposingFailed() if event.reply:
            return event.reply.usage
        case Deferred() if event.cost_usd:
            return Usage(cost_usd=event.cost_usd)
    return None


def usage_row(usage: Usage) -> tuple[int, int, int, int, float, float]:
    return usage.input, usage.cached, usage.written, usage.output, usage.cost_usd, usage.seconds


TRIAL_COLUMNS = (
    "number",
    "outcome",
    "reason",
    "parent",
    "operator",
    "commit",
    "tree",
    "value",
    "delta",
    "n",
    "stdev",
    "added",
    "removed",
    "seconds",
    "input",
    "cached",
    "written",
    "output",
    "cost_usd",
    "proposal_seconds",
    "model",
    "worker",
    "memory_gb",
    "implausible",
    "ended_at",
    "hypothesis",
    "note",
    "extra",
    "tail",
    "edits",
)
SELECT_TRIALS = "SELECT {} FROM trials".format(", ".join(f'"{name}"' for name in TRIAL_COLUMNS))
INSERT_TRIAL = 'INSERT OR IGNORE INTO trials ("{}") VALUES ({})'.format(
    '", "'.join(TRIAL_COLUMNS), ", ".join("?" * len(TRIAL_COLUMNS))
)


def pack_trial(trial: Trial) -> tuple[tuple[Any, ...], Mapping[bytes, bytes]]:
    """Values for INSERT_TRIAL and the texts that go before it."""
    texts = dict[bytes, bytes]()
    edits = json.dumps(_shorten([edit.to_row() for edit in trial.edits], texts))
    tail = _take_out(trial.tail, texts) if trial.tail else None
    values = (
        *(trial.number, str(trial.outcome), str(trial.reason), trial.parent, trial.operator and str(trial.operator)),
        *(trial.commit, trial.tree, trial.value, trial.delta, trial.n, trial.stdev, trial.added, trial.removed),
        *(trial.seconds, *usage_row(trial.usage), _storable(trial.model), trial.worker, trial.memory_gb),
        *(int(trial.implausible), trial.ended_at, _storable(trial.hypothesis), _storable(trial.note)),
        *(json.dumps(dict(trial.extra)), tail, edits),
    )
    return values, texts


def unpack_trial(row: tuple[Any, ...], texts: Texts | None = None) -> Trial:
    """The trial of a row of SELECT_TRIALS; without `texts` its edits and its tail are left out."""
    fields = dict(zip(TRIAL_COLUMNS, row, strict=True))
    tail, edits = fields.pop("tail"), fields.pop("edits")
    usage = Usage(
        *(fields.pop(name) for name in ("input", "cached", "written", "output", "cost_usd", "proposal_seconds"))
    )
    if texts is not None:
        fields["edits"] = tuple(Edit.from_row(edit) for edit in _unpack(edits, texts))
        fields["tail"] = texts.get(tail, "") if tail else ""
    fields |= {
        "outcome": Outcome(fields["outcome"]),
        "reason": Reason(fields["reason"]),
        "operator": Operator(fields["operator"]) if fields["operator"] else None,
        "extra": json.loads(fields["extra"]),
        "implausible": bool(fields["implausible"]),
    }
    return Trial(usage=usage, **fields)


def trial_references(rows: Iterable[tuple[Any, ...]], tails: bool = True) -> set[bytes]:
    """Hashes of the texts that rows of SELECT_TRIALS need."""
    rows = list(rows)
    found = references(row[-1] for row in rows)
    return found | {row[-2] for row in rows if row[-2]} if tails else found


def compress(texts: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Rows of the table texts."""
    return [(digest, zlib.compress(body)) for digest, body in texts.items()]


def decompress(body: bytes) -> str:
    """The text of a row of the table texts.

    Raises:
        StoreError: it is damaged.
    """
    try:
        return zlib.decompress(body).decode("utf-8", "surrogatepass")
    except (zlib.error, UnicodeDecodeError) as error:
        raise StoreError(f"{DATABASE}: {_ADVICE['SQLITE_CORRUPT']}") from error


def text_queries(hashes: set[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Queries for (hash, body) of texts, in portions that SQLite takes."""
    wanted = sorted(hashes)
    for start in range(0, len(wanted), 500):
        portion = wanted[start : start + 500]
        yield f"SELECT hash, body FROM texts WHERE hash IN ({', '.join('?' * len(portion))})", portion


def newer_than_known(version: int, path: Path) -> StoreError:
    return StoreError(
        f"{path} was written by a newer autoresearch (schema {version}, this one knows {len(MIGRATIONS)}): upgrade it"
    )


def store_error(error: sqlite3.Error | OSError, path: Path) -> StoreError:
    """The error in words, with what to do about it."""
    if isinstance(error, sqlite3.Error):
        name = getattr(error, "sqlite_errorname", "")
        matches = [advice for code, advice in _ADVICE.items() if name.startswith(code)]
        return StoreError(f"{path}: {matches[0] if matches else error}")
    return StoreError(f"{path}: {error.strerror or error}: make room or correct its permissions, then go on")


_ADVICE = {
    "SQLITE_FULL": "the disk is full: make room, then go on",
    "SQLITE_READONLY": "cannot be written: correct the permissions of the file and of its folder, then go on",
    "SQLITE_PERM": "cannot be written: correct the permissions of the file and of its folder, then go on",
    "SQLITE_CANTOPEN": "cannot be opened: see that the folder exists and may be written",
    "SQLITE_BUSY": "another program keeps it locked: close what has it open, then go on",
    "SQLITE_LOCKED": "another program keeps it locked: close what has it open, then go on",
    "SQLITE_CORRUPT": "it is damaged: put back a copy, or save what can be read with `sqlite3 run.db .recover`",
    "SQLITE_NOTADB": "this is not a run's database: put back a copy, or move the folder away and start anew",
    "SQLITE_IOERR": "the disk does not read or write: see that it has room and is whole, then go on",
}


def _shorten(value: Any, texts: dict[bytes, bytes]) -> Any:
    """Replace long texts inside plain JSON values."""
    if isinstance(value, str):
        return {"#": _take_out(value, texts).hex()} if len(value) >= LONG_TEXT else value
    if isinstance(value, Mapping):
        return {key: _shorten(item, texts) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shorten(item, texts) for item in value]
    return value


def _take_out(text: str, texts: dict[bytes, bytes]) -> bytes:
    body = text.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(body, digest_size=16).digest()
    texts[digest] = body
    return digest


def _unpack(payload: str, texts: Texts) -> Any:
    if '{"#": "' not in payload and '{"@": "' not in payload:
        return json.loads(payload)

    def put_back(item: dict[str, Any]) -> Any:
        if len(item) == 1:
            key, value = next(iter(item.items()))
            if key == "#" and isinstance(value, str):
                return texts[bytes.fromhex(value)]
            if key == "@":
                return texts.get(bytes.fromhex(value), "")
        return item

    return json.loads(payload, object_hook=put_back)


def _storable(text: str) -> str:
    """SQLite's texts are UTF-8: a lone surrogate is written as its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
