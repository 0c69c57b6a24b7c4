"""The benchmarks count right, and every one of them runs, on the smallest settings there are."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from random import Random

import pytest

from autoresearch.actions import Action, Measure, Merge, Record
from autoresearch.events import Began, Event, Landed, Measured, SlotsComplete, Stamped
from autoresearch.protocols import Request
from autoresearch.state import Run
from autoresearch.trial import Measurement, Outcome, Purpose, Reason, Trial
from benchmarks import __main__ as command
from benchmarks import false_keeps, merge_gains, night, real_campaign, search_under_noise
from benchmarks.account import Account, Night
from benchmarks.landscape import BASE, Idea, Kind, Landscape, Mix, Tree
from benchmarks.noise import NOISES, Conditions, Tide, Walk
from benchmarks.report import Report, Table, Target, interval
from benchmarks.rules import RULES
from benchmarks.simulation import CAMPAIGN, State
from benchmarks.simulation import night as run_night

STOCK = Mix(gains=0.5, losses=0.2, crashes=0.1, gain=4.0, stock=8, cancelling=0.5, conflicting=0.5)


def figures(one: Night) -> tuple[object, ...]:
    return one.ended, one.landings, one.runs, one.superseded, one.true_gain


@pytest.mark.parametrize("rule", RULES)
def test_a_seed_is_a_night(rule: str) -> None:
    nights = [run_night(RULES[rule], STOCK, seed=seed, trials=25) for seed in (1, 1, 2)]
    assert figures(nights[0]) == figures(nights[1]) != figures(nights[2])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("slots", [1, 8])
def test_every_rule_ends_every_trial(rule: str, slots: int) -> None:
    one = run_night(RULES[rule], STOCK, seed=3, slots=slots, trials=25)
    assert sorted(each.trial.number for each in one.ended) == list(range(1, 26))
    kept = [each.trial.number for each in one.ended if each.trial.outcome is Outcome.KEEP]
    assert kept == [landing.trial.number for landing in one.landings]
    assert one.true_gain == pytest.approx(sum(landing.gain for landing in one.landings))
    assert one.runs[Purpose.SCREEN] == len(one.tried) <= one.measurements
    assert {each.trial.outcome for each in one.of_kind(Kind.CRASH)} == {Outcome.CRASH}


@pytest.mark.parametrize("rule", RULES)
def test_a_night_ends_in_time(rule: str) -> None:
    one = run_night(RULES[rule], seed=3, hours=1)
    assert one.why == "--max-time reached"
    assert 40 < one.runs.total() <= 12 * 8 + 20


def test_a_state_that_asks_for_nothing_and_does_not_stop_is_an_error() -> None:
    class Idle:
        def tell(self, at: float, event: Event) -> list[Action]:
            return []

    def idle(began: Began, at: float) -> State:
        return Idle()

    with pytest.raises(RuntimeError, match="nothing is under way"):
        run_night(idle, trials=3)


# What is counted.


class Told:
    """An account that is told and asked by hand."""

    def __init__(self, effects: dict[int, float]) -> None:
        self.account = Account("base", lambda tree: sum(effects[number] for number in tree))
        self.account.ideas = {number: Idea(number, Kind.GAIN, effect) for number, effect in effects.items()}
        for number in effects:
            self.account.trees[f"t{number}"] = frozenset({number})

    def asked(self, *actions: Action) -> None:
        for action in actions:
            self.account.asked(0.0, SlotsComplete(), action)

    def screened(self, trial: int, at: float) -> None:
        self.account.told(at, Measured(trial, 0, Purpose.SCREEN, f"t{trial}", Measurement(1.0)))

    def lands(self, trial: int, at: float, tree: Tree, reason: Reason = Reason.IMPROVED, delta: float = 0.0) -> None:
        commit = f"landed {trial}"
        self.account.trees[commit] = tree
        event = Landed(trial, commit)
        self.account.told(at, event)
        self.account.asked(at, event, Record(Trial(trial, Outcome.KEEP, reason, "", delta=delta, n=3)))


def measure(trial: int, commit: str, purpose: Purpose) -> Measure:
    return Measure(0, commit, purpose, Request(trial, "measure", 1.0))


def test_fresh_runs_before_a_merge_are_superseded() -> None:
    told = Told({1: 1.0, 2: 2.0})
    told.asked(*[measure(1, "t1", Purpose.SCREEN), *[measure(1, "t1", Purpose.CONFIRM)] * 3])
    told.asked(*[measure(2, "t2", Purpose.CONFIRM)] * 2, measure(0, "base", Purpose.CONFIRM))
    told.screened(2, 5.0)
    told.lands(2, 10.0, frozenset({2}))
    told.asked(Merge(1, "t1", "base", "landed 2"), *[measure(1, "both", Purpose.CONFIRM)] * 4)
    night = told.account.night
    assert night.superseded == 3
    told.asked(Merge(1, "t1", "base", "landed 3"))
    assert night.superseded == 7
    assert night.runs == {Purpose.SCREEN: 1, Purpose.CONFIRM: 9, "incumbent": 1}
    assert night.measurements == 11


def test_a_keep_is_false_where_the_tip_is_truly_no_better() -> None:
    told = Told({1: 1.0, 2: 0.0, 3: -0.5, 4: 0.0, 5: 2.0})
    for trial in range(1, 6):
        told.screened(trial, 100.0 * trial)
    told.lands(1, 110.0, frozenset({1}), delta=1.5)
    told.lands(2, 230.0, frozenset({1, 2}), delta=0.8)
    told.lands(3, 330.0, frozenset({1, 2, 3}))
    told.lands(4, 430.0, frozenset({1, 2, 3, 4}), Reason.SIMPLIFIED)
    told.lands(5, 530.0, frozenset({5}), Reason.REPLACED)
    night = told.account.night
    assert [landing.gain for landing in night.landings] == [1.0, 0.0, -0.5, 0.0, 1.5]
    assert [landing.bias for landing in night.landings[:2]] == [0.5, 0.8]
    assert (night.keeps, night.false_keeps, night.simplified) == (5, 2, 1)
    night.measure_seconds = 10.0
    assert night.latencies == [1.0, 3.0, 3.0, 3.0, 3.0]
    assert night.tip == {5}


def test_measurements_of_the_tip_are_the_incumbents_whatever_they_are_for() -> None:
    told = Told({1: 1.0})
    purposes = (Purpose.BASELINE, Purpose.ANCHOR, Purpose.CONFIRM, Purpose.FINAL)
    told.asked(*(measure(0, "base", purpose) for purpose in purposes))
    assert told.account.night.runs == {Purpose.BASELINE: 1, "incumbent": 2, Purpose.FINAL: 1}


def test_a_stored_run_comes_to_the_same_figures() -> None:
    stored: list[Stamped] = []

    class Kept(Run):
        def tell(self, at: float, event: Event) -> list[Action]:
            stored.append(Stamped(at, event))
            return super().tell(at, event)

    def keeping(began: Began, at: float) -> Run:
        stored.append(Stamped(at, began))
        return Kept(began, at)

    one = run_night(keeping, Mix(gain=4.0), seed=5, trials=40)
    by_trial = {each.trial.number: each.idea for each in one.ended}
    ideas = [Idea(number, by_trial[number].kind, by_trial[number].effect) for number in range(1, 41)]
    again = real_campaign.account_of(stored, ideas)
    assert again.runs == one.runs
    assert (again.superseded, again.keeps, again.false_keeps) == (one.superseded, one.keeps, one.false_keeps)
    assert again.true_gain == pytest.approx(one.true_gain)
    assert one.keeps > 2


# What there is to find.


def test_pairs_cancel_or_conflict() -> None:
    landscape = Landscape(CAMPAIGN, Conditions())
    one, two, three = (landscape.add(Kind.GAIN, effect).number for effect in (1.0, 2.0, 4.0))
    landscape.cancels = {one: two, two: one}
    assert landscape.truth(frozenset({one, three})) == 5.0
    assert landscape.truth(frozenset({one, two, three})) == 4.0
    landscape.conflicts = {one: three, three: one}
    assert landscape.applied(frozenset({two, three}), one) == {one, two}
    assert landscape.merged(frozenset({one}), BASE, frozenset({three})) is None
    assert landscape.merged(frozenset({one}), BASE, frozenset({two})) == frozenset({one, two})
    assert landscape.merged(frozenset({one}), frozenset({three}), frozenset({two, three})) == frozenset({one, two})


def test_a_stock_is_found_until_it_is_used_up() -> None:
    random = Random(0)
    landscape = replace(STOCK, gains=1.0, crashes=0.0).landscape(random, Conditions())
    drawn = [landscape.draw(random, BASE) for _ in range(200)]
    gains = [idea.number for idea in drawn if idea.kind is Kind.GAIN]
    assert sorted(gains) == list(range(8))
    assert len(landscape.cancels) == len(landscape.conflicts) == 4


@pytest.mark.parametrize("name", NOISES)
def test_noise_is_centred_and_of_one_size(name: str) -> None:
    noise, random = NOISES[name], Random(7)
    values = [noise.value(random, 3.0) for _ in range(4000)]
    assert statistics.fmean(values) == pytest.approx(noise.mean(3.0), abs=0.08)
    if name != "flaky":
        assert statistics.stdev(values) == pytest.approx(1.0, abs=0.15)


def test_drift_comes_with_time_and_slots_differ() -> None:
    random = Random(1)
    tide, walk = Tide(1.0, 4.0), Walk(0.5)
    assert [round(tide.at(random, hours * 3600.0), 6) for hours in (0, 1, 2, 3)] == [0, 1, 0, -1]
    assert walk.at(random, 0.0) == 0.0 != walk.at(random, 3600.0) == walk.at(random, 3600.0)
    flat = Conditions(NOISES["flaky"], tide, offsets=(0.0, 10.0))
    values = [flat.value(random, 0.0, slot, 3600.0) for slot in (0, 1)]
    assert 8.0 <= values[1] - values[0] <= 12.0


# What is said.


def test_targets_have_verdicts_and_json_has_no_nan(tmp_path: Path) -> None:
    targets = [Target("a", 0.4, 0.5), Target("b", 0.8, 0.85, at_most=False), Target("c", math.nan, 1.0)]
    made = Report("x", "what?", [Table("t", ("name", "value"), [("one", 1.234), ("two", math.nan)])], targets)
    assert [target.verdict for target in targets] == ["met", "missed", "missed"]
    assert "one    1.23" in made.text() and "at least 0.85" in made.text()
    made.write(tmp_path / "folder" / "x.json")
    row = json.loads((tmp_path / "folder" / "x.json").read_text())
    assert row["tables"][0]["rows"] == [["one", 1.234], ["two", None]]
    assert [target["met"] for target in row["targets"]] == [True, False, False]


def test_an_interval_holds_the_share() -> None:
    assert interval(0, 0) == (0.0, 1.0)
    low, high = interval(5, 1000)
    assert low == pytest.approx(0.0021, abs=1e-4) and high == pytest.approx(0.0117, abs=1e-4)


def tables(report: Report) -> list[str]:
    text = report.text()
    assert all(table.title in text and table.rows for table in report.tables)
    return [target.what for target in report.targets]


def test_false_keeps_runs() -> None:
    report = false_keeps.report(nights=1, trials=3, noises=("gaussian", "student_t3"), processes=1)
    assert len(tables(report)) == 18


def test_night_runs() -> None:
    assert len(tables(night.report(nights=1, hours=0.5, processes=1))) == 8


def test_merge_gains_runs() -> None:
    assert len(tables(merge_gains.report(nights=1, trials=20, processes=1))) == 3


@pytest.mark.skipif(find_spec("cocoex") is None, reason="needs the extra `bench`")
def test_search_under_noise_runs() -> None:
    tables(search_under_noise.report(seeds=1, functions=(101, 103), budget=40, processes=1))


@pytest.mark.slow
def test_a_real_campaign_runs() -> None:
    report = real_campaign.report(trials=6)
    assert tables(report) == ["keeps per 100 no-ops"]
    assert [row[1] for row in report.tables[0].rows] == [6, 6]


def test_constants_merge_where_they_are_others() -> None:
    constants = search_under_noise.Constants(101, (0.0,) * 5, assignments=[(0, 1.0), (1, 2.0), (0, 3.0)])
    constants.ideas = [(0,), (1,), (2,)]
    first, second = constants.applied(BASE, 0), constants.applied(BASE, 1)
    assert constants.point(constants.applied(first, 2)) == [3.0, 0.0, 0.0, 0.0, 0.0]
    merged = constants.merged(first, BASE, second)
    assert merged is not None and constants.point(merged) == [1.0, 2.0, 0.0, 0.0, 0.0]
    assert constants.merged(constants.applied(BASE, 2), BASE, first) is None


def test_the_command_prints_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def report(quick: bool) -> Report:
        asked.append(quick)
        return Report("night", "what is it worth?")

    monkeypatch.setattr(night, "report", report)
    assert command.main(["night", "--quick", "--json", str(tmp_path / "n.json")]) == 0
    assert asked == [True] and "what is it worth?" in capsys.readouterr().out
    assert json.loads((tmp_path / "n.json").read_text())["name"] == "night"
    with pytest.raises(SystemExit, match="2"):
        command.main(["night", "--real"])
