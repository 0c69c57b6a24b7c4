"""The one question, asked of a console that remembers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch import approval
from autoresearch.checkout import inspect
from autoresearch.config import RunConfig
from autoresearch.dealing import Dealt, Machine
from autoresearch.errors import UsageError
from autoresearch.events import Approved
from autoresearch.measurers.carry import CarryPlan
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.protocols import Device
from autoresearch.scope import Scope
from autoresearch.testing import MemoryConsole
from autoresearch.trial import Measurement
from autoresearch.wiring import Site
from tests.test_launch import checkout  # noqa: F401 - a fixture

pytestmark = pytest.mark.anyio

METRIC = Metric("loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "loss"))
GIGABYTE = 2**30


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def site(checkout: Path, tmp_path: Path) -> Site:  # noqa: F811
    return Site(
        config=RunConfig(objective="minimize loss", measure="cat x.txt", scope=("x.txt",)),
        tag="t",
        checkout=await inspect(checkout),
        scope=Scope(("x.txt",)),
        machine=Machine(free_bytes=10 * GIGABYTE),
        dealt=Dealt((Device(), Device(), Device(), Device())),
        carried=CarryPlan(checkout),
        cache=tmp_path,
        run_dir=tmp_path / "run",
    )


async def ask(site: Site, *answers: str, cost: float = 0.0, peak: int = 0) -> Approved:
    measured = Measurement(1.0, exit_code=0, peak_bytes=peak)
    return await approval.approve(site, MemoryConsole(answers), METRIC, measured, "claude", cost)


async def test_enter_is_yes_and_what_is_no_answer_is_asked_again(site: Site) -> None:
    assert await ask(site, "") == await ask(site, "what?", "Yes") == Approved(METRIC)
    with pytest.raises(UsageError, match="not started"):
        await ask(site, "yup", "n")
    with pytest.raises(UsageError, match="--yes"):
        await ask(site)


async def test_a_model_with_a_price_and_no_stop_condition_asks_for_a_ceiling(site: Site) -> None:
    assert (await ask(site, "a lot", "", "2.50", cost=0.3)).max_cost == 2.5
    assert (await ask(site, "none", cost=0.3)).max_cost == math.inf
    bounded = replace(site, config=replace(site.config, max_trials=3))
    assert (await ask(bounded, "y", cost=0.3)).max_cost is None


async def test_yes_never_spends_without_a_bound_that_was_named(site: Site) -> None:
    hasty = replace(site, config=replace(site.config, yes=True))
    with pytest.raises(UsageError, match="--max-cost"):
        approval.require_ceiling(hasty, 0.3)
    approval.require_ceiling(hasty, 0.0)
    approval.require_ceiling(replace(hasty, config=replace(hasty.config, max_cost=math.inf)), 0.3)


async def test_a_ceiling_pays_for_one_proposal_at_least(site: Site) -> None:
    small = replace(site, config=replace(site.config, max_cost=0.2))
    with pytest.raises(UsageError, match=r"--max-cost 0\.2 does not pay for one proposal, which may cost \$0\.30"):
        approval.require_ceiling(small, 0.3)
    approval.require_ceiling(small, 0.3, 0.1)
    assert (await ask(site, "0.2", "0.3", cost=0.3)).max_cost == 0.3


async def test_workers_are_bounded_by_memory_unless_the_user_named_a_number(site: Site) -> None:
    assert (await ask(site, "y", peak=3 * GIGABYTE)).max_workers == 2
    assert (await ask(site, "y", peak=GIGABYTE)).max_workers is None
    named = replace(site, config=replace(site.config, workers=4))
    assert (await ask(named, "y", peak=3 * GIGABYTE)).max_workers is None
