"""Foreign load: how much CPU time processes outside the run used while something was measured, and when it is too much.

Pure: what the system says comes in as text and numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from autoresearch.trial import Measurement

SHARE = 0.1
"""Of the CPUs that a slot may use, what others may take of them before a timing counts as disturbed."""
CPUS = 0.25
"""What others may take in any case, in CPUs: on a machine with few, its own housekeeping is a large share."""
SECONDS = 0.1
"""What others may take in any case, in CPU seconds: the system counts in hundredths."""


@dataclass(frozen=True, slots=True)
class Account:
    """CPU time used since some moment in the past, in seconds."""

    at: float
    """When it was read, in seconds on a steady clock."""
    busy: Mapping[int, float] = field(default_factory=dict)
    """Of each logical CPU: what programs used, and what a hypervisor took away; empty where it is not known."""
    own: float = 0.0
    """Of the coordinator and all processes below it."""


def busy_seconds(stat: str, ticks_per_second: int) -> dict[int, float]:
    """The account of each CPU in /proc/stat, as proc(5) has it: user, nice, system and stolen time.

    Interrupts are left out: they are nobody's.
    """
    busy = {}
    for line in stat.splitlines():
        name, *counts = line.split()
        number = name.removeprefix("cpu")
        if name.startswith("cpu") and number.isdecimal() and len(counts) >= 8:
            busy[int(number)] = sum(int(counts[place]) for place in (0, 1, 2, 7)) / ticks_per_second
    return busy


def foreign_cpus(before: Account, after: Account, cpus: Collection[int], own_seconds: float) -> float:
    """How many CPUs' worth of time others used between two accounts on `cpus`, of which the run used `own_seconds`."""
    used = sum(after.busy[cpu] - before.busy[cpu] for cpu in cpus if cpu in before.busy and cpu in after.busy)
    return max(0.0, used - own_seconds) / max(after.at - before.at, 1e-9) if used else 0.0


def disturbed(measurement: Measurement, cpus: int) -> bool:
    """Whether others used so much of the `cpus` CPUs that the slot may use that a timing is not to be trusted."""
    foreign = measurement.foreign_cpus
    return foreign > max(CPUS, SHARE * cpus) and foreign * measurement.wall_seconds > SECONDS
