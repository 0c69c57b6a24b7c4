"""One slot of this machine: a worktree, its device and its folders, and the stages of a measurement in it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from anyio.to_thread import run_sync

from autoresearch import metric, sandbox
from autoresearch.errors import RepositoryError, SlotLost, UsageError
from autoresearch.measurers import carry, environment, foreign
from autoresearch.measurers.gpu import GpuMemory
from autoresearch.measurers.output import end_of, readable, tail_of, written_since
from autoresearch.measurers.redirects import redirected_files
from autoresearch.measurers.trees import Built, Trees, Worktrees
from autoresearch.protocols import Device, Request
from autoresearch.sandbox import Execution
from autoresearch.trial import Measurement, Reason

SETUP_SECONDS = 1800.0
TEARDOWN_SECONDS = 60.0
STDOUT_BYTES = 64 << 10
"""How much of stdout a measurement carries."""
READ_BYTES = 1 << 20
"""How much of an output's end the metric is read from."""
LOG_BYTES = 256 << 10
"""How much of each output of one execution goes to the trial's log."""
TAIL_CHARS = 8 << 10
MIN_FREE_BYTES = 32 << 20
"""With less left on the disk, a failure is the machine's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """What all slots of a run share."""

    tag: str
    plan: carry.CarryPlan
    logs: Path
    state: Path
    """For each slot's temporary folder, caches and outputs. A short path: sockets are made below it."""
    prefix: str = ""
    """The folder in which the run was started, relative to the repository's root; commands run there."""
    setup: str | None = None
    teardown: str | None = None
    keep: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    """Variables that the user named by `--env`."""
    outer: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


