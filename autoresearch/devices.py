"""What this machine has: GPUs, cores, memory. How it is dealt to slots is in `dealing`."""

from __future__ import annotations

import contextlib
import csv
import importlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from autoresearch.dealing import AMD, Clocking, Dealt, Gpu, Machine, bound_by_memory, deal, find_gpu, is_amd

__all__ = ["Dealt", "Gpu", "Machine", "bound_by_memory", "deal", "detect", "is_amd", "usable_cpus"]

_PROGRAM_SECONDS = 10.0


def detect(
    environ: Mapping[str, str],
    *,
    nvml: Any = None,
    filesystem: Path = Path("/"),
    cpus: Sequence[int] | None = None,
) -> Machine:
    """Look at this machine; may take seconds, so call it in a thread. Never fails: what cannot be seen is not there.

    `nvml` stands in for the module pynvml, `filesystem` for the root of /sys and /proc, `cpus` for the CPUs that this
    process may run on.
    """
    gpus = _nvml_gpus(nvml or _import_nvml())
    if gpus is None:
        gpus = _nvidia_smi_gpus(environ) or _driver_gpus(filesystem)
    visible = _masked(gpus, environ.get("CUDA_VISIBLE_DEVICES")) or _amd_gpus(environ)
    usable = usable_cpus() if cpus is None else cpus
    return Machine(
        tuple(visible),
        _cores(filesystem, usable),
        _free_bytes(filesystem),
        len(usable),
        _clocking(filesystem, usable),
    )


