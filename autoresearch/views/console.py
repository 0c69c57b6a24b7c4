"""Where the person sits: a terminal with the live view, plain lines, or JSON lines for a program."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from autoresearch import plain
from autoresearch.events import Event
from autoresearch.plan import Plan
from autoresearch.protocols import Listener
from autoresearch.snapshot import Snapshot
from autoresearch.trial import Trial
from autoresearch.views import lines, planning, terminal
from autoresearch.views.lines import Notice, Teller
from autoresearch.views.live import LiveView
from autoresearch.views.terminal import Output

_WIDEST_PLAN = 100


class PlainConsole:
    """One line for each thing that matters. Quiet: the summary alone, and a plan that a question asks about."""

    def __init__(self, quiet: bool = False, verbose: bool = False, *, stdout: TextIO | None = None) -> None:
        self._quiet, self._verbose = quiet, verbose
        self._output = Output(stdout)
        self._plan = ""
        """Not shown yet."""
        self._held: list[str] | None = None
        """Lines that came while a question stands."""

    def show(self, plan: Plan) -> None:
        self._plan = planning.render(plan, min(self._output.columns, _WIDEST_PLAN))
        if not self._quiet:
            self._show_plan()

    def can_ask(self) -> bool:
        return terminal.can_answer()

    async def ask(self, question: str) -> str | None:
        """See `terminal.ask`. Lines of the run wait until it is answered."""
        if not terminal.can_answer():
            return None
        self._show_plan()
        self._held = []
        try:
            return await terminal.ask(question, self._output)
        finally:
            held, self._held = self._held, None
            for line in held:
                self._line(line)

    def say(self, line: str) -> None:
        if not self._quiet:
            self._line(plain.lines(line))

    def listener(self) -> Listener:
        return _Telling(self._tell)

    def summary(self, text: str) -> None:
        self._output.write(text if self._quiet else f"\n{text}")
        self._output.flush()

    def close(self) -> None:
        """Nothing to give back."""

    def _show_plan(self) -> None:
        if self._plan:
            self._output.line(f"\n{self._plan}")
            self._plan = ""

    def _tell(self, at: float, notice: Notice) -> None:
        if not self._quiet and (self._verbose or not notice.verbose):
            self._line(lines.stamped(at, notice.text))

    def _line(self, text: str) -> None:
        if self._held is not None:
            self._held.append(text)
        else:
            self._output.line(text)


class LiveConsole(PlainConsole):
    """Plain lines until the plan is agreed to, then a view of the whole terminal until the run ends.

    The view stands on the terminal's other screen: what was printed before it, and the summary after it, stay.
    Whatever is said takes the view down first; `close` does in any case. A terminal that cannot hold it gets lines.
    """

    def __init__(self, verbose: bool = False, *, stdout: TextIO | None = None) -> None:
        super().__init__(verbose=verbose, stdout=stdout)
        self._view = LiveView(self._output, verbose)

    def show(self, plan: Plan) -> None:
        self._view.stop()
        super().show(plan)

    async def ask(self, question: str) -> str | None:
        self._view.stop()
        return await super().ask(question)

    def say(self, line: str) -> None:
        self._view.stop()
        super().say(line)

    def listener(self) -> Listener:
        telling = super().listener()
        return _Watching(self._view, telling) if self._view.possible else telling

    def summary(self, text: str) -> None:
        self._view.stop()
        super().summary(text)

    def close(self) -> None:
        """Give the terminal back as it was."""
        self._view.stop()


class JsonConsole:
    """One JSON object per line on stdout, as `lines` documents; a question goes to stderr."""

    def __init__(self, *, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self._output = Output(stdout)
        self._stderr = stderr

    def show(self, plan: Plan) -> None:
        self._write("plan", lines.plan_fields(plan))

    def can_ask(self) -> bool:
        return terminal.can_answer()

    async def ask(self, question: str) -> str | None:
        return await terminal.ask(question, Output(self._stderr or sys.stderr))

    def say(self, line: str) -> None:
        self._write("message", {"text": line})

    def listener(self) -> Listener:
        return _Telling(self._tell)

    def summary(self, text: str) -> None:
        self._write("summary", {"text": text})

    def close(self) -> None:
        """Nothing to give back."""

    def _tell(self, at: float, notice: Notice) -> None:
        if notice.event:
            self._output.line(lines.json_line(at, notice.event, notice.fields))

    def _write(self, event: str, fields: Mapping[str, Any]) -> None:
        self._output.line(lines.json_line(time.time(), event, fields))


class _Telling:
    """A listener that passes on what is worth a line."""

    def __init__(self, tell: Callable[[float, Notice], None]) -> None:
        self._teller = Teller()
        self._tell = tell

    def notify(self, at: float, event: Event, ended: Sequence[Trial], snapshot: Callable[[], Snapshot]) -> None:
        for notice in self._teller.tell(at, event, ended, snapshot):
            self._tell(at, notice)


class _Watching:
    """A listener that says lines until the run is agreed to, and from then on keeps the view up to date."""

    def __init__(self, view: LiveView, before: Listener) -> None:
        self._view = view
        self._before = before
        self._agreed = False

    def notify(self, at: float, event: Event, ended: Sequence[Trial], snapshot: Callable[[], Snapshot]) -> None:
        if not self._agreed:
            self._before.notify(at, event, ended, snapshot)
            self._agreed = snapshot().approved
        if self._agreed:
            self._view.look(at, snapshot)
