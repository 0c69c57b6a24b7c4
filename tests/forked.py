"""The program in processes of their own that start in milliseconds: forked from one that has imported it. Tests only.

But for its start, each is what a shell starts: a process with a number, signals, a working folder, an environment.
"""

from __future__ import annotations

import atexit
import gc
import marshal
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path

LATE = ("autoresearch.launch", "autoresearch.remeasure", "autoresearch.views.console", "anyio._backends._asyncio")
"""What the program imports when it comes to it; and `git`."""
WORD_BYTES = 8


class Forked:
    """One process: what the tests use of `subprocess.Popen`, which takes only children of its own."""

    def __init__(self, words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._files = _file(), _file()
        self._said: list[str] = []
        self._ends, theirs = os.pipe()
        with tempfile.TemporaryFile() as request:
            request.write(marshal.dumps((list(words), str(folder), dict(environment))))
            request.seek(0)
            socket.send_fds(_origin(), [b"."], [request.fileno(), *self._files, theirs])
        os.close(theirs)
        self.pid = self._read()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        if self.returncode is None and select.select([self._ends], [], [], 0)[0]:
            self.returncode = os.waitstatus_to_exitcode(self._read())
            os.close(self._ends)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it still runs after so many seconds.
        """
        if self.returncode is None:
            select.select([self._ends], [], [], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("autoresearch", timeout or 0.0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; stdout and stderr."""
        self.wait(timeout)
        for handle in self._files if not self._said else ():
            with open(handle) as file:
                file.seek(0)
                self._said.append(file.read())
        return self._said[0], self._said[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def _read(self) -> int:
        word = os.read(self._ends, WORD_BYTES)
        assert word, "the process that forks for the tests is gone"
        return int.from_bytes(word, "big")


def _file() -> int:
    """A handle of a file without a name."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


@cache
def _origin() -> socket.socket:
    """Where to ask for processes, one for each process that runs tests."""
    ours, theirs = socket.socketpair()
    with theirs:
        words = [sys.executable, "-m", "tests.forked", str(theirs.fileno())]
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], cwd=Path(__file__).parent.parent
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _fork_for_all(control: socket.socket) -> None:
    """Fork for each request; comes back in the forked process, ready to run the program, and at the end of requests."""
    for name in (*LATE, "git"):
        import_module(name)
    gc.freeze()
    while True:
        _, handles, *_ = socket.recv_fds(control, 1, 4)
        while _reaped():
            continue
        if not handles:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            return _become(*handles)
        for handle in handles:
            os.close(handle)


def _reaped() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _become(request: int, out: int, err: int, ends: int) -> None:
    """Fork once more: one process waits for the other, and tells its number and its end."""
    pid = os.fork()
    if pid:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.write(ends, pid.to_bytes(WORD_BYTES, "big"))
        os.write(ends, os.waitpid(pid, 0)[1].to_bytes(WORD_BYTES, "big"))
        os._exit(0)
    with open(request, "rb") as file:
        words, folder, environment = marshal.load(file)
    os.dup2(out, 1)
    os.dup2(err, 2)
    for handle in (out, err, ends):
        os.close(handle)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = words


if __name__ == "__main__":
    from autoresearch.cli import entry

    _fork_for_all(socket.socket(fileno=int(sys.argv[1])))
    entry()
