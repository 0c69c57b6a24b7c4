from __future__ import annotations

import io
import json
import os
import pty
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TextIO

import anyio
import anyio.lowlevel
import pytest

from autoresearch.events import SlotReady, StopAsked, TimePassed
from autoresearch.plan import Plan
from autoresearch.protocols import Console
from autoresearch.views.console import JsonConsole, LiveConsole, PlainConsole
from autoresearch.views.terminal import Output
from tests.test_lines import SNAPSHOT, WORSE

pytestmark = pytest.mark.anyio
PLAN = Plan((("Objective", "minimize val_bpb"),), ("look at this",))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Terminal:
    """A pseudo-terminal: a program holds one end of it, the test types at the other."""

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.stream = open(theirs, encoding="utf-8")  # noqa: SIM115 - closed with the fixture

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def close(self) -> None:
        self.stream.close()
        os.close(self._ours)


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    with closing(Terminal()) as made:
        monkeypatch.setattr(sys, "stdin", made.stream)
        yield made


class Paper(io.StringIO):
    """Output that tells when something was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = anyio.Event()

    def write(self, text: str) -> int:
        self.written.set()
        return super().write(text)


async def answer(keyboard: Terminal, keys: bytes) -> str | None:
    """What a console hears where `keys` are typed once the question stands."""
    paper, heard = Paper(), []
    console = PlainConsole(stdout=paper)

    async def ask() -> None:
        heard.append(await console.ask("Start? [Y/n]"))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await paper.written.wait()
            keyboard.type(keys)
    assert paper.getvalue().startswith("Start? [Y/n] ")
    return heard[0]


@pytest.mark.parametrize(("keys", "heard"), [(b" yes \n", "yes"), (b"\n", ""), (b"\x04", None), (b"5.50\r", "5.50")])
async def test_an_answer_from_the_terminal(keyboard: Terminal, keys: bytes, heard: str | None) -> None:
    assert await answer(keyboard, keys) == heard


async def test_what_was_typed_before_the_question_is_no_answer(keyboard: Terminal) -> None:
    keyboard.type(b"y\n")
    assert await answer(keyboard, b"n\n") == "n"


async def test_a_question_can_be_cancelled(keyboard: Terminal) -> None:
    paper = Paper()
    console = PlainConsole(stdout=paper)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(console.ask, "Start?")
            await paper.written.wait()
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert paper.getvalue() == "Start? \n"
    assert await answer(keyboard, b"y\n") == "y"


@pytest.fixture
def pipe() -> Iterator[TextIO]:
    """Input that holds an answer, and is no terminal."""
    read, write = os.pipe()
    with open(read) as source, open(write, "w") as sink:
        sink.write("y\n")
        sink.flush()
        yield source


async def test_nobody_to_ask(pipe: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (pipe, None):
        monkeypatch.setattr(sys, "stdin", stream)
        for console in (PlainConsole(), LiveConsole(), JsonConsole()):
            assert await console.ask("Start?") is None


async def test_lines_of_the_run_wait_for_the_answer(keyboard: Terminal) -> None:
    paper = Paper()
    console = PlainConsole(stdout=paper)
    listener = console.listener()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(console.ask, "Start?")
            await paper.written.wait()
            console.say("said meanwhile")
            listener.notify(0.0, SlotReady(0, ""), (), lambda: SNAPSHOT)
            assert paper.getvalue() == "Start? "
            keyboard.type(b"y\n")
    said, told = paper.getvalue().removeprefix("Start? ").splitlines()  # the terminal itself shows the Enter
    assert said == "said meanwhile" and told.endswith("slot 0 ready")


def shown(console: Console, paper: io.StringIO) -> str:
    """What a whole run prints, times of day cut off."""
    console.show(PLAN)
    console.say("one\x1b line")
    listener = console.listener()
    listener.notify(0.0, SlotReady(0, "GPU 0"), (), lambda: SNAPSHOT)
    listener.notify(1.0, TimePassed(), (WORSE,), lambda: SNAPSHOT)
    console.summary("=== Summary ===\n")
    console.close()
    return "\n".join(line[10:] if line[2:3] == ":" else line for line in paper.getvalue().splitlines())


def test_plain_lines() -> None:
    paper = io.StringIO()
    assert (
        shown(PlainConsole(stdout=paper), paper)
        == """
  Objective  minimize val_bpb

! look at this

one\ufffd line
slot 0 ready: GPU 0
trial 4 discarded (worse) 1.005, gain -0.012: switch to GeLU

=== Summary ==="""
    )


def test_a_file_is_no_place_for_the_live_view() -> None:
    plain, live = io.StringIO(), io.StringIO()
    assert shown(LiveConsole(stdout=live), live) == shown(PlainConsole(stdout=plain), plain)


def test_quiet_is_the_summary_alone() -> None:
    paper = io.StringIO()
    assert shown(PlainConsole(quiet=True, stdout=paper), paper) == "=== Summary ==="


async def test_a_question_shows_the_plan_even_where_quiet(keyboard: Terminal) -> None:
    paper = Paper()
    console = PlainConsole(quiet=True, stdout=paper)
    console.show(PLAN)
    assert not paper.getvalue()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(console.ask, "Start?")
            await paper.written.wait()
            await anyio.lowlevel.checkpoint()
            keyboard.type(b"y\n")
    assert "minimize val_bpb" in paper.getvalue()


async def test_json_lines(keyboard: Terminal) -> None:
    paper, errors = io.StringIO(), Paper()
    console = JsonConsole(stdout=paper, stderr=errors)
    shown(console, paper)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(console.ask, "Start?")
            await errors.written.wait()
            keyboard.type(b"y\n")
    rows = [json.loads(line) for line in paper.getvalue().splitlines()]
    assert [row["event"] for row in rows] == ["plan", "message", "slot", "trial_ended", "summary"]
    assert rows[0]["rows"] == [{"label": "Objective", "text": "minimize val_bpb"}]
    assert rows[0]["notes"] == ["look at this"]
    assert all(row["v"] == 1 and isinstance(row["at"], float) for row in rows)


def broken() -> TextIO:
    """A stream whose reader has left."""
    read, write = os.pipe()
    os.close(read)
    return open(write, "w", buffering=1)


def test_a_reader_that_leaves_does_not_stop_the_run() -> None:
    stream = broken()
    for console in (PlainConsole(stdout=stream), JsonConsole(stdout=stream)):
        listener = console.listener()
        listener.notify(0.0, StopAsked("SIGHUP"), (), lambda: SNAPSHOT)
        listener.notify(1.0, TimePassed(), (WORSE,), lambda: SNAPSHOT)
        console.close()
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_a_narrow_encoding_does_not_stop_the_run() -> None:
    kept = io.BytesIO()
    with io.TextIOWrapper(kept, encoding="ascii") as stream:
        Output(stream).line("網 ok")
        assert kept.getvalue() == b"? ok\n"
