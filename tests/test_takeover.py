"""What `check` has measured of the baseline is taken over by a run on the same code, commands and machine."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch.actions import Approve, Measure, Propose
from autoresearch.events import Measured, TakenOver
from autoresearch.trial import Measurement, Purpose
from tests.ground import Ground
from tests.world import CONFIG, World

ARGUMENTS = ("--plain", "--yes", "--workers", "1", "--proposers", "1")


def of_check(*values: float) -> TakenOver:
    """The first was measured before the metric was chosen."""
    first = Measurement(None, exit_code=0, wall_seconds=1.0, seconds_total=1.5, stdout=f"loss: {values[0]}\n")
    rest = [Measurement(value, exit_code=0, wall_seconds=1.0, seconds_total=1.5) for value in values[1:]]
    return TakenOver(tuple(Measured(0, 0, Purpose.BASELINE, "base", each) for each in (first, *rest)))


@pytest.mark.parametrize(("values", "more"), [((6.0,) * 3, 0), ((6.0,) * 8, 0), ((6.0,), 2)])
def test_values_of_check_count_as_the_baselines(values: tuple[float, ...], more: int) -> None:
    world = World(slots=2)
    world.tell(of_check(*values))
    assert world.asked(Approve).metric.name == "loss"
    world.approve()
    world.ready()
    assert len([each for each in world.in_flight if isinstance(each, Measure)]) == more
    while more and (measures := [each for each in world.in_flight if isinstance(each, Measure)]):
        world.measure(measures[0])
    assert world.rows[0].n == len(values) + more
    assert any(isinstance(each, Propose) for each in world.in_flight)


def test_repeats_take_as_many_as_they_name() -> None:
    world = World(replace(CONFIG, repeats=2))
    world.tell(of_check(6.0, 6.0, 6.0, 6.0))
    world.approve()
    assert world.rows[0].n == 2


@pytest.mark.parametrize(("alone", "time_like"), [((6.1, 5.9), False), ((2.0, 2.1, 2.0, 1.9), True)])
def test_what_check_has_measured_alone_is_taken_over_too(alone: tuple[float, ...], time_like: bool) -> None:
    world = World(slots=4)
    solos = [Measured(0, 0, Purpose.SOLO, "base", Measurement(value, seconds_total=1.5)) for value in alone]
    world.tell(TakenOver((*of_check(6.0, 6.2, 5.9, 6.1).measured, *solos)))
    world.approve()
    world.ready()
    assert not [each for each in world.in_flight if isinstance(each, Measure)]
    assert (world.run.regime.time_like, world.run.regime.alone) == (time_like, time_like)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def run(ground: Ground, tag: str, *more: str) -> tuple[int, str]:
    """How many measurements a run of one worse trial makes, and what it says."""
    before = ground.started()
    done = ground.do(*ground.words, *ARGUMENTS, "--no-canary", "--tag", tag, "--proposer", ground.replay(110), *more)
    assert done.returncode == 0, done.stderr
    return ground.started() - before, done.stdout


def test_a_run_takes_over_what_check_has_measured_within_a_day(ground: Ground) -> None:
    assert ground.do("check", *ground.words, *ARGUMENTS, "--no-canary").returncode == 0
    refs, measured = ground.refs(), ground.started()
    assert (measured, list(refs)) == (3, ["refs/heads/main"])
    count, said = run(ground, "a")
    assert count == 1 and "the first of 3 that check measured, " in said
    assert ground.rows("a")[0]["n"] == "3"

    count, said = run(ground, "b", "--timeout", "1h")
    assert count == 4 and "the first measurement" in said
    (stored,) = (ground.folder / "cache" / "autoresearch-worktrees").glob("*/baselines/*.json")
    os.utime(stored, (stored.stat().st_atime, stored.stat().st_mtime - 90_000))
    assert run(ground, "c")[0] == 4
    assert not (ground.root / ".autoresearch" / "baselines").exists()
