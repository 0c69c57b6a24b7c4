"""Stand-in and holdout in words, from the facts of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autoresearch import plain
from autoresearch.trial import mean

Facts = Mapping[str, Mapping[str, Any]]
_SHOWN = 8


def account(facts: Facts) -> Iterator[str]:
    """Lines of the summary; none where neither was asked for."""
    if "standin" in facts:
        yield f"Stand-in: {_standin(facts['standin'])}"
    if "holdout" in facts:
        yield f"Holdout: {_holdout(facts['holdout'])}"


def holdout_of(facts: Facts, trial: int) -> str:
    """What the holdout says of one trial; empty where it was not measured on it."""
    fact, number = facts.get("holdout", {}), str(trial)
    if number in fact.get("failed", {}):
        return f"gives no value: {fact['failed'][number]}"
    values = fact.get("values", {}).get(number)
    if not values:
        return ""
    verdict = "; loses on it against the keep before it" if trial in fact["loses"] else ""
    return f"{plain.number(mean(values))}, measured {plain.times(len(values))}{verdict}"


def _standin(fact: Mapping[str, Any]) -> str:
    agreement, candidates = fact["agreement"], fact["candidates"]
    out = f"{fact['screened_out']} screened out"
    if agreement is None:
        return f"{out}, rank agreement with the metric not known yet ({candidates} with both)"
    poor = ": poor, so it may discard what is good" if fact["poor"] else ""
    left_out = "; left out for now, as measuring decides cheaper" if fact["left_out"] else ""
    return f"rank agreement with the metric {agreement:.2f} ({candidates} with both){poor}, {out}{left_out}"


def _holdout(fact: Mapping[str, Any]) -> str:
    loses, measured, keeps = fact["loses"], fact["measured"], fact["keeps"]
    rest = f"; {keeps - measured} not measured yet" if measured < keeps else ""
    if not measured:
        return f"none of {keeps} keeps measured yet" if keeps else "nothing was kept"
    if not loses:
        return f"none of {measured} {'keep' if measured == 1 else 'keeps'} loses on it{rest}"
    numbers = ", ".join(map(str, loses[:_SHOWN])) + (", ..." if len(loses) > _SHOWN else "")
    verb, trials = ("loses", "trial") if len(loses) == 1 else ("lose", "trials")
    return f"{len(loses)} of {measured} {'keep' if measured == 1 else 'keeps'} {verb} on it: {trials} {numbers}{rest}"
