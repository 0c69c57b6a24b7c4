"""The law of `Proposer`, over the fake and those that need no model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from autoresearch.brief import Brief
from autoresearch.config import RunConfig
from autoresearch.edits import apply_edits
from autoresearch.errors import ProposalsExhausted
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.proposers.mutate import MutateProposer
from autoresearch.proposers.replay import ReplayProposer
from autoresearch.protocols import Proposer
from autoresearch.scope import resolve
from autoresearch.testing import FakeProposer, Files, MemoryTree
from autoresearch.trial import Change, Edit, Operator, Outcome, Proposal, Reason, Trial

pytestmark = pytest.mark.anyio

LOSS = Metric("loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "loss"))
FILES: Files = {"train.py": b"lr = 0.1\nsteps = 100\nwidth = 32\ndepth = 4\n"}
TREE = MemoryTree("base", FILES)
LINES = 6
"""So many proposals the fake and the replay have."""
BASELINE = Trial(0, Outcome.KEEP, Reason.BASELINE, "baseline", value=1.0)

Make = Callable[[], Proposer]


def brief(trial: int) -> Brief:
    return Brief(trial, 0, Operator.IMPROVE, RunConfig(), LOSS, 1.0, 1.0, 0, history=(BASELINE,))


def idea(trial: int) -> Change:
    return Change(f"lr = {trial}", (Edit("train.py", old="lr = 0.1", new=f"lr = {trial}"),))


class ProposerContract:
    async def test_a_proposal_is_a_change_that_applies_to_its_parent(self, make: Make) -> None:
        proposal = await make().propose(brief(1), TREE)
        assert proposal.change.hypothesis and "\n" not in proposal.change.hypothesis
        after = apply_edits(proposal.change.edits, {edit.path: FILES.get(edit.path) for edit in proposal.change.edits})
        assert dict(FILES) | after != FILES

    async def test_it_says_what_it_is(self, make: Make) -> None:
        proposer = make()
        assert isinstance(proposer.repairs, bool) and isinstance(proposer.ordered, bool)
        assert proposer.cost_bound_usd >= proposer.cost_least_usd >= 0.0

    async def test_it_may_be_asked_concurrently(self, make: Make) -> None:
        proposer, answers = make(), dict[int, Proposal]()

        async def ask(trial: int) -> None:
            answers[trial] = await proposer.propose(brief(trial), TREE)

        async with anyio.create_task_group() as group:
            for trial in range(1, 5):
                group.start_soon(ask, trial)
        assert len({json.dumps(answer.change.to_row()) for answer in answers.values()}) == 4

    @pytest.mark.parametrize("steps", [0, 1, 2])
    async def test_cancelling_leaves_nothing_behind(self, make: Make, steps: int) -> None:
        proposer = make()
        async with anyio.create_task_group() as group:
            group.start_soon(proposer.propose, brief(1), TREE)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert await proposer.propose(brief(1), TREE)
        assert await proposer.propose(brief(2), TREE)

    async def test_it_is_told_of_every_end_and_goes_on(self, make: Make) -> None:
        proposer = make()
        proposer.tell(BASELINE)
        change = (await proposer.propose(brief(1), TREE)).change
        ended = Trial(1, Outcome.DISCARD, Reason.WORSE, change.hypothesis, edits=change.edits, value=2.0, parent=0)
        proposer.tell(ended)
        proposer.tell(replace(ended, number=9, outcome=Outcome.CRASH, reason=Reason.EXIT, value=None))
        assert await proposer.propose(brief(2), TREE)

    async def test_when_nothing_is_left_it_says_so_again_and_again(self, make: Make) -> None:
        proposer, nothing = make(), MemoryTree("nothing", {"train.py": b""})
        with pytest.raises(ProposalsExhausted):
            for trial in range(1, LINES + 2):
                await proposer.propose(brief(trial), nothing)
        with pytest.raises(ProposalsExhausted):
            await proposer.propose(brief(LINES + 2), nothing)


class TestFakeProposer(ProposerContract):
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def make(self) -> Make:
        return lambda: FakeProposer(lambda brief, files: idea(brief.trial) if brief.trial <= LINES else None)


class TestReplayProposer(ProposerContract):
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        path = tmp_path / "changes.jsonl"
        path.write_text("\n".join(json.dumps(idea(trial).to_row()) for trial in range(1, LINES + 1)), "utf-8")
        return lambda: ReplayProposer.load(path)


class TestMutateProposer(ProposerContract):
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def make(self) -> Make:
        return lambda: MutateProposer(resolve(sorted(FILES), FILES))
