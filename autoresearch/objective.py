"""The objective's words: which way is better, and whether a name stands in them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from autoresearch.quantities import normalized


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LESS = _words(
    "minimize minimise minimizes minimises minimizing minimising minimization reduce reduces reducing decrease "
    "decreases decreasing shrink shrinks shrinking shorten shortens shortening eliminate eliminates eliminating lessen"
)
_MORE = _words(
    "maximize maximise maximizes maximises maximizing maximising maximization increase increases increasing raise "
    "raises raising boost boosts boosting grow enlarge"
)
# Comparatives also stand in side remarks ("with fewer parameters"), so they count only where no verb above decides.
_LESS_SAID = _words(
    "lower lowers lowering fewer less lowest least smaller smallest shorter shortest cut cuts trim drop"
)
_MORE_SAID = _words("higher highest more most greater greatest larger largest bigger longer")
_BETTER = _words("improve improves improving better best optimize optimise optimizing optimising enhance")
_BETTER_LESS = _words(
    "loss losses error errors perplexity latency time runtime duration size sizes bytes memory footprint warnings cost "
    "costs failures complexity seconds bpb mse mae rmse wer cer"
)
_BETTER_MORE = _words(
    "accuracy precision recall f1 auc score scores coverage throughput reward bleu rouge iou pass passed passing fps r2"
)
_NEGATIONS = _words("without not never no")
_ASIDE = re.compile(r"\bat (?:least|most)\b")
_EMPTY = _LESS | _MORE | _LESS_SAID | _MORE_SAID | _BETTER | _NEGATIONS | _words(
    "a an the of in on to for from with by at as is are be it and or over per this that while its all our my your"
)  # fmt: skip


def says_less(objective: str) -> bool | None:
    """Whether less is better; None where the words do not say, or contradict each other."""
    words = _ASIDE.sub(" ", normalized(objective)).split()
    said = {word for before, word in zip(["", *words], words, strict=False) if before not in _NEGATIONS}
    for less, more in ((_LESS, _MORE), (_LESS_SAID, _MORE_SAID)):
        if said & (less | more):
            return None if said & less and said & more else bool(said & less)
    if said & _BETTER and bool(said & _BETTER_LESS) != bool(said & _BETTER_MORE):
        return bool(said & _BETTER_LESS)
    return None


def names_in(objective: str, names: Iterable[str]) -> frozenset[str]:
    """Those of the names that stand in the objective, word for word, up to case, `_`, `-` and space.

    Where `val loss` stands in it and both were printed, the `loss` in it does not count for `loss`.
    """
    text, found = _spaced(objective), set()
    plain = {name: _spaced(name) for name in names if not _words(normalized(name)) <= _EMPTY}
    for name in sorted(set(plain.values()), key=len, reverse=True):
        if name in text:
            found.add(name)
            text = text.replace(name, " \0 ")
    return frozenset(name for name, spaced in plain.items() if spaced in found)


def _spaced(text: str) -> str:
    """Normalized, each word between spaces of its own, so that whole words are found by `in`."""
    return "".join(f" {word} " for word in normalized(text).split())
