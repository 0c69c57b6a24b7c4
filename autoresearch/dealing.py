"""How a machine is dealt to slots: GPUs where there are free ones, else cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoresearch.errors import UsageError
from autoresearch.protocols import Device

MAX_WORKERS_BY_DEFAULT = 8
PEAKS_OF_FREE_MEMORY = 1.5
BUSY_BYTES = 2 * 1024**3
"""Memory in use from which a GPU counts as busy although no process is seen: containers hide those of others."""
AMD = "AMD GPU"
"""The model of GPUs that ROCR_VISIBLE_DEVICES names."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that this process may use."""

    index: int
    """Its number in PCI order; for one that only the outer mask knows, its place there."""
    uuid: str = ""
    model: str = ""
    total_bytes: int = 0
    used_bytes: int = 0
    processes: tuple[str, ...] = ()
    """Others that compute on it, as `pid 123 (python)`."""
    token: str = ""
    """How the outer mask names it; empty: there is no mask."""

    @property
    def visible(self) -> str:
        """The value for CUDA_VISIBLE_DEVICES."""
        return self.token or str(self.index)

    @property
    def busy(self) -> str:
        """Who uses it, in words; empty where nobody does."""
        if self.processes:
            return ", ".join(self.processes)
        return f"{self.used_bytes / 1024**3:.1f} GiB in use" if self.used_bytes >= BUSY_BYTES else ""

    def __str__(self) -> str:
        return f"GPU {self.visible}" + (f" ({self.model})" if self.model else "")


@dataclass(frozen=True, slots=True)
class Clocking:
    """What makes timings of one machine vary; None where the system does not tell."""

    governor: str | None = None
    """Of the CPUs that this process may use; several are joined by `, `."""
    turbo: bool | None = None
    """Whether clocks rise above the nominal one while few cores work."""
    smt: bool | None = None
    """Whether cores run two threads at once."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run may use here."""

    gpus: tuple[Gpu, ...] = ()
    """Those that the outer mask shows, in its order."""
    cores: tuple[tuple[int, ...], ...] = ((0,),)
    """Whole cores, each with the numbers of its logical CPUs; never empty."""
    free_bytes: int = 0
    """Memory that can be used without swapping."""
    cpu_count: int = 1
    """Logical CPUs that this process may run on, whatever a quota grants of them."""
    clocking: Clocking = Clocking()


@dataclass(frozen=True, slots=True)
class Dealt:
    """One device for each slot, and what the user should know about the choice."""

    devices: tuple[Device, ...]
    notes: tuple[str, ...] = ()


def bound_by_memory(workers: int, free_bytes: int, baseline_peak_bytes: int) -> int:
    """How many of `workers` fit into the free memory with 1.5 times the baseline's peak each; at least 1."""
    if baseline_peak_bytes <= 0:
        return workers
    return max(1, min(workers, int(free_bytes / (PEAKS_OF_FREE_MEMORY * baseline_peak_bytes))))


def deal(
    machine: Machine,
    *,
    workers: int | None,
    gpus: str,
    gpus_per_worker: float | None,
    cpus_per_worker: int | None,
) -> Dealt:
    """Deal the machine to slots: GPUs where there are free ones, else cores, at most 8 unless `workers` says more.

    Raises:
        UsageError: a GPU that is not there, or more per worker than there is.
    """
    _check_numbers(workers, gpus_per_worker, cpus_per_worker)
    chosen, notes = _choose_gpus(machine, gpus)
    if chosen:
        shares, note = _share_gpus(chosen, workers, gpus_per_worker)
        notes += note
    elif gpus_per_worker is not None and gpus != "none":
        raise UsageError("--gpus-per-worker: no free GPU was found here; leave it out, or name GPUs with --gpus")
    else:
        shares = [()] * (workers or min(_cpu_workers(machine, cpus_per_worker), MAX_WORKERS_BY_DEFAULT))
    if workers is None and cpus_per_worker is not None:
        shares = shares[: _cpu_workers(machine, cpus_per_worker)]
    model = chosen[0].model if chosen else ""
    cpus = _deal_cores(machine.cores, len(shares), cpus_per_worker)
    named = [gpu for share in shares for gpu in share]
    shared = len(set(named)) < len(named)
    devices = tuple(
        Device(share, model, dealt, len(dealt) or machine.cpu_count, shared)
        for share, dealt in zip(shares, cpus, strict=True)
    )
    return Dealt(devices, tuple(notes))


def _check_numbers(workers: int | None, gpus_per_worker: float | None, cpus_per_worker: int | None) -> None:
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: at least 1 is needed")
    if cpus_per_worker is not None and cpus_per_worker < 1:
        raise UsageError(f"--cpus-per-worker {cpus_per_worker}: at least 1 is needed")
    if gpus_per_worker is None:
        return
    if not gpus_per_worker > 0 or (gpus_per_worker > 1 and gpus_per_worker % 1 != 0):
        raise UsageError(f"--gpus-per-worker {gpus_per_worker:g}: a whole number, or a share between 0 and 1")