class LocalSlot:
    """One worktree, its device and its folders."""

    def __init__(self, number: int, device: Device, worktree: Path, repository: Worktrees, place: Workplace) -> None:
        self._number = number
        self._device = device
        self._worktree = worktree
        self._trees = Trees(repository, worktree)
        self._place = place
        self._folder = place.state / f"slot-{number}"

    @property
    def number(self) -> int:
        return self._number

    @property
    def device(self) -> Device:
        return self._device

    async def prepare(self) -> None:
        """Carry into the worktree what it needs, and run the setup; a reset keeps what these made.

        Raises:
            UsageError: the setup, or what rebuilds a carried environment, failed.
        """
        for folder in (self._folder / "caches", self._place.logs):
            folder.mkdir(parents=True, exist_ok=True)
        await carry.carry_into(self._place.plan, self._worktree, partial(self._outside, "carrying", SETUP_SECONDS))
        if self._place.setup:
            await self._outside("setup", SETUP_SECONDS, self._place.setup, self._start_folder())
        await self._trees.prepared((*self._place.plan.keep, *self._place.keep))

    async def close(self) -> None:
        """Run the teardown and empty the temporary folder.

        Raises:
            UsageError: the teardown failed.
        """
        try:
            if self._place.teardown:
                await self._outside("teardown", TEARDOWN_SECONDS, self._place.teardown, self._start_folder())
        finally:
            await run_sync(_remove, self._folder / "tmp")

    async def measure(self, commit: str, request: Request) -> Measurement:
        """Reset, build, check, measure: see `protocols.Slot`."""
        began = time.perf_counter()
        try:
            built = await self._trees.ready(commit, request.build)
            await run_sync(_empty, self._folder / "tmp")
            measurement = await self._stages(commit, request, built)
            # Asked of our own folder: the candidate may have removed its worktree.
            failed = measurement.failure is not None or measurement.exit_code != 0
            full = failed and shutil.disk_usage(self._folder).free < MIN_FREE_BYTES
        except (RepositoryError, OSError) as error:
            raise SlotLost(f"slot {self.number}: {error}") from error
        if full:
            raise SlotLost(f"slot {self.number}: the disk that holds {self._folder} is full")
        return replace(measurement, seconds_total=time.perf_counter() - began)

    async def _stages(self, commit: str, request: Request, built: Built | None) -> Measurement:
        env, log = self._environment(request), f"{request.trial}.log"
        if built:
            said = f"build, commit {commit[:10]}\n--- kept from before, built in {built.seconds:.3f} s\n\n"
            await run_sync(self._write, log, said)
        stages = [("build", request.build, Reason.BUILD_FAILED)] if request.build and not built else []
        stages += [("check", check, Reason.CHECKS_FAILED) for check in request.checks]
        checked = 0.0
        for name, command, failure in stages:
            execution = await self._inside(command, env, request.timeout_seconds)
            checked += execution.wall_seconds if failure is Reason.CHECKS_FAILED else 0.0
            await run_sync(self._log, log, f"{name}, commit {commit[:10]}", command, execution, ())
            if execution.timed_out or execution.exit_code != 0:
                tail = f"{name} {_how(execution, request.timeout_seconds)}: {command}\n{self._tail(())}"
                return replace(_facts(execution, failure, tail), check_seconds=checked)
            if failure is Reason.BUILD_FAILED:
                await self._trees.keep(execution.wall_seconds)
                await run_sync(_empty, self._folder / "tmp")  # so it is where the build was kept
        moment = time.time()
        memory = GpuMemory(self.device.gpus)
        before = await run_sync(foreign.account)
        async with memory.watched():
            execution = await self._inside(request.command, env, request.timeout_seconds)
        after = await run_sync(foreign.account)
        measurement = await run_sync(self._read, commit, request, execution, moment)
        others = foreign.beside(self.device, before, after, execution.cpu_seconds)
        return replace(measurement, gpu_peak_bytes=memory.peak_bytes, foreign_cpus=others, check_seconds=checked)

    def _environment(self, request: Request) -> dict[str, str]:
        return environment.measurement_env(
            self._place.outer,
            tag=self._place.tag,
            slot=self.number,
            device=self.device,
            worktree=self._worktree,
            tmp=self._folder / "tmp",
            caches=self._folder / "caches",
            port=environment.free_port_base(self.number),
            request=request,
            passed=self._place.passed,
            pythonpath=self._place.plan.pythonpath,
            checkout=self._place.plan.root,
        )

    async def _inside(self, command: str, env: Mapping[str, str], timeout_seconds: float) -> Execution:
        """Run a command of the candidate, in the sandbox."""
        execution = await self._execute(command, self._start_folder(), env, timeout_seconds, self.device.cpus)
        if execution.survivors:
            raise SlotLost(f"slot {self.number}: {execution.survivors} processes could not be killed")
        return execution

    async def _outside(self, name: str, timeout_seconds: float, command: str, cwd: Path) -> None:
        """Run a command of the user, with the user's own environment.

        Raises:
            UsageError: it failed; with the end of its output.
        """
        env = environment.setup_env(
            self._place.outer,
            worktree=self._worktree,
            slot=self.number,
            tag=self._place.tag,
            checkout=self._place.plan.root,
        )
        execution = await self._execute(command, cwd, env, timeout_seconds)
        await run_sync(self._log, "setup.log", name, command, execution, ())
        if execution.timed_out or execution.exit_code != 0:
            last = "\n".join(self._tail(()).splitlines()[-8:])
            raise UsageError(f"{name} {_how(execution, timeout_seconds)}: {command}\n{last}".rstrip())

    def _execute(
        self, command: str, cwd: Path, env: Mapping[str, str], timeout_seconds: float, cpus: Sequence[int] = ()
    ) -> Awaitable[Execution]:
        cwd.mkdir(parents=True, exist_ok=True)  # a candidate may have removed the folder that the run starts in
        return sandbox.execute(
            command,
            cwd=cwd,
            env=env,
            timeout_seconds=timeout_seconds,
            stdout=self._folder / "stdout",
            stderr=self._folder / "stderr",
            cpus=cpus,
            record=self._folder / "running",
        )

    def _start_folder(self) -> Path:
        return self._worktree / self._place.prefix

    def _read(self, commit: str, request: Request, execution: Execution, moment: float) -> Measurement:
        """What the measure command's outputs say. Reads files: for a worker thread."""
        names = redirected_files(request.command)
        files = written_since(self._worktree, self._start_folder(), names, moment)
        self._log(f"{request.trial}.log", f"measure, commit {commit[:10]}", request.command, execution, files)
        stdout = end_of(self._folder / "stdout", READ_BYTES)
        extra: dict[str, float] = {}
        for path in files:
            extra |= metric.secondary(end_of(path, READ_BYTES), request.metric)
        extra |= metric.secondary(stdout, request.metric)
        failure = Reason.TIMEOUT if execution.timed_out else Reason.SIGNAL if execution.exit_code < 0 else None
        measurement = replace(_facts(execution, failure, self._tail(files)), extra=extra, stdout=stdout)
        if request.metric is not None and failure is None:
            measurement = metric.settle(measurement, request.metric)
        return replace(measurement, stdout=measurement.stdout[-STDOUT_BYTES:])

    def _tail(self, files: Sequence[Path]) -> str:
        outputs = [(os.path.relpath(path, self._worktree), path) for path in files]
        outputs += [(name, self._folder / name) for name in ("stderr", "stdout")]
        return tail_of([(name, end_of(path, 2 * TAIL_CHARS)) for name, path in outputs], TAIL_CHARS)

    def _log(self, name: str, title: str, command: str | None, execution: Execution, files: Sequence[Path]) -> None:
        """Append one execution to a log."""
        parts = [f"{title}\n$ {command}\n"]
        for path in (self._folder / "stdout", self._folder / "stderr", *files):
            if text := readable(end_of(path, LOG_BYTES)).strip("\n"):
                parts.append(f"--- {path.name}\n{text}\n")
        parts.append(
            f"--- exit {execution.exit_code}{', timed out' if execution.timed_out else ''}, "
            f"{execution.wall_seconds:.3f} s wall, {execution.cpu_seconds:.3f} s CPU, "
            f"{execution.peak_bytes / 1e6:.1f} MB\n\n"
        )
        self._write(name, "".join(parts))

    def _write(self, name: str, text: str) -> None:
        """Append to a log, at once: several slots may write to one."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        with open(self._place.logs / name, "ab") as log:
            log.write(f"=== {moment} slot {self.number}, {text}".encode(errors="replace"))


def _facts(execution: Execution, failure: Reason | None, tail: str) -> Measurement:
    return Measurement(
        None,
        failure=failure,
        exit_code=None if execution.timed_out else execution.exit_code,
        wall_seconds=execution.wall_seconds,
        cpu_seconds=execution.cpu_seconds,
        peak_bytes=execution.peak_bytes,
        tail=tail,
    )


def _how(execution: Execution, timeout_seconds: float) -> str:
    if execution.timed_out:
        return f"did not end within {timeout_seconds:g} s"
    if execution.exit_code < 0:
        return f"was killed by signal {-execution.exit_code}"
    return f"failed (exit {execution.exit_code})"


def _empty(folder: Path) -> None:
    _remove(folder)
    folder.mkdir(mode=0o700, parents=True)


def _remove(folder: Path) -> None:
    """Remove a folder and all below it, folders that were made read-only included."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        for path, _, _ in os.walk(folder):
            os.chmod(path, 0o700)
        shutil.rmtree(folder)
