"""How many keeps are false, how many true gains are missed, and what knowing the difference costs.

A no-op changes nothing and keeps the line count. Planted gains are the 15% of a campaign, all of one size, beside 25%
no-ops and 60% losses; what is kept raises the incumbent. All truths come from the landscape.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import product

from benchmarks.landscape import Mix
from benchmarks.nights import Case, Sums, gather
from benchmarks.noise import NOISES, Conditions, Drift, Still, Tide
from benchmarks.report import Report, Table, Target, with_interval

TRIALS = 150
"""Of one run: its spread is known from few values at first, as in every night."""
SIZES = (1.0, 2.0, 3.0, 5.0)
WORKERS = (1, 8, 16)
AROUND: dict[str, tuple[Drift, Sequence[float]]] = {
    "still": (Still(), ()),
    "tide": (Tide(1.0, 4.0), ()),
    "uneven": (Still(), [0.5, -0.5] * 8),
}
"""What else there is beside the noise: a drift of all slots, and what each slot adds."""
OFTENER = 16
"""How many times as many runs there are where a figure is promised."""
PROMISED = ("gaussian", "student_t3")
RIVALS = ("naive", "stale", "two_sigma")
NOOPS = Mix(gains=0.0, losses=0.0)


def report(
    quick: bool = False,
    nights: int | None = None,
    trials: int = TRIALS,
    noises: Sequence[str] = tuple(NOISES),
    processes: int | None = None,
) -> Report:
    """Measure it, in so many runs of each condition, and oftener where a figure is promised."""
    began = time.monotonic()
    nights = nights or (1 if quick else 4)
    sums = gather(_cases(nights, trials, noises), processes)
    tables = [_noops(sums, noises), *(_planted(sums, noises, around) for around in AROUND), _rivals(sums)]
    tables.append(_campaigns(sums, noises))
    made = Report("false_keeps", "are wins real, and what does it cost to know?", tables, _targets(sums))
    tried = sum(each["tried"] for each in sums.values())
    made.notes.append(
        f"{tried} candidates in runs of {trials}. Sizes are in standard deviations of one measurement, or in steps of "
        "the flaky one. Tide: all slots go up and down by 1 in 4 hours. Uneven: slots are 1 apart. Intervals of 95%."
    )
    made.seconds = time.monotonic() - began
    return made


def _cases(nights: int, trials: int, noises: Sequence[str]) -> dict[str, tuple[Case, int]]:
    cases: dict[str, tuple[Case, int]] = {}
    for noise, around in product(noises, AROUND):
        conditions, plain = Conditions(NOISES[noise], *AROUND[around]), (noise, around) == ("gaussian", "still")
        often = nights * (OFTENER if around == "still" and noise in PROMISED else 1)
        for slots, rule in product(WORKERS, ("ours", *RIVALS)):
            many = often if slots == 8 else nights
            cases[_key("noops", noise, around, slots, rule)] = Case(rule, NOOPS, conditions, slots, trials), many
            if rule == "ours":
                cases[_key("mixed", noise, around, slots)] = Case(rule, Mix(), conditions, slots, trials), many
        for size, rule in product(SIZES, ("ours", *RIVALS) if plain else ("ours",)):
            mix = Mix(gain=size, exponential=False)
            cases[_key(f"planted {size}", noise, around, 8, rule)] = Case(rule, mix, conditions, 8, trials), often
    return cases


def _key(what: str, noise: str, around: str, slots: int, rule: str = "ours") -> str:
    return f"{what} / {noise} / {around} / {slots} / {rule}"


def _noops(sums: dict[str, Sums], noises: Sequence[str]) -> Table:
    columns = ("noise", "around", "workers", "ours [interval]", "runs/candidate", *RIVALS)
    table = Table("No-ops alone: keeps per 100 of them", columns)
    for noise, around, slots in product(noises, AROUND, WORKERS):
        ours = sums[_key("noops", noise, around, slots)]
        rivals = [sums[_key("noops", noise, around, slots, rule)] for rule in RIVALS]
        theirs = [rival.noops_per_hundred for rival in rivals]
        kept = with_interval(ours["noops_kept"], ours["noops"])
        table.rows.append((noise, around, slots, kept, ours.per_candidate, *theirs))
    return table


def _planted(sums: dict[str, Sums], noises: Sequence[str], around: str) -> Table:
    sizes = [f"{size:g}" for size in SIZES]
    columns = ("noise", *(f"power at {size}" for size in sizes), *(f"bias at {size}" for size in sizes))
    table = Table(
        f"Planted gains, ours, 8 workers, {around}: share kept, and by how much stored gains are too good", columns
    )
    for noise in noises:
        found = [sums[_key(f"planted {size}", noise, around, 8)] for size in SIZES]
        biases = [each.bias(size / 2, 2 * size) for each, size in zip(found, SIZES, strict=True)]
        table.rows.append((noise, *(each.power for each in found), *biases))
    return table


def _rivals(sums: dict[str, Sums]) -> Table:
    columns = ("rule", "size", "power", "bias", "keeps", "false keeps", "% false", "true gain/run")
    table = Table("Planted gains, every rule, Gaussian, still, 8 workers", columns)
    for rule in ("ours", *RIVALS):
        for size in SIZES:
            found = sums[_key(f"planted {size}", "gaussian", "still", 8, rule)]
            counts, bias = (found["keeps"], found["false_keeps"]), found.bias(size / 2, 2 * size)
            table.rows.append((rule, size, found.power, bias, *counts, found.false_percent, found.gain_a_night))
    return table


def _campaigns(sums: dict[str, Sums], noises: Sequence[str]) -> Table:
    columns = ("noise", "around", "workers", "runs/candidate", "screen to landing", "% superseded", "% false", "power")
    title = "Campaign of 15% gains, 25% no-ops, 60% losses, exponential with mean 2; landing in measurement times"
    table = Table(title, columns)
    for noise, around, slots in product(noises, AROUND, WORKERS):
        found = sums[_key("mixed", noise, around, slots)]
        spent = (found.per_candidate, found.latency, found.superseded_percent)
        table.rows.append((noise, around, slots, *spent, found.false_percent, found.power))
    return table


def _targets(sums: dict[str, Sums]) -> list[Target]:
    targets = []
    for noise in PROMISED:
        noops, mixed = (sums[_key(what, noise, "still", 8)] for what in ("noops", "mixed"))
        planted = {size: sums[_key(f"planted {size}", noise, "still", 8)] for size in SIZES}
        targets += [
            Target(f"{noise}: keeps per 100 no-ops", noops.noops_per_hundred, 0.5),
            Target(f"{noise}: power at 3", planted[3.0].power, 0.85, at_most=False),
            *(Target(f"{noise}: bias at {size:g}", abs(planted[size].bias(1, 9)), 0.3) for size in (2.0, 3.0, 5.0)),
            Target(f"{noise}: runs/candidate, campaign", mixed.per_candidate, 1.7),
            Target(f"{noise}: runs/candidate, no-ops", noops.per_candidate, 2.2),
            Target(f"{noise}: screen to landing", mixed.latency, 4.0),
            Target(f"{noise}: % superseded, campaign", mixed.superseded_percent, 10.0),
        ]
    return targets