def _import_nvml() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _nvml_gpus(nvml: Any) -> list[Gpu] | None:
    """What the driver's library says; None where it cannot be asked."""
    if nvml is None:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        return [_nvml_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()


def _nvml_gpu(nvml: Any, index: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    try:
        running = [process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(device)]
    except nvml.NVMLError:
        running = []
    return Gpu(
        index,
        _text(nvml.nvmlDeviceGetUUID(device)),
        _text(nvml.nvmlDeviceGetName(device)),
        int(memory.total),
        int(memory.used),
        tuple(f"pid {pid}{_process_name(pid)}" for pid in running),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _process_name(pid: int) -> str:
    try:
        return f" ({psutil.Process(pid).name()})"
    except (psutil.Error, ValueError):
        return ""


def _nvidia_smi_gpus(environ: Mapping[str, str]) -> list[Gpu]:
    program = shutil.which("nvidia-smi", path=environ.get("PATH"))
    if program is None:
        return []
    listed = _query(program, "--query-gpu=index,uuid,name,memory.total,memory.used", environ)
    gpus = [gpu for row in listed if (gpu := _gpu_of_row(row)) is not None]
    if not gpus:
        return []
    users: dict[str, list[str]] = {}
    for row in _query(program, "--query-compute-apps=gpu_uuid,pid,process_name", environ):
        if len(row) >= 3:
            users.setdefault(row[0], []).append(f"pid {row[1]} ({Path(row[2]).name})")
    return [replace(gpu, processes=tuple(users.get(gpu.uuid, ()))) for gpu in gpus]


def _gpu_of_row(row: Sequence[str]) -> Gpu | None:
    if len(row) != 5 or not row[0].isdecimal():
        return None
    # Unified memory is shown as [N/A].
    total, used = (int(value) * 1024**2 if value.isdecimal() else 0 for value in row[3:])
    return Gpu(int(row[0]), row[1], row[2], total, used)


def _query(program: str, question: str, environ: Mapping[str, str]) -> list[list[str]]:
    """One table of nvidia-smi; empty where it fails or hangs, as it does when a driver is stuck."""
    command = [program, question, "--format=csv,noheader,nounits"]
    with tempfile.TemporaryFile("w+") as output:
        # A file, not a pipe: something that a stuck program started would hold a pipe open.
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                env=dict(environ),
                start_new_session=True,
            )
        except OSError:
            return []
        try:
            if process.wait(_PROGRAM_SECONDS):
                return []
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            # What hangs in the driver cannot be killed; it is left to itself.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
            return []
        output.seek(0)
        return [[cell.strip() for cell in row] for row in csv.reader(output)]


def _driver_gpus(filesystem: Path) -> list[Gpu]:
    """What the driver shows in /proc, in the order of the bus: no memory and no users, but enough to deal."""
    gpus = []
    for index, file in enumerate(sorted(filesystem.glob("proc/driver/nvidia/gpus/*/information"))):
        named = dict(line.partition(":")[::2] for line in _read(file).splitlines())
        gpus.append(Gpu(index, named.get("GPU UUID", "").strip(), named.get("Model", "").strip()))
    return gpus


def _masked(gpus: Sequence[Gpu], mask: str | None) -> list[Gpu]:
    """The GPUs that an outer CUDA_VISIBLE_DEVICES leaves, in its order; as CUDA, it ends at the first wrong entry."""
    if mask is None:
        return list(gpus)
    visible: list[Gpu] = []
    for place, token in enumerate(part.strip() for part in mask.split(",")):
        gpu = find_gpu(gpus, token)
        if gpu is None and token.startswith("MIG-"):
            gpu = Gpu(place, token, "MIG")
        if gpu is None:
            break
        visible.append(replace(gpu, token=token))
    return visible


def _amd_gpus(environ: Mapping[str, str]) -> list[Gpu]:
    """AMD's GPUs are known only where ROCR_VISIBLE_DEVICES names them."""
    tokens = [part.strip() for part in environ.get("ROCR_VISIBLE_DEVICES", "").split(",")]
    return [Gpu(place, token, AMD, token=token) for place, token in enumerate(tokens) if token and token != "-1"]


def usable_cpus() -> Sequence[int]:
    """The logical CPUs that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def _cores(filesystem: Path, cpus: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Usable CPUs, grouped by physical core, as many cores as the control group's quota pays for."""
    grouped: dict[str, list[int]] = {}
    for cpu in cpus:
        siblings = _read(filesystem / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        grouped.setdefault(siblings or f"cpu {cpu}", []).append(cpu)
    cores = tuple(tuple(core) for core in grouped.values())
    quota = _cpu_quota(filesystem)
    return cores if quota is None else cores[: max(1, int(quota))]


def _clocking(filesystem: Path, cpus: Sequence[int]) -> Clocking:
    folder = filesystem / "sys/devices/system/cpu"
    governors = {_read(folder / f"cpu{cpu}/cpufreq/scaling_governor") for cpu in cpus} - {""}
    # intel_pstate says what is forbidden, the other drivers what is allowed.
    forbidden = _read(folder / "intel_pstate/no_turbo")
    turbo = {"0": True, "1": False}.get(forbidden, {"1": True, "0": False}.get(_read(folder / "cpufreq/boost")))
    smt = {"1": True, "0": False}.get(_read(folder / "smt/active"))
    return Clocking(", ".join(sorted(governors)) or None, turbo, smt)


def _cpu_quota(filesystem: Path) -> float | None:
    """CPUs that the control group grants; None: no limit."""
    quotas = []
    for folder in _groups(filesystem, "cpu"):
        words = _read(folder / "cpu.max").split()
        if not words:
            words = [_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")]
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def _free_bytes(filesystem: Path) -> int:
    free = int(psutil.virtual_memory().available)
    for folder in _groups(filesystem, "memory"):
        limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
        used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
        if limit.isdecimal() and used.isdecimal():
            free = min(free, max(0, int(limit) - int(used) + _cached_bytes(folder)))
    return free


def _cached_bytes(folder: Path) -> int:
    """Files in memory that the kernel gives back when asked; they count as used."""
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdecimal():
            return int(value)
    return 0


def _groups(filesystem: Path, controller: str) -> list[Path]:
    """The folders of this process's control group and those above it, in version 2 and version 1."""
    folders = []
    for line in _read(filesystem / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = filesystem / "sys/fs/cgroup" / controllers
        inner = Path(path.lstrip("/"))
        folders += [mount / part for part in (inner, *inner.parents)]
    return folders


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
