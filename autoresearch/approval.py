"""The questions before a run: what is not known yet, and the one about the plan; says what was agreed to."""

from __future__ import annotations

from dataclasses import replace

from autoresearch import plain, planning
from autoresearch.config import RunConfig
from autoresearch.devices import bound_by_memory
from autoresearch.errors import UsageError
from autoresearch.events import Approved
from autoresearch.metric import Direction, Metric, direction_of
from autoresearch.protocols import Console
from autoresearch.trial import Measurement
from autoresearch.values import ceiling
from autoresearch.wiring import Site

NO_TERMINAL = "there is no terminal to ask at: pass --yes to start without asking"
DECLINED = "not started; nothing was left behind"
_NO = ("n", "no", "q", "quit")
_DIRECTIONS = {word: way for way in Direction for word in (way[:3], str(way))}


def require_answers(config: RunConfig, console: Console) -> None:
    """Refuse to measure for what could not be agreed to afterwards.

    Raises:
        UsageError: no --yes, and nobody to ask.
    """
    if not config.yes and not console.can_ask():
        raise UsageError(NO_TERMINAL)


async def with_direction(config: RunConfig, console: Console) -> RunConfig:
    """The settings with a direction: as given, by the objective's words, else asked for unless --yes.

    Raises:
        UsageError: it is not known, and there is nobody to ask.
    """
    if config.direction is not None or direction_of(config.objective) is not None:
        return config
    if not config.yes and console.can_ask():
        while (answer := await console.ask(f"{plain.one_line(config.objective)}: minimize or maximize? ")) is not None:
            if (direction := _DIRECTIONS.get(answer.lower())) is not None:
                return replace(config, direction=direction)
            console.say("Write `minimize` where less is better, `maximize` where more is.")
    raise UsageError(
        f"the objective {config.objective!r} does not say which way is better; add --minimize or --maximize"
    )


def require_ceiling(site: Site, cost_bound_usd: float, cost_least_usd: float = 0.0, *, asks: bool = True) -> None:
    """Refuse to spend without a bound that the user has named; `asks`: a question follows, unless --yes.

    Raises:
        UsageError: nothing is asked, the model has a price, and there is no stop condition; or the ceiling does not
            pay for one proposal.
    """
    if site.config.max_cost is not None and (why := _too_little(site.config.max_cost, cost_bound_usd, cost_least_usd)):
        raise UsageError(f"--max-cost {why}")
    if (site.config.yes or not asks) and cost_bound_usd > 0 and planning.unbounded(site.config):
        doing = "--yes" if asks else "resume"
        raise UsageError(f"{doing} with a model that costs money needs a ceiling: --max-cost USD, or --max-cost none")


def _too_little(ceiling_usd: float, cost_bound_usd: float, cost_least_usd: float) -> str:
    """What is wrong with a ceiling that does not pay for one proposal, or an empty string."""
    needed = cost_least_usd or cost_bound_usd
    if ceiling_usd >= needed:
        return ""
    return f"{ceiling_usd:g} does not pay for one proposal, which may cost ${needed:.2f}; name at least that"


async def approve(
    site: Site,
    console: Console,
    metric: Metric,
    baseline: Measurement,
    proposer: str,
    cost_bound_usd: float,
    cost_least_usd: float = 0.0,
    noticed: str = "",
) -> Approved:
    """Show what was read on the baseline and what the run will do, and ask unless --yes.

    `noticed` says how the measurement noticed the canary.

    Raises:
        UsageError: the user declined, or there is nobody to ask.
    """
    workers = fitting_workers(site, baseline)
    plan = planning.plan(site, metric, baseline, proposer, cost_bound_usd, workers, noticed)
    console.show(plan)
    if site.config.yes:
        return Approved(metric, max_workers=workers)
    if plan.needs_ceiling:
        return Approved(metric, await _ask_ceiling(console, cost_bound_usd, cost_least_usd), workers)
    await _ask(console, "Start? [Y/n] ")
    return Approved(metric, max_workers=workers)


def fitting_workers(site: Site, baseline: Measurement) -> int | None:
    """How many slots the free memory bears, where that is fewer than were dealt and the user named no number."""
    dealt = len(site.dealt.devices)
    fitting = bound_by_memory(dealt, site.machine.free_bytes, baseline.peak_bytes)
    return fitting if site.config.workers is None and fitting < dealt else None


async def suggest(site: Site, console: Console, command: str) -> None:
    """Show a measure command that works where the given one does not, and ask unless --yes.

    Raises:
        UsageError: the user declined, or there is nobody to ask.
    """
    if site.config.yes:
        console.say(
            f"The last line of the measure command's output is not a reading. Using one that works:\n  {command}"
        )
        return
    console.say(f"The last line of the measure command's output is not a reading. This command works:\n  {command}")
    await _ask(console, "Use it? [Y/n] ")


async def _ask(console: Console, question: str) -> None:
    while (answer := await console.ask(question)) is not None:
        if answer.lower() in ("", "y", "yes"):
            return
        if answer.lower() in _NO:
            raise UsageError(DECLINED)
        console.say("Write `y` or `n`.")
    raise UsageError(NO_TERMINAL)


async def _ask_ceiling(console: Console, cost_bound_usd: float, cost_least_usd: float) -> float:
    """Dollars; inf where the user says `none`."""
    while True:
        answer = await console.ask(
            "This model costs money. Spend at most how many dollars (`none`: no limit; n: stop)? "
        )
        if answer is None:
            raise UsageError(f"{NO_TERMINAL}, and --max-cost USD")
        if answer.lower() in _NO:
            raise UsageError(DECLINED)
        try:
            named = ceiling(answer)
        except ValueError as error:
            console.say(f"{answer or 'nothing'}: {error}")
            continue
        why = _too_little(named, cost_bound_usd, cost_least_usd)
        if not why:
            return named
        console.say(why)
