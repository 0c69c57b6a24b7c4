"""Events go to JSON and back; rows of an older version, which lack later fields, are read with their defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.events import Approved, Event, Measured, Proposed, ProposingFailed, event_from_row, kind_of, to_row
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.trial import Change, Edit, Measurement, Proposal, Purpose, Reason, Reply, Usage

KINDS: tuple[type, ...] = get_args(Event)
TEXTS = st.text(max_size=10)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers() | NUMBERS | TEXTS, max_size=3)
EDITS = st.builds(Edit, TEXTS.filter(bool), content=TEXTS)
CHANGES = st.builds(Change, TEXTS, st.lists(EDITS, max_size=2).map(tuple))

METRIC = Metric("loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "loss"))
REPLIES = st.builds(Reply, TEXTS, st.lists(TEXTS, max_size=2).map(tuple), TEXTS, st.builds(Usage, cost_usd=NUMBERS))
KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "config": JSON,
    "facts": JSON,
    "metric": st.just(METRIC),
    "proposal": st.builds(Proposal, CHANGES, REPLIES, st.none() | st.integers(0)),
    "reply": st.none() | REPLIES,
    "measurement": st.builds(
        Measurement,
        st.none() | NUMBERS,
        failure=st.none() | st.sampled_from(Reason),
        exit_code=st.none() | st.integers(-64, 255),
        extra=st.dictionaries(TEXTS, NUMBERS, max_size=2),
        tail=TEXTS,
    ),
}
KNOWN["measured"] = st.lists(
    st.builds(Measured, st.integers(0), st.integers(0), st.sampled_from(Purpose), TEXTS, KNOWN["measurement"]),
    max_size=2,
).map(tuple)
BY_TYPE: dict[Any, st.SearchStrategy[Any]] = {"float": NUMBERS, "float | None": st.none() | NUMBERS}


def events_of(kind: type) -> st.SearchStrategy[Event]:
    """Any event of a kind, every field drawn."""
    drawn: dict[str, Any] = {field.name: KNOWN.get(field.name, BY_TYPE.get(field.type, ...)) for field in fields(kind)}
    return st.builds(kind, **drawn)


def stored(row: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(row, allow_nan=False))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_every_event_comes_back_from_its_row(kind: type, data: st.DataObject) -> None:
    event = data.draw(events_of(kind))
    assert event_from_row(kind_of(event), stored(to_row(event))) == event


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_a_row_that_lacks_a_later_field_is_read_with_its_default(kind: type, data: st.DataObject) -> None:
    event = data.draw(events_of(kind))
    row = stored(to_row(event))
    for field in fields(kind):
        if field.default is not MISSING or field.default_factory is not MISSING:
            default = field.default if field.default is not MISSING else field.default_factory()  # type: ignore[misc]
            shorter = {name: value for name, value in row.items() if name != field.name}
            assert getattr(event_from_row(kind_of(event), shorter), field.name) == default


def test_a_proposal_of_an_older_version_has_no_parent() -> None:
    event = Proposed(3, Proposal(Change("h", ()), Reply("text", ("a", "b"), "m", Usage(1)), parent=2))
    row = stored(to_row(event))
    del row["parent"]
    read = event_from_row("Proposed", row)
    assert isinstance(read, Proposed)
    assert read.proposal.parent is None


def test_what_a_failed_proposal_said_is_kept() -> None:
    event = ProposingFailed(1, "refused", Reply("no", ("shared", "own"), "m", Usage(cost_usd=0.5)))
    assert event_from_row("ProposingFailed", stored(to_row(event))) == event


def test_a_kind_of_a_newer_version_is_named() -> None:
    with pytest.raises(KeyError, match="Teleported"):
        event_from_row("Teleported", {})


def test_a_row_holds_nothing_but_plain_values() -> None:
    assert stored(to_row(Approved(METRIC))) == stored(asdict(Approved(METRIC)))
