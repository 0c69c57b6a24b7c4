"""One picture of a run, line by line, for a screen of any size. Pure; texts of models are data, never markup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from autoresearch import plain
from autoresearch.snapshot import SlotView, Snapshot
from autoresearch.trial import Outcome, Purpose, Trial
from autoresearch.views.lines import how_to_stop_now

_PAST = {Outcome.KEEP: "kept", Outcome.DISCARD: "discarded", Outcome.CRASH: "crashed"}
_WORK = {
    Purpose.BASELINE: "the unchanged code",
    Purpose.ANCHOR: "the best so far, once more",
    Purpose.FINAL: "baseline and best, once more",
    Purpose.FEEDBACK: "the feedback command",
    Purpose.HOLDOUT: "the holdout command",
    Purpose.CANARY: "whether edits are seen",
}
"""What is measured where it is no candidate."""
_LONGEST_TEXT = 400
_WIDE, _HIGH = 110, 30
_TITLED = 2
"""A blank line and a title stand before rows."""
_KEPT_AT_LEAST = 2
"""The keeps that even many slots leave room for."""


def picture(snapshot: Snapshot, now: float, width: int, height: int, verbose: bool = False) -> list[Text]:
    """At most `height` lines of at most `width` columns. `now` is in seconds since the epoch."""
    head = list(_head(snapshot, now, verbose or height >= _HIGH))
    foot = _foot(snapshot)[-max(1, height) :]
    room = max(0, height - len(head) - len(foot))
    reserved = _TITLED + max(1, min(len(snapshot.kept), _KEPT_AT_LEAST))
    reserved = min(reserved, max(0, room - _TITLED - 2))
    slots = _slots(snapshot, now, width >= _WIDE, room - reserved)
    kept = _kept(snapshot, room - len(slots))
    blank = [Text()] * (room - len(slots) - len(kept))
    body = [*head, *slots, *kept, *blank][: max(0, height - len(foot))]
    shown = [*body, *foot]
    for line in shown:
        line.no_wrap, line.overflow = True, "ellipsis"
        line.truncate(width, overflow="ellipsis")
    return shown


def _head(snapshot: Snapshot, now: float, detailed: bool) -> Iterator[Text]:
    ran = snapshot.elapsed_seconds + max(0.0, now - snapshot.at)
    name = plain.one_line(snapshot.metric.name) if snapshot.metric else ""
    goal = f"{snapshot.metric.direction} {name or 'the number printed'}" if snapshot.metric else "starting"
    yield Text.assemble(("autoresearch", "bold"), f"  {_short(goal)}, running for {_span(ran)}")
    yield _row("best", *_best(snapshot))
    yield _row("trials", *_counts(snapshot))
    if detailed and snapshot.reasons:
        yield _row("reasons", ", ".join(f"{name} {count}" for name, count in _most_first(snapshot.reasons)))
    if snapshot.usage.tokens or snapshot.usage.cost_usd:
        yield _row("cost", _cost(snapshot))
    left = _left(snapshot, now)
    if left:
        yield _row("left", left)
    yield _row("next", _next(snapshot))


def _row(label: str, *parts: str | tuple[str, str]) -> Text:
    return Text.assemble((f"{label:9}", "dim"), *parts)


def _best(snapshot: Snapshot) -> Iterator[str | tuple[str, str]]:
    baseline, best = snapshot.baseline, snapshot.best
    if baseline is None or best is None:
        yield "not measured yet"
        return
    before, after = plain.apart(baseline, best)
    yield after, "bold green" if snapshot.incumbent else "bold"
    if snapshot.incumbent:
        yield f" ({plain.improvement(baseline, best)}) by trial {snapshot.incumbent}, baseline {before}"
    else:
        yield ", the baseline"
    if snapshot.stdev:
        yield f", spread {plain.number(snapshot.stdev, 3)}"


def _counts(snapshot: Snapshot) -> Iterator[str | tuple[str, str]]:
    yield f"{snapshot.experiments} ended"
    for outcome, style in ((Outcome.KEEP, "green"), (Outcome.DISCARD, ""), (Outcome.CRASH, "red")):
        count = snapshot.outcomes.get(outcome, 0)
        yield (f", {count} {_PAST[outcome]}", style if count else "")
    if snapshot.plateau:
        yield ", plateau: bolder changes", "yellow"


def _cost(snapshot: Snapshot) -> str:
    usage = snapshot.usage
    cached = f" ({usage.cached:,} from cache)" if usage.cached else ""
    return f"{plain.dollars(usage.cost_usd)}, {usage.tokens:,} tokens{cached}"


def _left(snapshot: Snapshot, now: float) -> str:
    parts = []
    if snapshot.trials_left is not None:
        parts.append(f"{snapshot.trials_left} trials")
    if snapshot.seconds_left is not None:
        parts.append(_span(max(0.0, snapshot.seconds_left - max(0.0, now - snapshot.at))))
    if snapshot.usd_left is not None:
        parts.append(plain.dollars(snapshot.usd_left))
    return ", ".join(parts)


def _next(snapshot: Snapshot) -> str:
    return f"{snapshot.proposing} being proposed, {snapshot.queued} waiting for a slot"


def _slots(snapshot: Snapshot, now: float, wide: bool, room: int) -> list[Text]:
    """A blank line, a title, a line for each slot; where they are too many, the ones at work."""
    views = list(snapshot.slots)
    if room <= _TITLED or not views:
        return []
    shown, rows = views, room - _TITLED
    if len(views) > rows:
        shown = sorted(sorted(views, key=_idle)[: rows - 1], key=lambda slot: slot.number)
    devices = max((len(_short(slot.device)) for slot in views), default=0) if wide else 0
    title = f"{'slot':>4}  {'doing':8}  {'trial':>5}  {'time':>15}  "
    lines = [Text(), Text(title + (f"{'device':{devices}}  " if devices else "") + "hypothesis", style="dim")]
    lines += [_slot(slot, snapshot.timeout_seconds, now, devices) for slot in shown]
    if len(shown) < len(views):
        busy = sum(slot.trial is not None for slot in views if slot not in shown)
        lines.append(Text(f"      and {len(views) - len(shown)} more slots, {busy} of them measuring", style="dim"))
    return lines


def _idle(slot: SlotView) -> int:
    return 2 if slot.retired else 1 if slot.trial is None else 0


def _slot(slot: SlotView, timeout_seconds: float, now: float, devices: int) -> Text:
    device = f"{_short(slot.device):{devices}}  " if devices else ""
    start = f"{slot.number:>4}  "
    if slot.retired:
        return Text.assemble(start, ("retired", "red"), f"  {device}{_short(slot.retired)}")
    if slot.trial is None or slot.purpose is None:
        return Text.assemble(start, (f"{'free':8}  {'':5}  {'':15}  {device}".rstrip(), "dim"))
    spent = max(0.0, now - slot.since)
    limit = f" of {clock(timeout_seconds)}" if timeout_seconds else ""
    late = "yellow" if timeout_seconds and spent > 0.8 * timeout_seconds else ""
    idea = _WORK.get(slot.purpose) or _short(slot.hypothesis)
    time = f"{clock(spent)}{limit}"
    return Text.assemble(
        start,
        (f"{slot.purpose!s:8}", "cyan"),
        f"  {slot.trial:>5}  ",
        (f"{time:>15}", late),
        f"  {device}{idea}",
    )


def _kept(snapshot: Snapshot, room: int) -> list[Text]:
    """A blank line, a title and the last keeps, the latest first."""
    if room <= _TITLED:
        return []
    title = f"{'kept':>4}  {'value':>12}  {'gain':>12}  hypothesis"
    rows = [_keep(trial) for trial in reversed(snapshot.kept[_TITLED - room :])]
    return [Text(), Text(title, style="dim"), *(rows or [Text("      nothing yet", style="dim")])]


def _keep(trial: Trial) -> Text:
    value = "" if trial.value is None else plain.number(trial.value)
    gain = "" if trial.delta is None else f"{trial.delta:+.4g}"
    return Text.assemble(f"{trial.number:>4}  ", (f"{value:>12}", "green"), f"  {gain:>12}  {_short(trial.hypothesis)}")


def _foot(snapshot: Snapshot) -> list[Text]:
    waits = [Text(f"waiting: {_short(snapshot.waiting)}", style="yellow")] if snapshot.waiting else []
    if snapshot.draining:
        why = f"({_short(snapshot.draining)})"
        text = f"draining: running measurements end; {how_to_stop_now(snapshot.draining)}  {why}"
        return [*(waits or [Text()]), Text(text, style="bold yellow")]
    return [*(waits or [Text()]), Text("Ctrl-C: finish what runs, then stop", style="dim")]


def clock(seconds: float) -> str:
    """Whole seconds as people read them on a clock: `0:42`, `12:03`, `1:02:03`."""
    whole = int(max(0.0, seconds))
    hours, rest = divmod(whole, 3600)
    minutes = f"{rest // 60:02}" if hours else str(rest // 60)
    return (f"{hours}:" if hours else "") + f"{minutes}:{rest % 60:02}"


def _span(seconds: float) -> str:
    return plain.duration(seconds) if seconds >= 60 else f"{int(seconds)}s"


def _most_first(counts: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _short(text: str) -> str:
    """On one line, and bounded before its width is counted."""
    return plain.one_line(text[:_LONGEST_TEXT])
