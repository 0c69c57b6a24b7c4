"""The end of a run: baseline and best measured again, by turns; never after a stop from outside, within --max-time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoresearch.actions import Action, Measure, Propose, Wake
from autoresearch.events import StopAsked
from autoresearch.state import finale
from autoresearch.trial import Purpose, Reason
from tests.world import CONFIG, Tree, World, put

BETTER: Tree = (3, 1)


class Stage(World):
    """A world that keeps what the run notes of its end."""

    @property
    def found(self) -> dict[str, Any]:
        """The fact, as it stands."""
        return dict(self.noted.get("remeasured", {}))

    @property
    def final(self) -> list[Measure]:
        """What is being measured for the end."""
        return [each for each in self.in_flight if isinstance(each, Measure) and each.purpose is Purpose.FINAL]


def at_the_end(kept: bool = True, slots: int = 2, **config: Any) -> Stage:
    """A run of one trial that has just ended by itself; what comes next is in flight."""
    stage = Stage(replace(CONFIG, proposers=1, **({"max_trials": 1} | config)), slots=slots)
    stage.ready()
    stage.settle()
    stage.propose(stage.asked(Propose), put("b", 1 if kept else 5))
    go_on(stage)
    return stage


def go_on(stage: Stage) -> None:
    """Answer all but proposals, up to what is measured for the end."""
    while not stage.final and (others := [each for each in stage.in_flight if not isinstance(each, Propose | Wake)]):
        stage.answer(others[0])


def to_the_end(stage: Stage, values: dict[int, list[float | Reason]] | None = None) -> Counter[int]:
    """Answer it all; how often each trial was measured."""
    seen = Counter[int]()
    while stage.stopped is None:
        action = stage.final[0]
        trial = action.request.trial
        left = (values or {}).get(trial)
        seen[trial] += 1
        stage.measure(action, left.pop(0) if left else None)
    return seen


def test_five_of_each_by_turns_with_equal_seeds_for_a_pair() -> None:
    stage = at_the_end(slots=1)
    begun = list[tuple[int, int]]()
    while stage.stopped is None:
        begun.append((stage.final[0].request.trial, stage.final[0].request.seed))
        stage.measure(stage.final[0])
    assert [trial for trial, _ in begun] == [0, 1, 1, 0, 0, 1, 1, 0, 0, 1]
    assert [seed for _, seed in begun] == [1000, 1000, 1001, 1001, 1002, 1002, 1003, 1003, 1004, 1004]
    assert stage.stopped == "--max-trials reached"
    assert stage.found["baseline"] == [6.0] * 5
    assert stage.found["best"] == [4.0] * 5
    assert (stage.found["exact"], stage.found["interval"], stage.found["failed"]) == (True, [-2.0, -2.0], [])


def test_all_slots_share_it() -> None:
    stage = at_the_end(slots=4)
    assert len(stage.final) == 4
    assert to_the_end(stage) == {0: 5, 1: 5}


@pytest.mark.parametrize(("repeats", "runs"), [(1, 2), (3, 3), (7, 7)])
def test_repeats_say_how_often(repeats: int, runs: int) -> None:
    assert to_the_end(at_the_end(repeats=repeats)) == {0: runs, 1: runs}


def test_where_nothing_was_kept_there_is_nothing_to_measure() -> None:
    stage = at_the_end(kept=False)
    assert (stage.stopped, stage.found) == ("--max-trials reached", {"skipped": "nothing was kept"})


def test_a_spread_is_an_interval_and_the_metric_is_noisy_from_then_on() -> None:
    stage = at_the_end()
    to_the_end(stage, {0: [6.0, 6.5, 6.0, 6.5, 6.0]})
    low, high = stage.found["interval"]
    assert low < -2.2 < high < -1.5
    assert not stage.found["exact"]
    assert not stage.run.archive.noise.deterministic


def test_a_best_that_fails_is_said() -> None:
    stage = at_the_end()
    to_the_end(stage, {1: [4.0, Reason.TIMEOUT, 4.0, 4.0, 4.0]})
    assert (len(stage.found["baseline"]), len(stage.found["best"])) == (5, 4)
    assert stage.found["failed"] == ["the best failed 1 of 5 times: timeout"]


def test_a_best_that_fails_again_and_again_ends_it() -> None:
    stage = at_the_end()
    assert to_the_end(stage, {1: [Reason.EXIT] * 5})[1] == 2
    assert stage.found == {"skipped": "the best failed 2 of 2 times: exit"}


def test_ctrl_c_before_it_leaves_it_out() -> None:
    stage = at_the_end(max_trials=2)
    stage.stop()
    assert (stage.stopped, stage.found) == ("Ctrl-C", {"skipped": "stopped by Ctrl-C"})


@pytest.mark.parametrize(("measured", "n"), [(1, 0), (2, 2), (6, 4)])
def test_ctrl_c_ends_it_and_two_of_each_count(measured: int, n: int) -> None:
    stage = at_the_end()
    for _ in range(measured):
        stage.measure(stage.final[0])
    stage.stop()
    assert len(stage.final) == 2
    to_the_end(stage)
    assert stage.stopped == "--max-trials reached"
    if n:
        assert (len(stage.found["baseline"]), len(stage.found["best"])) == (n, n)
    else:
        assert stage.found == {"skipped": "stopped by Ctrl-C"}


def test_the_runs_own_word_of_its_end_does_not_end_it() -> None:
    stage = at_the_end()
    stage.tell(StopAsked("--max-trials reached"))
    assert to_the_end(stage) == {0: 5, 1: 5}


def test_a_kill_in_the_middle_of_it_costs_what_was_running() -> None:
    stage = at_the_end()
    for _ in range(5):
        stage.measure(stage.final[0])
    stage.kill_and_resume()
    assert stage.found == {"skipped": "the run was resumed and has not ended since"}
    stage.ready()
    assert sum(to_the_end(stage).values()) == 5
    assert (stage.stopped, stage.found["best"]) == ("--max-trials reached", [4.0] * 5)


def test_an_ended_run_that_is_resumed_for_nothing_measures_nothing_more() -> None:
    stage = at_the_end()
    to_the_end(stage)
    before = stage.found
    stage.kill_and_resume()
    assert (stage.stopped, stage.found) == ("--max-trials reached", before)


def test_an_extended_run_is_measured_again_at_its_next_end() -> None:
    stage = at_the_end()
    to_the_end(stage)
    stage.kill_and_resume(max_trials=2)
    stage.ready()
    stage.settle()
    stage.propose(stage.asked(Propose), put("b", 9))
    go_on(stage)
    assert to_the_end(stage) == {0: 5, 1: 5}


def test_a_slot_that_is_lost_leaves_its_share_to_the_others() -> None:
    stage = at_the_end()
    lost = stage.final[0].slot
    while stage.stopped is None:
        action = next((each for each in stage.final if each.slot == lost), stage.final[0])
        if action.slot == lost:
            stage.lose(action)
        else:
            stage.measure(action)
    assert (stage.stopped, len(stage.found["baseline"]), len(stage.found["best"])) == ("--max-trials reached", 5, 5)


def test_without_a_slot_it_ends() -> None:
    stage = at_the_end(slots=1)
    stage.lose(stage.final[0])
    stage.lose(stage.final[0])
    assert (stage.stopped, stage.found) == ("--max-trials reached", {"skipped": "no slot was left"})


def live_through(stage: Stage, thinking: float) -> list[float]:
    """Let time pass as it would; each proposal is better. When measurements for the end began, from the run's begin."""
    due, begun = dict[int, tuple[float, Action]](), list[float]()
    while stage.stopped is None:
        for action in stage.in_flight:
            if id(action) in due:
                continue
            if isinstance(action, Measure) and action.purpose is Purpose.FINAL:
                begun.append(stage.at - 1000.0)
            seconds = {Measure: stage.seconds, Propose: thinking}.get(type(action), 0.0)
            due[id(action)] = (action.at if isinstance(action, Wake) else stage.at + seconds, action)
        action = min(stage.in_flight, key=lambda each: due[id(each)][0])
        stage.at = max(stage.at, due[id(action)][0])
        if isinstance(action, Propose):
            stage.propose(action, put("b", 2 - action.brief.trial))
        else:
            stage.answer(action)
    return begun


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([1, 2, 3, 8]),
    st.floats(2.0, 60.0),
    st.sampled_from([1.0, 7.0, 100.0]),
)
def test_it_fits_into_the_time(slots: int, max_time: float, thinking: float) -> None:
    seconds = 1.5
    stage = Stage(replace(CONFIG, max_time=max_time, proposers=2), slots=slots, seconds=seconds, tick=0.0)
    stage.ready()
    begun = live_through(stage, thinking)
    assert stage.stopped == "--max-time reached"
    assert not begun or begun[0] >= (1 - finale.MOST_OF_TIME) * max_time, "the end crowds out the search"
    assert all(moment + seconds <= max_time for moment in begun), "it does not end in time"
    if finale.reserved_seconds(stage.run):
        assert len(stage.found["best"]) >= 2
    else:
        assert "skipped" in stage.found or begun
