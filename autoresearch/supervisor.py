"""Runs one command, and leaves none of its processes behind: a small process of its own between us and the command.

Started by `sandbox` as `python -I -S` with one socket as stdin and stdout. It imports little: it is started for every
measurement. Over the socket come a length (8 bytes), a marshalled dict (see `sandbox.execute`) and later, at
will, `STOP`: ask the command to end, kill after the grace period. End of file means that the coordinator died: kill
at once. Back go the lines `main PID`, then `done EXIT TIMED_OUT WALL CPU PEAK SURVIVORS` or `error TEXT`.

On Linux it is a subreaper: what daemonizes becomes its child, so walking /proc from here finds every descendant,
whatever session or environment it gave itself. Elsewhere only the command's process group is reached.
"""

# ruff: noqa: SIM105  # contextlib, collections, enum and typing are slow to import, and this starts for every measurement
from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import ctypes
import fcntl
import marshal
import os
import resource
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STOP = b"T"
CHUNK_BYTES = 1 << 20
TAIL_BYTES = 4 << 20
"""How much of a flood's end is kept; it waits in memory."""
SAMPLE_SECONDS = 0.25
SWEEP_SECONDS = 5.0
"""How long the sweep goes on against processes that do not die, as in uninterruptible sleep."""
CUT = b"\n[... output left out ...]\n"
"""Stands where a flood was cut. Without digits: it must not be read as a metric."""

_SUBREAPER, _DEATH_SIGNAL = 36, 1


def descendants(root: int) -> list[int]:
    """All living descendants of a process, itself left out; empty where there is no /proc."""
    listed = os.path.exists(f"/proc/{root}/task/{root}/children")
    parents = {} if listed else _children_by_parent()
    found: list[int] = []
    pending = [root]
    while pending:
        pid = pending.pop()
        children = _children(pid) if listed else parents.get(pid, [])
        found += children
        pending += children
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    except OSError:
        pass  # it ended while we looked
    return found


def _children_by_parent() -> dict[int, list[int]]:
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit():
            try:
                parent = int(_read(f"/proc/{name}/stat").rpartition(b")")[2].split()[1])
            except OSError:
                continue  # it ended while we looked
            parents.setdefault(parent, []).append(int(name))
    return parents


def _read(path: str) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        return os.read(handle, 1 << 16)
    finally:
        os.close(handle)


def kill_descendants(root: int) -> int:
    """Kill every descendant of a process once: stop them all first, so that none forks away meanwhile.

    Returns how many there were, zombies among them. Call it until nobody is left.
    """
    stopped: set[int] = set()
    while new := set(descendants(root)) - stopped:
        for pid in new:
            send(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        send(pid, signal.SIGKILL)
    return len(stopped)


def send(pid: int, number: int) -> bool:
    """Send a signal to a process, or to a group where `pid` is negative; False where it is gone or not ours."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class Pump:
    """Moves what a pipe brings into a file: the head at once, the tail at the end, at most `limit_bytes` in all."""

    def __init__(self, path: str, limit_bytes: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self.file = os.open(path, flags, 0o600)
        self.source, self.target = os.pipe()
        os.set_blocking(self.source, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            try:
                fcntl.fcntl(self.source, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
            except OSError:
                pass  # over the user's quota of pipe memory: the usual size does
        self.tail_limit = min(limit_bytes // 2, TAIL_BYTES)
        self.head_left = limit_bytes - self.tail_limit
        self.tail = bytearray()
        self.cut = False

    def pump(self) -> bool:
        """Move what is there now; False at the pipe's end."""
        try:
            data = os.read(self.source, CHUNK_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        head = data[: self.head_left]
        self._write(head)
        self.head_left -= len(head)
        self.tail += data[len(head) :]
        if len(self.tail) > 2 * self.tail_limit:
            self._cut()
        return True

    def finish(self) -> None:
        """Move what is left in the pipe, without waiting for anyone who still holds it."""
        until = time.monotonic() + 1.0
        while select.select([self.source], [], [], 0)[0] and time.monotonic() < until:
            if not self.pump():
                break
        if len(self.tail) > self.tail_limit:
            self._cut()
        self._write((CUT if self.cut else b"") + self.tail)

    def _cut(self) -> None:
        del self.tail[: len(self.tail) - self.tail_limit]
        self.cut = True

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.file, view) :]


