"""What a benchmark says: plain tables, targets with verdicts, and the same as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Cell = str | int | float | None
FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a title; the first columns name the case."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def text(self) -> str:
        """For a terminal or a README."""
        shown = [self.columns, *(tuple(map(_shown, row)) for row in self.rows)]
        widths = [max(len(row[index]) for row in shown) for index in range(len(self.columns))]
        aligned = [
            "  ".join(
                cell.ljust(width) if self._words(index) else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in shown
        ]
        return "\n".join([self.title, "", aligned[0], "  ".join("-" * width for width in widths), *aligned[1:]])

    def _words(self, column: int) -> bool:
        return any(isinstance(row[column], str) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Target:
    """One figure that was promised."""

    what: str
    value: float
    bound: float
    at_most: bool = True

    @property
    def met(self) -> bool:
        """Whether the value keeps the bound; what was not seen does not."""
        return self.value <= self.bound if self.at_most else self.value >= self.bound

    @property
    def verdict(self) -> str:
        return "met" if self.met else "missed"


@dataclass(slots=True)
class Report:
    """What one benchmark found."""

    name: str
    question: str
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def text(self) -> str:
        """For a terminal."""
        rows: list[tuple[Cell, ...]] = [
            (each.what, each.value, ("at most " if each.at_most else "at least ") + f"{each.bound:g}", each.verdict)
            for each in self.targets
        ]
        verdicts = [Table("Targets", ("figure", "reached", "target", "verdict"), rows)] if rows else []
        parts = [f"{self.name}: {self.question}", *(table.text() for table in [*self.tables, *verdicts]), *self.notes]
        return "\n\n".join([*parts, f"{self.seconds:.0f} s"])

    def write(self, path: Path) -> None:
        """As JSON; NaN is null."""
        row = asdict(self) | {"targets": [asdict(each) | {"met": each.met} for each in self.targets]}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_finite(row), indent=1) + "\n", encoding="utf-8")


def interval(count: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """A 95% interval of a share.

    Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference, JASA 22(158).
    """
    if not of:
        return 0.0, 1.0
    seen = count / of
    center = seen + z * z / (2 * of)
    spread = z * math.sqrt(seen * (1 - seen) / of + z * z / (4 * of * of))
    low, high = ((center + side * spread) / (1 + z * z / of) for side in (-1, 1))
    return max(0.0, low), min(1.0, high)


def share(count: float, of: float) -> float:
    """count / of; NaN of nothing."""
    return count / of if of else math.nan


def with_interval(count: int, of: int) -> str:
    """A share in hundredths with its interval."""
    low, high = interval(count, of)
    return f"{100 * share(count, of):.2f} [{100 * low:.2f}, {100 * high:.2f}]"


def average(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def _shown(cell: Cell) -> str:
    if isinstance(cell, float):
        return "-" if math.isnan(cell) else f"{cell:.2f}" if abs(cell) < 1000 else f"{cell:.0f}"
    return "" if cell is None else str(cell)


def _finite(row: object) -> object:
    if isinstance(row, dict):
        return {key: _finite(value) for key, value in row.items()}
    if isinstance(row, list | tuple):
        return [_finite(value) for value in row]
    return None if isinstance(row, float) and not math.isfinite(row) else row
