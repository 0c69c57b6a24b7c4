"""CPU time that others use while something is measured: read before and after."""

from __future__ import annotations

import os
import time
from pathlib import Path

from autoresearch import sandbox
from autoresearch.devices import usable_cpus
from autoresearch.load import Account, busy_seconds, foreign_cpus
from autoresearch.protocols import Device


def account() -> Account:
    """What the machine and the run have used so far. Reads /proc: for a worker thread. Elsewhere nothing is known."""
    try:
        stat = Path("/proc/stat").read_text()
    except OSError:
        return Account(time.monotonic())
    return Account(time.monotonic(), busy_seconds(stat, os.sysconf("SC_CLK_TCK")), sandbox.used_seconds())


def beside(device: Device, before: Account, after: Account, measured_seconds: float) -> float:
    """How many CPUs' worth of time others used on those that the device may use; see `load.foreign_cpus`.

    On cores dealt to the slot everyone but the measured tree is a stranger. Where cores are shared, nobody of the run
    is: its slots load the machine alike for all that they measure.
    """
    if device.cpus:
        return foreign_cpus(before, after, device.cpus, measured_seconds)
    return foreign_cpus(before, after, usable_cpus(), after.own - before.own)
