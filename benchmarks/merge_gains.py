"""Wins that are found at the same time: do those that add up all land, and do those that cancel never land together?

16 wins of 4 standard deviations, all of them in pairs of one kind, found by 8 slots from the same incumbents.
"""

from __future__ import annotations

import time
from collections import Counter
from random import Random

from benchmarks.landscape import Kind, Mix
from benchmarks.nights import Case, spread
from benchmarks.noise import Conditions
from benchmarks.report import Report, Table, Target, share

WINS, SIZE, TRIALS = 16, 4.0, 200
RULES = ("ours", "naive", "four_pairs")
PAIRS = {"compatible": (0.0, 0.0), "cancelling": (1.0, 0.0), "conflicting": (0.0, 1.0), "half cancel": (0.5, 0.0)}
"""Kind of the pairs to the shares of the wins that cancel and that conflict."""


def report(
    quick: bool = False, nights: int | None = None, trials: int = TRIALS, processes: int | None = None
) -> Report:
    """Measure it, in so many runs of each kind."""
    began = time.monotonic()
    nights = nights or (12 if quick else 150)
    todo = [(kind, rule, seed, trials) for kind in PAIRS for rule in RULES for seed in range(nights)]
    sums: dict[tuple[str, str], Counter[str]] = {(kind, rule): Counter() for kind, rule, _, _ in todo}
    for (kind, rule, _, _), found in zip(todo, spread(_count, todo, processes), strict=True):
        sums[kind, rule].update(found)
    made = Report("merge_gains", "do wins that were found side by side add up?", [_table(sums)])
    compatible, cancelling, mixed = (sums[kind, "ours"] for kind in ("compatible", "cancelling", "half cancel"))
    made.targets = [
        Target("share of compatible wins that landed", share(compatible["landed"], compatible["found"]), 0.9, False),
        Target("cancelling pairs that landed together", cancelling["together"], 0),
        Target("% of keeps that are false, half cancel", 100 * share(mixed["false keeps"], mixed["keeps"]), 1),
    ]
    made.notes.append(
        f"{nights} runs of {trials} candidates each: 40% wins of {SIZE:g} standard deviations, 45% losses, the rest "
        "no-ops. Found: proposed at least once. Together: both of a cancelling pair in one tip."
    )
    made.seconds = time.monotonic() - began
    return made


def _count(todo: tuple[str, str, int, int]) -> Counter[str]:
    kind, rule, seed, trials = todo
    cancelling, conflicting = PAIRS[kind]
    mix = Mix(0.4, 0.45, 0.0, SIZE, 2.0, False, WINS, cancelling, conflicting)
    night = Case(rule, mix, trials=trials).night(seed)
    landscape = mix.landscape(Random(f"{seed} landscape"), Conditions())
    found = {each.idea.number for each in night.ended if each.idea.kind is Kind.GAIN}
    pairs = [(one, other) for one, other in landscape.cancels.items() if one < other]
    together = {pair for pair in pairs for landing in night.landings if set(pair) <= landing.tree}
    return Counter(
        {
            "found": len(found),
            "landed": len(found & night.tip),
            "pairs": len([pair for pair in pairs if set(pair) <= found]),
            "together": len(together),
            "keeps": night.keeps,
            "false keeps": night.false_keeps,
            "superseded": night.superseded,
            "measurements": night.measurements,
        }
    )


def _table(sums: dict[tuple[str, str], Counter[str]]) -> Table:
    columns = (
        "pairs",
        "rule",
        "wins found",
        "% landed",
        "cancelling found",
        "together",
        "keeps",
        "false keeps",
        "% superseded",
    )
    table = Table("Pairs of wins", columns)
    for (kind, rule), found in sums.items():
        landed = 100 * share(found["landed"], found["found"])
        pairs = (found["pairs"], found["together"])
        superseded = 100 * share(found["superseded"], found["measurements"])
        table.rows.append(
            (kind, rule, found["found"], landed, *pairs, found["keeps"], found["false keeps"], superseded)
        )
    return table
