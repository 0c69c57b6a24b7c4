"""How a measured value differs from the true one. Every noise has a standard deviation of 1, but for the flaky one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

HOUR_SECONDS = 3600.0


class Noise(Protocol):
    """One kind of noise."""

    def value(self, random: Random, quality: float) -> float:
        """One measurement of a tree of this quality."""

    def mean(self, quality: float) -> float:
        """What many measurements of it would come to."""


class _Centred:
    """Noise that is added to the quality, and is nothing on average."""

    def mean(self, quality: float) -> float:
        return quality


class Gaussian(_Centred):
    """The usual bell."""

    def value(self, random: Random, quality: float) -> float:
        return quality + random.gauss(0.0, 1.0)


class StudentT3(_Centred):
    """Heavy tails: Student's t with 3 degrees of freedom."""

    def value(self, random: Random, quality: float) -> float:
        return quality + random.gauss(0.0, 1.0) / math.sqrt(2 * random.gammavariate(1.5, 1.0))


@dataclass(frozen=True, slots=True)
class Skewed(_Centred):
    """Exponential: mostly a little on one side, seldom far on the other."""

    side: int = 1
    """1: the long tail is towards better; -1: towards worse."""

    def value(self, random: Random, quality: float) -> float:
        return quality + self.side * (random.expovariate(1.0) - 1.0)


@dataclass(frozen=True, slots=True)
class PassCount:
    """A number of passed tests, `flaky` of which pass at this rate; an idea makes whole tests pass or fail."""

    flaky: int = 20
    rate: float = 0.7

    def value(self, random: Random, quality: float) -> float:
        passed = sum(random.random() < self.rate for _ in range(self.flaky))
        return (self._tests(quality) + passed - self.flaky * self.rate) / self._stdev

    def mean(self, quality: float) -> float:
        return self._tests(quality) / self._stdev

    def _tests(self, quality: float) -> int:
        return round(quality * self._stdev)

    @property
    def _stdev(self) -> float:
        return math.sqrt(self.flaky * self.rate * (1 - self.rate))


@dataclass(frozen=True, slots=True)
class Flaky(_Centred):
    """Mostly the same value; now and then one that is better or worse by 1."""

    share: float = 0.05

    def value(self, random: Random, quality: float) -> float:
        luck = random.random()
        return quality + (0.0 if luck >= self.share else 1.0 if luck < self.share / 2 else -1.0)


NOISES: dict[str, Noise] = {
    "gaussian": Gaussian(),
    "student_t3": StudentT3(),
    "skewed_better": Skewed(1),
    "skewed_worse": Skewed(-1),
    "pass_count": PassCount(),
    "flaky": Flaky(),
}


class Drift(Protocol):
    """What changes slowly for all slots at once."""

    def at(self, random: Random, seconds: float) -> float:
        """What is added to a measurement then; asked for in the order of time."""


class Still:
    """No drift."""

    def at(self, random: Random, seconds: float) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class Tide:
    """Up and down, as the temperature of a room."""

    amplitude: float = 1.0
    period_hours: float = 4.0

    def at(self, random: Random, seconds: float) -> float:
        return self.amplitude * math.sin(2 * math.pi * seconds / (self.period_hours * HOUR_SECONDS))


@dataclass(slots=True)
class Walk:
    """A random walk."""

    per_hour: float = 0.5
    """Its standard deviation after an hour."""
    value: float = 0.0
    seconds: float = 0.0

    def at(self, random: Random, seconds: float) -> float:
        passed = max(0.0, seconds - self.seconds) / HOUR_SECONDS
        self.value += random.gauss(0.0, self.per_hour * math.sqrt(passed))
        self.seconds = max(self.seconds, seconds)
        return self.value


@dataclass(frozen=True, slots=True)
class Conditions:
    """All that comes between a tree's quality and a measured value."""

    noise: Noise = field(default_factory=Gaussian)
    drift: Drift = field(default_factory=Still)
    offsets: Sequence[float] = ()
    """What each slot adds, always."""

    def value(self, random: Random, quality: float, slot: int, seconds: float) -> float:
        """One measurement."""
        offset = self.offsets[slot] if slot < len(self.offsets) else 0.0
        return self.noise.value(random, quality) + self.drift.at(random, seconds) + offset
