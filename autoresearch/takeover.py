"""What `check` has measured of the unchanged code, kept for a day in the cache, for a run that starts meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from anyio import to_thread

from autoresearch import plain
from autoresearch.dealing import Machine
from autoresearch.events import Measured, TakenOver, event_from_row, to_row
from autoresearch.trial import Purpose
from autoresearch.wiring import Site
from autoresearch.worktrees import home

FRESH_SECONDS = 86400.0
_CPUINFO = Path("/proc/cpuinfo")


async def keep(site: Site, measured: list[Measured]) -> None:
    """Store what was measured of the baseline; what cannot be stored is measured again."""
    of_baseline = (Purpose.BASELINE, Purpose.SOLO)
    good = [event for event in measured if event.purpose in of_baseline and event.measurement.failure is None]
    with suppress(OSError):
        await to_thread.run_sync(_write, _path(site), good)


async def find(site: Site) -> tuple[TakenOver | None, str]:
    """What a `check` on the same code, commands and machine has measured within a day, and how to say so."""
    found = await to_thread.run_sync(_read, _path(site))
    if found is None:
        return None, ""
    measured, age = found
    count = sum(event.purpose is Purpose.BASELINE for event in measured)
    said = f"the first of {count} that check measured, {plain.duration(age)} ago"
    return TakenOver(tuple(measured)), said


def machine_name(machine: Machine) -> str:
    """What values were measured on: processor, cores, GPUs."""
    gpus = sorted(gpu.model or "GPU" for gpu in machine.gpus)
    return ", ".join([_processor(), f"{len(machine.cores)} cores", *gpus])


def _processor() -> str:
    with suppress(OSError):
        for line in _CPUINFO.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _path(site: Site) -> Path:
    """Where the values lie: the name is all that they depend on."""
    config = site.config.to_row()
    names = (
        "objective",
        "measure",
        "build",
        "setup",
        "metric",
        "direction",
        "check",
        "env",
        "copy",
        "link",
        "keep",
        "timeout",
        "exclusive",
    )
    same: dict[str, Any] = {name: config[name] for name in names}
    same |= {
        "tree": site.checkout.base_tree,
        "folder": site.checkout.prefix,
        "carried": [str(item) for item in site.carried.items],
        "devices": [str(device) for device in site.dealt.devices],
        "host": platform.node(),
        "machine": machine_name(site.machine),
    }
    digest = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:16]
    return home(site.checkout, "-", site.cache).parent / "baselines" / f"{digest}.json"


def _write(path: Path, measured: list[Measured]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in path.parent.iterdir():
        if time.time() - other.stat().st_mtime > FRESH_SECONDS:
            other.unlink()
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps([to_row(event) for event in measured]), encoding="utf-8")
    new.replace(path)


def _read(path: Path) -> tuple[list[Measured], float] | None:
    """The values and how many seconds ago they were stored; None where there are none, or they are of no use."""
    try:
        age = time.time() - path.stat().st_mtime
        rows = json.loads(path.read_text(encoding="utf-8"))
        events = [event_from_row("Measured", row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    measured = [event for event in events if isinstance(event, Measured)]
    return (measured, max(0.0, age)) if measured and age <= FRESH_SECONDS else None