def _choose_gpus(machine: Machine, wanted: str) -> tuple[list[Gpu], list[str]]:
    """The GPUs to use, all of one model, and notes about the others."""
    if wanted == "none":
        return [], []
    notes = []
    if wanted == "auto":
        free = [gpu for gpu in machine.gpus if not gpu.busy]
        notes += [f"{gpu} is used by others and left out: {gpu.busy}" for gpu in machine.gpus if gpu.busy]
        if machine.gpus and not free:
            notes.append("no GPU is free: none is dealt; name some with --gpus to use them all the same")
    else:
        free = _named_gpus(machine, wanted)
        notes += [f"{gpu} is used by others too: {gpu.busy}" for gpu in free if gpu.busy]
    models: dict[str, list[Gpu]] = {}
    for gpu in free:
        models.setdefault(gpu.model, []).append(gpu)
    if len(models) < 2:
        return free, notes
    # The largest class: the most GPUs; among equals the one with more memory.
    used = max(models.values(), key=lambda same: (len(same), same[0].total_bytes))
    rest = [str(gpu) for gpu in free if gpu not in used]
    notes.append(f"GPU models are never compared with each other: {used[0].model} is used, left out: {', '.join(rest)}")
    return used, notes


def _named_gpus(machine: Machine, wanted: str) -> list[Gpu]:
    """The GPUs of a list of numbers (counted among the visible ones, as CUDA does) or UUIDs."""
    if not machine.gpus:
        raise UsageError(f"--gpus {wanted}: no GPU was found here; use --gpus none")
    named: list[Gpu] = []
    for word in (part.strip() for part in wanted.split(",")):
        gpu = find_gpu(machine.gpus, word)
        if gpu is None:
            have = ", ".join(f"{place}: {gpu.model or gpu.visible}" for place, gpu in enumerate(machine.gpus))
            raise UsageError(f"--gpus {wanted}: there is no GPU `{word}`; visible are {have}; or say auto or none")
        if gpu not in named:
            named.append(gpu)
    return named


def find_gpu(gpus: Sequence[Gpu], word: str) -> Gpu | None:
    """By place among `gpus`, or by the beginning of a UUID."""
    if word.isdecimal():
        return gpus[int(word)] if int(word) < len(gpus) else None
    return next((gpu for gpu in gpus if word and gpu.uuid.startswith(word)), None)


def _share_gpus(
    gpus: Sequence[Gpu], workers: int | None, gpus_per_worker: float | None
) -> tuple[list[tuple[str, ...]], list[str]]:
    """CUDA_VISIBLE_DEVICES of each slot; workers that GPUs do not suffice for are cut, and said."""
    each = gpus_per_worker or 1
    # A little is added before rounding down, for 1 / 0.1 and the like.
    room = len(gpus) * int(1 / each + 1e-9) if each < 1 else len(gpus) // int(each)
    if not room:
        raise UsageError(f"--gpus-per-worker {each:g}: only {len(gpus)} GPU(s) can be used here")
    size = max(1, int(each))
    shares = []
    for slot in range(min(room, workers or MAX_WORKERS_BY_DEFAULT)):
        # Modulo, so that slots that share are spread over all GPUs first.
        first = slot * size % len(gpus)
        shares.append(tuple(gpu.visible for gpu in gpus[first : first + size]))
    if workers is None or workers <= room:
        return shares, []
    note = (
        f"{workers} workers are cut to {room}: {len(gpus)} GPU(s) with {each:g} for each worker; "
        "share GPUs with a smaller --gpus-per-worker (below 1), or use --gpus none"
    )
    return shares, [note]


def _cpu_workers(machine: Machine, cpus_per_worker: int | None) -> int:
    each = cpus_per_worker or 1
    room = len(machine.cores) // each
    if not room:
        raise UsageError(f"--cpus-per-worker {each}: this process may use {len(machine.cores)} core(s)")
    return room


def _deal_cores(cores: Sequence[tuple[int, ...]], slots: int, each: int | None) -> list[tuple[int, ...]]:
    """Logical CPUs of each slot: equal numbers of whole cores, so that slots compare; what is left over stays free.

    One slot, or more slots than cores, share all of them unless a number was asked for.
    """
    if each is not None and each * slots > len(cores):
        raise UsageError(
            f"--cpus-per-worker {each}: {slots} workers need {each * slots} cores, this process may use {len(cores)}"
        )
    size = each if each is not None else len(cores) // slots if slots > 1 else 0
    return [tuple(sorted(cpu for core in cores[k * size : (k + 1) * size] for cpu in core)) for k in range(slots)]


def is_amd(device: Device) -> bool:
    """Whether the device's GPUs are named by ROCR_VISIBLE_DEVICES rather than CUDA_VISIBLE_DEVICES."""
    return device.gpu_model == AMD
