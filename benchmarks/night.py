"""What a night comes to: 8 slots, 8 hours, 5-minute runs, 15% crashes, 40 wins to be found, partly incompatible.

Of the 40, 8 edit the lines of one another in pairs, and 8 cancel one another in pairs. The more wins a tree holds, the
seldomer the proposer finds one more.
"""

from __future__ import annotations

import time

from benchmarks.landscape import Mix
from benchmarks.nights import Case, Sums, gather
from benchmarks.report import Report, Table, Target, share
from benchmarks.rules import RULES

MEANS = (4.0, 2.0, 1.0)
"""Mean sizes of the wins, in standard deviations of one measurement."""
HOURS = 8.0
LEAST_SHARE, MOST_FALSE = 0.9, 1 / 20
"""Of the naive rule's true value, and of its false keeps."""


def report(
    quick: bool = False, nights: int | None = None, hours: float = HOURS, processes: int | None = None
) -> Report:
    """Measure it, averaged over so many nights of each kind."""
    began = time.monotonic()
    nights = nights or (8 if quick else 50)
    cases = {_key(mean, rule): (Case(rule, _mix(mean), hours=hours), nights) for mean in MEANS for rule in RULES}
    sums = gather(cases, processes)
    made = Report("night", "what is a night worth under each rule?", [_table(sums)], _targets(sums))
    made.notes = [_cost(sums, mean) for mean in MEANS]
    made.notes.append(f"Averages of {nights} nights each; landing in measurement times after the screen, the median.")
    made.seconds = time.monotonic() - began
    return made


def _mix(mean: float) -> Mix:
    return Mix(crashes=0.15, gain=mean, stock=40, cancelling=0.2, conflicting=0.2)


def _key(mean: float, rule: str) -> str:
    return f"{mean:g} / {rule}"


def _table(sums: dict[str, Sums]) -> Table:
    columns = (
        "mean win",
        "rule",
        "ideas tried",
        "keeps",
        "false keeps",
        "true gain",
        "% of naive",
        "runs/candidate",
        "% superseded",
        "screen to landing",
        "% slot use",
    )
    table = Table("One night: 8 slots, 8 hours, 5-minute runs", columns)
    for mean in MEANS:
        naive = sums[_key(mean, "naive")].true_gain
        for rule in RULES:
            found = sums[_key(mean, rule)]
            counts = map(found.a_night, ("tried", "keeps", "false_keeps"))
            worth = (found.gain_a_night, 100 * share(found.true_gain, naive))
            spent = (found.per_candidate, found.superseded_percent, found.latency, found.slot_use_percent)
            table.rows.append((mean, rule, *counts, *worth, *spent))
    return table


def _targets(sums: dict[str, Sums]) -> list[Target]:
    targets = []
    for mean in MEANS:
        if mean < 2:
            continue
        ours, naive = sums[_key(mean, "ours")], sums[_key(mean, "naive")]
        gain = share(ours.true_gain, naive.true_gain)
        false = share(ours["false_keeps"], naive["false_keeps"])
        targets += [
            Target(f"mean win {mean:g}: share of the naive true gain", gain, LEAST_SHARE, at_most=False),
            Target(f"mean win {mean:g}: share of the naive false keeps", false, MOST_FALSE),
            Target(f"mean win {mean:g}: screen to landing", ours.latency, 4.0),
            Target(f"mean win {mean:g}: % superseded", ours.superseded_percent, 10.0),
        ]
    return targets


def _cost(sums: dict[str, Sums], mean: float) -> str:
    ours, naive = sums[_key(mean, "ours")], sums[_key(mean, "naive")]
    reached = share(ours.true_gain, naive.true_gain)
    said = "costs no true gain" if reached >= 1 else f"costs {100 * (1 - reached):.1f}% of the naive rule's true gain"
    more = ", more than the 10% that means of 2 and more may cost" if reached < LEAST_SHARE else ""
    return f"Wins of mean {mean:g}: strictness {said}{more}; {naive.false_percent:.0f}% of the naive keeps are false."
