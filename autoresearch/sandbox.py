"""What a measured command may use up, and how its process tree dies.

Every command runs under a process of its own, `supervisor.py`, that outlives neither the command nor the coordinator
and kills every process that the command left. What confines a command further goes in front of it (`wrap`), so that
the supervisor stays in charge of its end.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from autoresearch import supervisor
from autoresearch.errors import SlotLost

GRACE_SECONDS = 3.0
LIMIT_BYTES = 64 << 20
_BEYOND_SECONDS = 2 * supervisor.SWEEP_SECONDS
"""How much longer than the command may take the supervisor may, before it counts as stuck."""
_START = "import sys; sys.path.append(sys.argv[1]); import supervisor; supervisor.main()"
"""Imported, not run as a script: its bytecode is cached, which saves a third of the start."""
_LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Execution:
    """How one command ended. All its processes are dead."""

    exit_code: int
    """Negative: the signal that killed it."""
    timed_out: bool
    wall_seconds: float
    """Of the command itself, the sweep left out."""
    cpu_seconds: float
    """User and system time of the whole tree, as far as its processes were waited for."""
    peak_bytes: int
    """Largest resident memory of the tree, as sampled; at least that of its largest process."""
    survivors: int = 0
    """Processes that could not be killed within seconds, as in uninterruptible sleep; 0 otherwise."""


async def execute(
    command: str | Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout_seconds: float,
    stdout: Path,
    stderr: Path,
    grace_seconds: float = GRACE_SECONDS,
    limit_bytes: int = LIMIT_BYTES,
    stdin: bytes = b"",
    cpus: Sequence[int] = (),
    wrap: Sequence[str] = (),
    record: Path | None = None,
    descend: bool = True,
) -> Execution:
    """Run a command to its end, and kill whatever it leaves behind.

    A string is a shell command, words are run as they are. `stdout` and `stderr` are written anew, each to at most
    `limit_bytes`: the head and the end of a flood. At the timeout its group gets SIGTERM, after `grace_seconds`
    everything is killed; so it is when this call is cancelled, which takes no longer. `wrap` stands before the
    command's words. `record` names a file that identifies the supervisor while it lives, for `end_recorded`.
    Without `descend` only the process group is killed, as where the system has no subreapers.

    Raises:
        SlotLost: it could not be started, or its output not be stored: no folder, no space, no processes left.
    """
    spec = {
        "argv": [*wrap, *(shell(command, env) if isinstance(command, str) else command)],
        "cwd": os.fspath(cwd),
        "env": dict(env),
        "timeout_seconds": timeout_seconds,
        "grace_seconds": grace_seconds,
        "stdout": os.fspath(stdout),
        "stderr": os.fspath(stderr),
        "limit_bytes": limit_bytes,
        "stdin": stdin,
        "cpus": tuple(cpus),
        "descend": descend,
    }
    link = _Link(record)
    try:
        with anyio.move_on_after(timeout_seconds + grace_seconds + _BEYOND_SECONDS):
            await link.send(spec)
            await link.receive()
    finally:
        with anyio.CancelScope(shield=True):
            await link.close(grace_seconds + _BEYOND_SECONDS)
    return link.execution()


def shell(command: str, env: Mapping[str, str]) -> list[str]:
    """The words that run a shell command: by bash where there is one on the command's PATH."""
    return [shutil.which("bash", path=env.get("PATH", os.defpath)) or "sh", "-c", command]


