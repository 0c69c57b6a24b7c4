"""Which places of a text pay, and where a number should go next (pure).

Places are arms of a bandit: one that paid is asked again soon, one that did nothing seldom. A number is searched along
its own logarithm: away from what was worse, twice as far after a success, then inside the bracket by successive
parabolic interpolation (Brent, 1973). That is the step-size adaptation of an evolution strategy (Rechenberg, 1973) and
Hooke and Jeeves' exploratory moves (1961), with the failed steps remembered.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoresearch.proposers.sites import Site

FIRST_STEP = math.log(1.6)
SMALLEST_STEP = 0.004
LARGEST_STEP = math.log(30.0)
_MEMORY_KEEPS = 12
"""After so many keeps elsewhere a value is worth trying again."""
_LEAST_CREDIT = 0.02
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Move:
    """One site's share of a change."""

    key: str
    before: str
    after: str


@dataclass(slots=True)
class _Record:
    """What is known of one site."""

    credit: float = 1.0
    """1: nothing is known; above: it paid lately; toward 0: it does not."""
    scores: dict[float, tuple[float, int]] = field(default_factory=dict)
    """Of a number: the place on its line -> the summed gains that lead there, and the keeps when it was measured."""
    pending: list[float | None] = field(default_factory=list)
    """What is being measured there; of a number its place."""


class Payoffs:
    """What was learned from ended trials, and what follows from it."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self._keeps = 0
        self._stalled = 0
        self._best_gain = 0.0

    @property
    def stalled(self) -> int:
        """Trials since the last keep."""
        return self._stalled

    def begin(self, moves: Sequence[Move]) -> None:
        """These moves are being measured."""
        for move in moves:
            self._record(move.key).pending.append(place_of(move.after))

    def end(self, moves: Sequence[Move]) -> None:
        """They no longer are."""
        for move in moves:
            pending, place = self._record(move.key).pending, place_of(move.after)
            if place in pending:
                pending.remove(place)

    def learn(self, moves: Sequence[Move], gain: float | None, kept: bool) -> None:
        """A change ended: `gain` over its parent, positive is better; None: it crashed."""
        self._keeps += kept
        self._stalled = 0 if kept else self._stalled + 1
        if gain is not None and kept:
            self._best_gain = max(gain, 0.7 * self._best_gain)
        if len(moves) == 1:
            self._learn_score(moves[0], gain)
        elif not kept:
            return  # Nobody knows which of them failed.
        for move in moves:
            record = self._record(move.key)
            record.credit = max(_LEAST_CREDIT, _credit(record.credit, self._reward(gain, kept)))

    def paying(self, sites: Sequence[Site]) -> list[Site]:
        """Those that paid lately."""
        return [site for site in sites if site.key in self._records and self._records[site.key].credit > 1.0]

    def weight(self, site: Site) -> float:
        """How much a site deserves the next trial, against others."""
        record = self._records.get(site.key)
        if record is None:
            return site.kind.value
        return site.kind.value * record.credit * 0.3 ** len(record.pending)

    def step(self, site: Site, rng: random.Random, reach: float = 1.0) -> float:
        """How far, in units of the logarithm, the number at `site` goes next; `reach` stretches."""
        here = place_of(site.text)
        record = self._records.get(site.key)
        if record is None or here is None:
            return rng.choice((-1.0, 1.0)) * FIRST_STEP * reach * rng.uniform(0.8, 1.25)
        scores = {place: score for place, (score, at) in record.scores.items() if self._keeps - at <= _MEMORY_KEEPS}
        # A keep of several moves at once leaves no score: what landed is taken for the best.
        scores.setdefault(here, max((score for score in scores.values()), default=0.0))
        step = _next_step(here, scores, rng) * rng.uniform(0.95, 1.05)
        if any(abs(here + step - place) < 0.3 * abs(step) for place in record.pending if place is not None):
            step *= rng.choice((-1.0, -0.5, 0.5, 1.6))
        return max(-LARGEST_STEP, min(LARGEST_STEP, step * reach))

    def _learn_score(self, move: Move, gain: float | None) -> None:
        before, after = place_of(move.before), place_of(move.after)
        if before is None or after is None or move.before.startswith("-") != move.after.startswith("-"):
            return
        scores = self._record(move.key).scores
        start = scores[before][0] if before in scores else 0.0
        scores[before] = (start, self._keeps)
        scores[after] = (-math.inf if gain is None else start + gain, self._keeps)
        if gain is not None and gain <= 0:
            # What looked better on that side did not hold up: luck, or the gain of a parent that is gone.
            for place, (score, at) in list(scores.items()):
                if score > start and (place > before) == (after > before):
                    scores[place] = ((score + start) / 2, at)

    def _reward(self, gain: float | None, kept: bool) -> float:
        if gain is None:
            return -0.5
        if kept:
            return 1.5 + min(1.0, gain / self._best_gain if self._best_gain else 0.0)
        if gain == 0:
            return -0.2
        return 0.6 if gain > 0 else 0.3

    def _record(self, key: str) -> _Record:
        return self._records.setdefault(key, _Record())


def place_of(token: str) -> float | None:
    """Where a number stands on the line that steps walk along: the logarithm of its size; None where it has none."""
    try:
        size = abs(float(token.replace("_", "")))
    except ValueError:
        return None
    return math.log(size) if 0 < size < math.inf else None


def _credit(credit: float, reward: float) -> float:
    return credit + 0.4 * (reward - credit)


def _next_step(here: float, scores: Mapping[float, float], rng: random.Random) -> float:
    """From here to the next place to look at, given the scores of places, `here` among them."""
    best = max(scores, key=lambda place: scores[place])
    if scores[best] > scores[here]:
        return best - here
    below = max((place for place in scores if place < here - _SAME), default=None)
    above = min((place for place in scores if place > here + _SAME), default=None)
    if below is None and above is None:
        return rng.choice((-1.0, 1.0)) * FIRST_STEP
    if below is None or above is None:
        away = here - (below if below is not None else above or 0.0)
        return away * (1.8 if abs(away) < 1.5 else 1.0)
    vertex = _vertex(here, below, above, scores)
    if vertex is not None:
        return vertex - here
    wider = above if above - here > here - below else below
    return (wider - here) * 0.4


def _vertex(here: float, below: float, above: float, scores: Mapping[float, float]) -> float | None:
    """The top of the parabola through three places; None where there is none, or it is where we are."""
    heights = [scores[place] for place in (below, here, above)]
    if not all(map(math.isfinite, heights)):
        return None
    left, right = (heights[1] - heights[0]) / (here - below), (heights[2] - heights[1]) / (above - here)
    curve = (right - left) / (above - below)
    if curve >= 0:
        return None
    vertex = (below + here) / 2 - left / (2 * curve)
    close = 0.1 * min(here - below, above - here)
    return vertex if below + close < vertex < above - close and abs(vertex - here) > max(close, SMALLEST_STEP) else None
