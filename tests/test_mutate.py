"""The proposer without a model: what it changes, that it climbs alone, and that it never repeats itself."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.brief import Brief, InFlight
from autoresearch.config import RunConfig
from autoresearch.edits import apply_edits
from autoresearch.errors import ProposalsExhausted, UsageError
from autoresearch.metric import Direction, Metric, Reader, ReaderKind
from autoresearch.proposers.mutate import MutateProposer
from autoresearch.proposers.mutations import Mutation, edits_of, stepped
from autoresearch.proposers.sites import Kind, Site, sites_of
from autoresearch.protocols import FileEntry
from autoresearch.scope import resolve
from autoresearch.trial import Change, Operator, Outcome, Proposal, Reason, Reply, Trial

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


Files = Mapping[str, bytes]
METRIC = Metric("loss", Direction.MINIMIZE, Reader(ReaderKind.NAME, "loss"))
BASELINE = Trial(0, Outcome.KEEP, Reason.BASELINE, "baseline", value=1.0)


class MemoryTree:
    def __init__(self, files: Files, commit: str = "c0") -> None:
        self._files = files
        self.commit = commit

    async def files(self) -> Sequence[FileEntry]:
        return [FileEntry(path, len(data)) for path, data in sorted(self._files.items())]

    async def read(self, path: str) -> bytes | None:
        return self._files.get(path)

    async def search(self, pattern: str, limit: int = 100) -> list[str]:
        return []


def brief(trial: int, parent: int = 0, baseline: float = 1.0, operator: Operator = Operator.IMPROVE) -> Brief:
    return Brief(trial, parent, operator, RunConfig(), METRIC, baseline, baseline, parent)


def proposer_of(files: Files, seed: int = 0) -> MutateProposer:
    return MutateProposer(resolve(sorted(files), files), seed)


def after(files: Files, proposal: Proposal) -> dict[str, bytes]:
    changed = apply_edits(proposal.change.edits, files)
    return {path: data for path, data in {**files, **changed}.items() if data is not None}


async def climb(
    files: Files, loss: Callable[[Files], float | None], seed: int = 0, trials: int = 100, width: int = 1
) -> tuple[float, list[str]]:
    """The share of the loss that is gone after so many trials, `width` at a time, and all hypotheses.

    A candidate that ends after the incumbent moved is measured again on top of it, as a run does.
    """
    proposer, order = proposer_of(files, seed), random.Random(seed)
    first = best = loss(files)
    assert first is not None and best is not None
    trees, incumbent, begun, hypotheses = {0: files}, 0, dict[int, tuple[int, Proposal]](), list[str]()
    proposer.tell(replace(BASELINE, value=first))
    number = 0
    while number < trials or begun:
        while number < trials and len(begun) < width:
            number += 1
            tree = MemoryTree(trees[incumbent], f"c{incumbent}")
            begun[number] = incumbent, await proposer.propose(brief(number, incumbent, first), tree)
        ending = order.choice(sorted(begun))
        parent, proposal = begun.pop(ending)
        hypotheses.append(proposal.change.hypothesis)
        candidate = after(trees[parent], proposal)
        value = loss(candidate)
        kept = value is not None and value < best
        if kept and parent != incumbent:
            candidate = after(trees[incumbent], proposal) if applies(trees[incumbent], proposal) else candidate
            landed = loss(candidate)
            kept = landed is not None and landed < best
            value = landed if kept else value
        proposer.tell(ended(ending, proposal, parent, value, best if kept else None))
        if kept and value is not None:
            best, incumbent, trees[ending] = value, ending, candidate
    return (first - best) / first, hypotheses


def applies(files: Files, proposal: Proposal) -> bool:
    return all(files[edit.path].decode().count(edit.old or "") == 1 for edit in proposal.change.edits)


def ended(number: int, proposal: Proposal, parent: int, value: float | None, best: float | None) -> Trial:
    if best is not None and value is not None:
        outcome, reason, delta = Outcome.KEEP, Reason.IMPROVED, best - value
    else:
        outcome, delta = (Outcome.CRASH if value is None else Outcome.DISCARD), None
        reason = Reason.EXIT if value is None else Reason.WORSE
    return Trial(number, outcome, reason, "", parent=parent, edits=proposal.change.edits, value=value, delta=delta)


def constants(**values: float) -> dict[str, bytes]:
    return {"train.py": "".join(f"{name} = {value}\n" for name, value in values.items()).encode()}


def read(files: Files) -> dict[str, float] | None:
    pairs = [line.split(" = ") for line in files["train.py"].decode().splitlines()]
    return {name: float(value) for name, value in pairs} if all(len(pair) == 2 for pair in pairs) else None


def bowl(best: Mapping[str, float], wall: float = 1e3) -> Callable[[Files], float | None]:
    """A separable quadratic in logarithms; a missing constant is a crash."""

    def loss(files: Files) -> float | None:
        values = read(files) or {}
        if any(name not in values for name in best):
            return None
        return sum(math.log(values[n] / at) ** 2 if values[n] > 0 else wall for n, at in best.items())

    return loss


SIX = {"LR": 0.03, "WD": 1e-4, "BETA": 0.9, "WIDTH": 256, "DEPTH": 12, "DROP": 0.2}


def moved(values: Mapping[str, float], seed: int) -> dict[str, float]:
    """An optimum that lies a factor of 1.6 to 10 away in each constant."""
    rng = random.Random(seed)
    return {name: value * math.exp(rng.choice((-1, 1)) * rng.uniform(0.5, 2.3)) for name, value in values.items()}


@pytest.mark.parametrize("seed", range(10))
async def test_six_constants_are_tuned_within_a_hundred_trials(seed: int) -> None:
    gained, _ = await climb(constants(**SIX), bowl(moved(SIX, seed)), seed)
    assert gained >= 0.9


@pytest.mark.parametrize("seed", range(5))
async def test_eight_at_once_still_climb(seed: int) -> None:
    gained, _ = await climb(constants(**SIX), bowl(moved(SIX, seed)), seed, trials=150, width=8)
    assert gained >= 0.85


@pytest.mark.parametrize("seed", range(5))
async def test_a_curved_valley_is_followed(seed: int) -> None:
    def rosenbrock(files: Files) -> float | None:
        values = read(files)
        if values is None or len(values) < 2:
            return None
        return (1 - values["X"]) ** 2 + 100 * (values["Y"] - values["X"] ** 2) ** 2

    gained, _ = await climb(constants(X=3.0, Y=2.0), rosenbrock, seed)
    assert gained >= 0.99


async def test_places_that_pay_are_asked_more_often() -> None:
    """Ten constants of eighty matter; chance alone would spend an eighth of the trials on them."""
    rng = random.Random(1)
    values = {f"P{index}": round(10 ** rng.uniform(-3, 3), 4) for index in range(80)}
    matter = {name: values[name] * 8 for name in list(values)[::8]}
    gained, hypotheses = await climb(constants(**values), bowl(matter), trials=300)
    assert gained > 0.5
    assert sum(any(f" {name} " in line for name in matter) for line in hypotheses[100:]) > 60


async def test_the_same_seed_and_story_give_the_same_proposals() -> None:
    runs = [(await climb(constants(**SIX), bowl(moved(SIX, 3)), seed, trials=40))[1] for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]


async def test_no_candidate_is_proposed_twice() -> None:
    files = {"a.py": b"A = 1\nB = True\nC = [1, 2, 3]\nprint(A < 3)\n"}
    proposer = proposer_of(files)
    proposals: list[Proposal] = []

    async def ask(number: int) -> None:
        proposals.append(await proposer.propose(brief(number), MemoryTree(files)))

    async with anyio.create_task_group() as group:
        for number in range(1, 61):
            group.start_soon(ask, number)
    trees = {tuple(sorted(after(files, proposal).items())) for proposal in proposals}
    assert len(trees) == 60
    assert tuple(sorted(files.items())) not in trees


async def test_what_is_in_flight_is_left_out() -> None:
    files = {"a.py": b"B = True\n"}
    first = await proposer_of(files).propose(brief(1), MemoryTree(files))
    other = InFlight(9, Operator.IMPROVE, first.change.hypothesis)
    second = await proposer_of(files).propose(replace(brief(1), in_flight=(other,)), MemoryTree(files))
    assert second.change != first.change


async def test_a_finite_scope_is_exhausted() -> None:
    files = {"a.json": b"[true, false]\n"}
    proposer, found = proposer_of(files), set[bytes]()
    with pytest.raises(ProposalsExhausted):
        for number in range(1, 100):
            found.add(after(files, await proposer.propose(brief(number), MemoryTree(files)))["a.json"])
    assert {b"[false, false]\n", b"[true, true]\n", b"[false, true]\n", b"[true]\n", b"[false]\n"} <= found


@pytest.mark.parametrize(
    "data", [b"", b"# only 3 words\n", b'"""text 4"""\n', b"\0\1 5", b"\xff\xfe = 6\n", b"1\n" * 200_000]
)
async def test_a_scope_without_anything_to_change_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match="nothing to change"):
        await proposer_of({"a.py": data}).prepare(MemoryTree({"a.py": data}))


async def test_only_the_scope_is_changed() -> None:
    files = {"src/a.py": b"A = 1.5\n", "other.py": b"B = 2\n", "src/poetry.lock": b"C = 3\n"}
    proposer = MutateProposer(resolve(["src"], files), 0)
    await proposer.prepare(MemoryTree(files))
    for number in range(1, 30):
        proposal = await proposer.propose(brief(number), MemoryTree(files))
        assert {edit.path for edit in proposal.change.edits} == {"src/a.py"}


async def test_the_hypothesis_names_file_line_and_change() -> None:
    files = {"train.py": b"# rates\nLR = 0.03\n"}
    lines = {
        (await proposer_of(files, seed).propose(brief(1), MemoryTree(files))).change.hypothesis for seed in range(20)
    }
    assert any(line.startswith("train.py:2 LR 0.03 -> 0.0") for line in lines)


async def test_simplify_takes_lines_out() -> None:
    files = {"a.py": b"A = 1\nB = 2\nC = 3\n"}
    proposal = await proposer_of(files).propose(brief(1, operator=Operator.SIMPLIFY), MemoryTree(files))
    assert len(after(files, proposal)["a.py"].splitlines()) == 2


async def test_combine_joins_the_other_trial() -> None:
    files = {"a.py": b"A = 1\nB = 2\n"}
    first = await proposer_of({"a.py": b"B = 2\n"}).propose(brief(1), MemoryTree({"a.py": b"B = 2\n"}))
    other = Trial(7, Outcome.DISCARD, Reason.UNCONFIRMED, "another B", edits=first.change.edits)
    asked = replace(brief(8, operator=Operator.COMBINE), combine_with=other)
    proposal = await proposer_of(files).propose(asked, MemoryTree(files))
    assert proposal.change.edits == first.change.edits
    assert proposal.change.hypothesis == "with trial 7: another B"


async def test_exploring_takes_larger_steps() -> None:
    files = constants(A=100)

    async def reach(operator: Operator) -> float:
        asked = [
            await proposer_of(files, seed).propose(brief(1, operator=operator), MemoryTree(files)) for seed in range(40)
        ]
        found = [read(after(files, proposal)) for proposal in asked]
        return sum(abs(math.log(values["A"] / 100)) for values in found if values and values["A"] > 0)

    assert await reach(Operator.EXPLORE) > 1.5 * await reach(Operator.IMPROVE)


@pytest.mark.parametrize("operator", Operator)
async def test_a_parent_that_is_not_the_incumbent_is_changed_too(operator: Operator) -> None:
    files = constants(**SIX)
    for seed in range(20):
        asked = replace(brief(9, parent=4, operator=operator), incumbent=7)
        proposal = await proposer_of(files, seed).propose(asked, MemoryTree(files))
        assert after(files, proposal) != files


async def test_a_parent_without_anything_left_to_change_is_exhausted() -> None:
    proposer = proposer_of({"a.py": b"A = 1\n"})
    with pytest.raises(ProposalsExhausted):
        await proposer.propose(brief(5), MemoryTree({"a.py": b"# gone\n"}))


async def test_what_ended_before_a_resume_is_known() -> None:
    """Told the trials of a run alone, a new proposer goes on with the constant that paid."""
    values = {f"P{index}": 1.5 for index in range(40)}
    loss = bowl({"P7": 300.0})
    lived, files = proposer_of(constants(**values)), constants(**values)
    told = [replace(BASELINE, value=loss(files))]
    edit = apply_one(files, "P7", "4.5")
    told.append(ended(1, edit, 0, loss(after(files, edit)), loss(files)))
    for trial in told:
        lived.tell(trial)
    files = after(files, edit)
    asked = [await lived.propose(brief(n, 1, told[0].value or 0.0), MemoryTree(files, "c1")) for n in range(2, 42)]
    assert sum(" P7 4.5 -> " in proposal.change.hypothesis for proposal in asked) >= 8


def apply_one(files: Files, label: str, new: str) -> Proposal:
    text = files["train.py"].decode()
    site = next(site for site in sites_of("train.py", text.encode()) if site.label == label)
    _, edits = edits_of(text, [Mutation(site, new)])
    return Proposal(Change("", edits), Reply(""))


# Sites and numbers ----------------------------------------------------------------------------------------------------


def found(text: str, path: str = "a.py", *kinds: Kind) -> list[str]:
    return [site.text for site in sites_of(path, text.encode()) if not kinds or site.kind in kinds]


@pytest.mark.parametrize(
    ("path", "text", "numbers"),
    [
        ("a.py", "LR = 0.03  # was 0.05\n", ["0.03"]),
        ("a.py", 'f("3", -4, x=-1e-3, y=5 - 2)\n', ["-4", "-1e-3", "5", "2"]),
        ("a.py", "import lib2\nfrom a1 import b2\n__version__ = 3\nVERSION = 1.2\n", []),
        ("a.py", "seed = 42\ntorch.manual_seed(7)\nrng = np.random.default_rng(seed=1)\nsupport = 2\n", ["2"]),
        ("a.py", '"""Doc 1\n2\n"""\nx = 0x1F + 1.2.3 + a4 + 10_000\n', ["10_000"]),
        ("a.py", "mode = 0o644\nday = '2024-01-02'\nup = 2024-01-02\n", []),
        ("a.c", "// 3\nfloat x = 0.5f; /* 4\n5 */ int n = 64L;\n#include <a9.h>\n#define N 8\n", ["0.5", "64", "8"]),
        ("a.js", "const o = {a: 10, b: `x 3`, c: 'y 4'};\n", ["10"]),
        ("a.css", "a { width: 10px; color: #123456; margin: 1.5em }\n", ["10", "1.5"]),
        ("a.json", '{"lr": 0.3, "name": "v2"}\n', ["0.3"]),
        ("a.yaml", "lr: 3e-4\nimage: base-12:1.2.3\n", ["3e-4"]),
        ("a.sql", "SELECT 5 -- 6\n", ["5"]),
        ("a.cjs", "module.exports = { a: 3 };\n", ["3"]),
        ("a.go", "module example.com/v2 3\n", []),
        ("a.csv", "1,2\n", []),
        ("a.py", "x = 1  " + "#" * 500 + "\n", []),
    ],
)
def test_numbers_are_found_where_they_are_quantities(path: str, text: str, numbers: list[str]) -> None:
    assert found(text, path, Kind.NUMBER) == numbers


def test_operators_switches_lists_and_lines_are_found() -> None:
    text = "ok = True\nif a < 3 and b:\n    c = min(a, b) * 2\nd = [1, 2]\nreturn d\n"
    assert found(text, "a.py", Kind.SWITCH) == ["True"]
    assert found(text, "a.py", Kind.OPERATOR) == ["<", "and", "min", "*"]
    assert found(text, "a.py", Kind.LIST) == ["1, 2"]
    assert found(text, "a.py", Kind.DELETION) == ["ok = True\n", "    c = min(a, b) * 2\n", "d = [1, 2]\n"]


def test_texts_and_seeds_are_never_taken_out() -> None:
    assert found('"""Doc."""\n# note\nseed = 3\n__version__ = "1"\n') == []


def test_a_site_is_known_again_after_lines_shift_and_values_change() -> None:
    def keys(text: str) -> set[str]:
        return {site.key for site in sites_of("a.py", text.encode()) if site.kind is Kind.NUMBER}

    assert keys("A = 1\nB = 2\n") == keys("# new\n\nB = 7\nA = 30\n")


@pytest.mark.parametrize(
    ("token", "step", "new"),
    [
        ("3e-4", 0.5, "4.946e-4"),
        ("1E6", 0.5, "1.649E6"),
        ("1.0e-3", math.log(2), "2.0e-3"),
        ("0.03", -0.5, "0.0182"),
        ("10", 0.5, "16"),
        ("10", 0.001, "11"),
        ("10", -0.001, "9"),
        ("-2", 1.0, "-5"),
        ("0", 1.0, "1"),
        ("0.0", -0.5, "-0.5"),
        ("1_000", math.log(2), "2000"),
        ("0.5", 1e-9, None),
        ("1e308", 50.0, None),
    ],
)
def test_a_number_moves_in_its_own_style(token: str, step: float, new: str | None) -> None:
    assert stepped(token, step) == new


@given(st.floats(1e-12, 1e12), st.floats(-3, 3))
def test_a_step_goes_its_way_and_stays_short(value: float, step: float) -> None:
    token = repr(value)
    new = stepped(token, step)
    if new is not None:
        assert (float(new) - value) * step > 0
        assert len(new.lstrip("0.").replace(".", "").split("e")[0].strip("0")) <= 6


LINES = st.sampled_from(
    [
        "x = 1",
        "x = 1",
        "    y = 2.5",
        "a = [1, 2, 3]",
        "",
        "if a < 3:",
        "# c 4",
        "    f(x)",
        "z = True\r",
        "é = 0.5  # ü",
    ]
)


@given(st.lists(LINES, min_size=1, max_size=12), st.booleans(), st.randoms(use_true_random=False))
def test_edits_make_the_mutated_text_wherever_lines_repeat(
    lines: list[str], ended_line: bool, rng: random.Random
) -> None:
    text = "\n".join(lines) + "\n" * ended_line
    sites = [site for site in sites_of("a.py", text.encode()) if site.alternatives]
    chosen = apart(rng.sample(sites, min(3, len(sites))))
    if not chosen:
        return
    mutations = [Mutation(site, rng.choice(site.alternatives)) for site in chosen]
    changed, edits = edits_of(text, mutations)
    if changed == text:
        return  # Taken out here and repeated there.
    assert apply_edits(edits, {"a.py": text.encode()}) == {"a.py": changed.encode()}
    assert all(text[site.start : site.end] == site.text for site in sites)


def apart(sites: Sequence[Site]) -> list[Site]:
    kept: list[Site] = []
    for site in sites:
        if all(site.end <= other.start or other.end <= site.start for other in kept):
            kept.append(site)
    return kept