class _Link:
    """The coordinator's end of one supervisor."""

    def __init__(self, record: Path | None) -> None:
        self._record = record
        self._told = False
        self._said = b""
        self._socket, far = socket.socketpair()
        self._socket.setblocking(False)
        environment = {name: os.environ[name] for name in _LIBRARY_PATHS if name in os.environ}
        words = [sys.executable, "-I", "-S", "-c", _START, os.path.dirname(supervisor.__file__)]
        try:
            # In this thread, the event loop's: the death signal follows the thread that started a process.
            self._process = subprocess.Popen(
                words,
                stdin=far.fileno(),
                stdout=far.fileno(),
                stderr=far.fileno(),
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            self._socket.close()
            raise SlotLost(f"no process could be started: {error}") from error
        finally:
            far.close()

    async def send(self, spec: dict[str, Any]) -> None:
        """Say what to run. The record is written first: nothing runs unrecorded."""
        try:
            self._write_record()
        except OSError as error:
            raise SlotLost(f"{self._record}: {error.strerror}") from error
        data = marshal.dumps(spec)
        view = memoryview(len(data).to_bytes(8, "big") + data)
        while view:
            await anyio.wait_writable(self._socket)
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                continue
            except ConnectionError:
                return  # it is gone; what it said last tells why
        self._told = True

    async def receive(self) -> None:
        """Take in what the supervisor says until it ends."""
        while True:
            await anyio.wait_readable(self._socket)
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                continue
            except ConnectionError:
                return
            if not data:
                return
            self._said += data

    async def close(self, seconds: float) -> None:
        """End the command if it still runs, politely first; the supervisor too where it is stuck."""
        if not self._reported():
            with anyio.move_on_after(seconds):
                with contextlib.suppress(OSError):  # it is gone already
                    if self._told:
                        self._socket.send(supervisor.STOP)
                    else:
                        self._socket.shutdown(socket.SHUT_WR)
                await self.receive()
        self._socket.close()
        if not self._reported():
            _kill_tree(self._process.pid)
            if group := self._group():
                supervisor.send(-group, 9)
        self._process.wait()
        if self._record is not None:
            self._record.unlink(missing_ok=True)

    def execution(self) -> Execution:
        """What the supervisor reported.

        Raises:
            SlotLost: it could not run the command.
        """
        lines = self._said.decode(errors="replace").splitlines()
        words = lines[-1].split() if lines else []
        match words:
            case ["done", code, timed_out, wall, cpu, peak, survivors]:
                return Execution(int(code), timed_out == "1", float(wall), float(cpu), int(peak), int(survivors))
            case ["error", *why]:
                raise SlotLost(" ".join(why))
            case ["main", _]:
                # Killed from outside, most often for want of memory; the command died with it.
                return Execution(-9, False, 0.0, 0.0, 0)
        raise SlotLost(f"the supervising process could not start: {lines[-1] if lines else 'it said nothing'}")

    def _reported(self) -> bool:
        last = self._said.rpartition(b"\n")[0].rpartition(b"\n")[2]
        return last.startswith((b"done ", b"error "))

    def _group(self) -> int | None:
        first = self._said.partition(b"\n")[0].split()
        return int(first[1]) if len(first) == 2 and first[0] == b"main" else None

    def _write_record(self) -> None:
        if self._record is not None:
            self._record.write_text(f"{self._process.pid} {_identity(self._process.pid)}\n")


def end_recorded(record: Path) -> bool:
    """Kill the tree that an earlier coordinator recorded and left, and remove the record.

    Only where process id, start time and boot agree: the number may be someone else's by now. True if it was alive.
    """
    try:
        pid, _, identity = record.read_text().strip().partition(" ")
    except OSError:
        return False
    alive = pid.isdigit() and bool(identity) and _identity(int(pid)) == identity
    if alive:
        _kill_tree(int(pid))
    record.unlink(missing_ok=True)
    return alive


def used_seconds() -> float:
    """CPU time that this process and all below it have used so far, those that ended included; 0 without /proc."""
    ticks = 0
    for pid in (os.getpid(), *supervisor.descendants(os.getpid())):
        with contextlib.suppress(OSError):  # it ended while we looked
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            # utime, stime, cutime, cstime: proc(5)
            ticks += sum(map(int, words[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _kill_tree(root: int) -> None:
    for _ in range(100):  # a chain of forks may outrun one round, not many
        if not supervisor.kill_descendants(root):
            break
    supervisor.send(root, 9)


def _identity(pid: int) -> str:
    """Start time and boot of a process; empty where the system does not tell."""
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{started} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except (OSError, IndexError):
        return ""