class Supervisor:
    """One command from start to sweep."""

    def __init__(self, spec: dict[str, Any], prctl: Any) -> None:
        self.spec = spec
        self.prctl = prctl
        """The system call; None where there is none."""
        self.main = 0
        self.end: tuple[int, float] | None = None
        """The command's wait status, and when it ended."""
        self.peak_bytes = 0
        self.stdin = b""
        self.pumps: dict[int, Pump] = {}
        self.poll = select.poll()
        self.wake = os.pipe()

    def run(self) -> str:
        """Run the command and kill what it leaves; the line to report.

        Raises:
            OSError: it could not start, or its output could not be stored.
        """
        os.chdir(self.spec["cwd"])
        out, err = (Pump(self.spec[name], self.spec["limit_bytes"]) for name in ("stdout", "stderr"))
        self.pumps = {pump.source: pump for pump in (out, err)}
        self._listen()
        began = time.monotonic()
        self._start(out.target, err.target)
        try:
            timed_out = self._watch(began)
        finally:
            survivors = self._sweep()
        status, ended = self.end or (signal.SIGKILL, time.monotonic())
        for pump in (out, err):
            pump.finish()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime
        peak = max(self.peak_bytes, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        code = os.waitstatus_to_exitcode(status)
        return f"done {code} {int(timed_out)} {ended - began!r} {cpu!r} {peak} {survivors}"

    def _listen(self) -> None:
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.set_blocking(self.wake[1], False)
        signal.set_wakeup_fd(self.wake[1], warn_on_full_buffer=False)
        for handle in (0, self.wake[0], *self.pumps):
            self.poll.register(handle, select.POLLIN)

    def _start(self, out: int, err: int) -> None:
        self.stdin = self.spec["stdin"]
        source, target = os.pipe() if self.stdin else (os.open(os.devnull, os.O_RDONLY), -1)
        self.main = os.fork()
        if self.main == 0:
            self._become(source, out, err)
        for handle in (source, out, err):
            os.close(handle)
        if self.stdin:
            os.set_blocking(target, False)
            self.poll.register(target, select.POLLOUT)
        report(f"main {self.main}")

    def _become(self, source: int, out: int, err: int) -> None:
        """In the child: become the command, or end."""
        code = 126
        try:
            os.setsid()
            for number, handle in enumerate((source, out, err)):
                os.dup2(handle, number)
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
            if self.prctl is not None:
                self.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
                _first_to_go()
            if self.spec["cpus"] and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, self.spec["cpus"])
            os.execvpe(self.spec["argv"][0], self.spec["argv"], self.spec["env"])
        except (OSError, ValueError) as error:
            code = 127 if isinstance(error, FileNotFoundError) else 126
            os.write(2, f"{self.spec['argv'][0]}: {getattr(error, 'strerror', error)}\n".encode(errors="replace"))
        finally:
            os._exit(code)

    def _watch(self, began: float) -> bool:
        """Until the command ends, the coordinator goes, or the grace period after the timeout has passed."""
        deadline, sample_at, interval = began + self.spec["timeout_seconds"], began + 0.03, 0.06
        timed_out = stopping = False
        order: bytes | None = b""
        while self.end is None and order is not None:
            now = time.monotonic()
            late = now >= deadline
            if late and stopping:
                break
            if late or (order and not stopping):
                stopping, timed_out = True, late
                deadline = now + self.spec["grace_seconds"]
                send(-self.main, signal.SIGTERM)
            if now >= sample_at:
                self._sample()
                cost = time.monotonic() - now
                sample_at = now + max(interval, 50 * cost)
                interval = min(2 * interval, SAMPLE_SECONDS)
            order = self._step(min(deadline, sample_at) - now)
        return timed_out

    def _step(self, seconds: float) -> bytes | None:
        """Wait for something to happen and see to it; orders of the coordinator, None where it is gone."""
        order: bytes | None = b""
        for handle, _ in self.poll.poll(max(0.0, seconds) * 1000 + 1):
            if handle == 0:
                order = _order()
            elif handle == self.wake[0]:
                if signal.SIGTERM in os.read(handle, 4096):
                    order = None
            elif handle in self.pumps:
                if not self.pumps[handle].pump():
                    self.poll.unregister(handle)
            else:
                self._feed(handle)
        self._reap()
        return order

    def _feed(self, handle: int) -> None:
        try:
            self.stdin = self.stdin[os.write(handle, self.stdin[: 1 << 16]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.stdin = b""
        if not self.stdin:
            self.poll.unregister(handle)
            os.close(handle)

    def _reap(self) -> bool:
        """Take in whoever ended; False where no child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.main:
                self.end = status, time.monotonic()

    def _sample(self) -> None:
        resident = 0
        for pid in descendants(os.getpid()) if self.prctl is not None else ():
            try:
                resident += int(_read(f"/proc/{pid}/statm").split()[1])
            except (OSError, IndexError):
                pass  # it ended while we looked
        self.peak_bytes = max(self.peak_bytes, resident * os.sysconf("SC_PAGE_SIZE"))

    def _sweep(self) -> int:
        """Kill whoever is left; how many could not be killed."""
        until = time.monotonic() + SWEEP_SECONDS
        while True:
            if self.prctl is not None:
                kill_descendants(os.getpid())
            else:
                send(-self.main, signal.SIGKILL)
            alone = not self._reap()
            if alone and (self.prctl is not None or not send(-self.main, 0)):
                return 0
            if time.monotonic() > until:
                return len(descendants(os.getpid())) or 1
            if select.select([self.wake[0]], [], [], 0.002)[0]:
                os.read(self.wake[0], 4096)


def _order() -> bytes | None:
    """What the coordinator says; None where it is gone."""
    try:
        return os.read(0, 64) or None
    except OSError:
        return None


def _first_to_go() -> None:
    """Where memory runs out, the kernel takes the measured command before the coordinator or this process."""
    try:
        handle = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(handle, b"500")
        os.close(handle)
    except OSError:
        pass


def report(line: str) -> None:
    """Tell the coordinator, if it still listens."""
    try:
        os.write(1, line.encode(errors="replace") + b"\n")
    except OSError:
        pass


def system_call() -> Any:
    """`prctl`, after becoming a subreaper that dies with its parent; None where the system has none."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl
    if prctl(_SUBREAPER, 1, 0, 0, 0) != 0:
        return None
    prctl(_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    return prctl


def receive() -> dict[str, Any] | None:
    """What to run; None where the coordinator went before it said so."""
    data = b""
    while len(data) < 8 or len(data) < 8 + int.from_bytes(data[:8], "big"):
        chunk = os.read(0, CHUNK_BYTES)
        if not chunk:
            return None
        data += chunk
    spec: dict[str, Any] = marshal.loads(data[8:])
    return spec


def main() -> None:
    """Run what the socket asks for."""
    prctl = system_call()
    spec = receive()
    if spec is not None:
        try:
            line = Supervisor(spec, prctl if spec["descend"] else None).run()
        except OSError as error:
            line = f"error {error}"
        report(line)
    os._exit(0)
