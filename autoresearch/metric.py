"""The named number: its direction, and how it is read from what a command printed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Direction(StrEnum):
    """Which way is better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    def gain(self, before: float, after: float) -> float:
        """How much better `after` is than `before`, in the metric's unit; positive is better."""
        return before - after if self is Direction.MINIMIZE else after - before

    def better(self, candidate: float, incumbent: float) -> bool:
        """Whether `candidate` is strictly better than `incumbent`."""
        return self.gain(incumbent, candidate) > 0


class ReaderKind(StrEnum):
    """The rules of reading, in the order in which they are tried."""

    REGEX = "regex"
    NAME = "name"
    """A line `METRIC name=value`, `name: value`, `name=value` or `name value`."""
    TOOL = "tool"
    """A known tool's summary; `key` is `<tool>.<quantity>`, as `pytest.rate`."""
    NUMBER = "number"
    """The only number in the last line that has one."""
    RESOURCE = "resource"
    """wall_seconds, cpu_seconds or peak_rss_mb of the measurement itself."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One rule for reading the metric. Chosen on the real baseline, stored with it, and the only rule afterwards."""

    kind: ReaderKind
    key: str = ""
    """The regex, the name as printed, `<tool>.<quantity>`, the resource; empty for NUMBER."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is optimized."""

    name: str
    """Empty where the output gives it none; the column of results.tsv is then `metric`."""
    direction: Direction
    reader: Reader
    nonzero_ok: bool = False
    """The baseline's exit status was not zero, so a candidate's need not be."""

    def to_row(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Metric:
        reader = Reader(ReaderKind(row["reader"]["kind"]), row["reader"]["key"])
        return cls(row["name"], Direction(row["direction"]), reader, row["nonzero_ok"])
