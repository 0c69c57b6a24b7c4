"""The terminal, or whatever stands in its place: writing that never stops a run, and one question."""

from __future__ import annotations

import errno
import os
import sys
import termios
from typing import TextIO

import anyio

_READ_BYTES = 4096


class Output:
    """A text stream whose reader may leave, and whose encoding may know less than our texts.

    A stream that cannot be written to, as when the terminal is gone, is given up in silence: a run goes on without it.
    Whoever flushes the stream itself at the end of the process still learns of the error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._lost = False
        self.encoding = self._stream.encoding or "utf-8"

    def write(self, text: str) -> int:
        if not self._lost:
            printable = text.encode(self.encoding, "replace").decode(self.encoding)
            try:
                self._stream.write(printable)
            except (OSError, ValueError):  # ValueError: it is closed
                self._lost = True
        return len(text)

    def flush(self) -> None:
        if not self._lost:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._lost = True

    def line(self, text: str) -> None:
        """Write a line at once."""
        self.write(f"{text}\n")
        self.flush()

    def isatty(self) -> bool:
        return not self._lost and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def columns(self) -> int:
        """Its width; 80 where it has none."""
        try:
            return os.get_terminal_size(self.fileno()).columns or 80
        except (OSError, ValueError):
            return 80


def can_answer(source: TextIO | None = None) -> bool:
    """Whether somebody sits at a terminal that can be read."""
    stream = sys.stdin if source is None else source
    return stream is not None and not stream.closed and stream.isatty()


async def ask(question: str, output: Output, source: TextIO | None = None) -> str | None:
    """One line from the terminal, stripped; None where there is none, or at its end.

    What was typed before the question is thrown away: it was no answer to it. Cancelling stops waiting at once; no
    thread is left behind that would hold the process.
    """
    if not can_answer(source):
        return None
    descriptor = (sys.stdin if source is None else source).fileno()
    termios.tcflush(descriptor, termios.TCIFLUSH)
    output.write(question.rstrip() + " ")
    output.flush()
    try:
        line = await _line(descriptor)
    except anyio.get_cancelled_exc_class():
        output.line("")
        raise
    if line is None:
        output.line("")
        return None
    return line.decode("utf-8", "replace").strip()


async def _line(descriptor: int) -> bytes | None:
    """Bytes up to a line break; None where the input ends before it."""
    line = b""
    while not line.endswith(b"\n"):
        await anyio.wait_readable(descriptor)
        try:
            read = os.read(descriptor, _READ_BYTES)
        except OSError as error:
            if error.errno != errno.EIO:  # the terminal is gone
                raise
            read = b""
        if not read:
            return None
        line += read
    return line
