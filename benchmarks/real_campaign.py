"""The same figures from one real campaign: git, processes, a replay file, and a shell command that is noisy by itself.

Every line of the replay file changes one line of a file of numbers: nothing but its comment, or its worth in standard
deviations of the measurement.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import anyio

from autoresearch.actions import Apply, Land
from autoresearch.events import Applied, Began, Landed, Measured, Merged, Stamped
from autoresearch.state import Run
from autoresearch.store import SQLiteStore
from autoresearch.trial import Candidate
from benchmarks.account import Account, Night
from benchmarks.landscape import Idea, Kind
from benchmarks.nights import Sums
from benchmarks.report import Report, Table, Target, average, with_interval

MEASURE = """\
. ./worth.sh
luck=$(od -An -v -N48 -tu4 /dev/urandom | tr '\\n' ' ')
set | awk -v luck="$luck" -F= '
    /^worth_/ { gsub("\\047", "", $2); total += $2 }
    END { split(luck, each, " "); for (i = 1; i <= 12; i++) total += each[i] / 4294967296; print "score: " 94 + total }'
"""
"""The sum of twelve uniform numbers has a standard deviation of 1. awk has a `rand`, whose seeds are too much alike."""
WORTHS = {Kind.GAIN: 3.0, Kind.NOOP: 0.0, Kind.LOSS: -2.0}
WORKERS = 4
TAG = "campaign"


def report(quick: bool = False, trials: int | None = None) -> Report:
    """Run two campaigns: no-ops alone, then 15% gains, 25% no-ops and 60% losses.

    Raises:
        CalledProcessError: git or the run failed; its output is shown.
    """
    began = time.monotonic()
    trials = trials or (60 if quick else 300)
    columns = ("campaign", "tried", "keeps/100 no-ops", "false keeps", "power", "bias", "runs/candidate")
    table = Table("Through git and processes, Gaussian", (*columns, "screen to landing", "% superseded"))
    made = Report("real_campaign", "does the whole program do what its rule does in simulation?", [table])
    kinds = {"no-ops": [Kind.NOOP] * trials, "mixed": Random(0).choices(list(WORTHS), [0.15, 0.25, 0.60], k=trials)}
    for name, drawn in kinds.items():
        ideas = [Idea(number, kind, WORTHS[kind]) for number, kind in enumerate(drawn, 1)]
        with TemporaryDirectory() as folder:
            seen = Sums.of(account_of(_run(Path(folder), ideas), ideas))
        kept, bias = with_interval(seen["noops_kept"], seen["noops"]), seen.bias(0.1, 9.0)
        spent = (seen.per_candidate, seen.latency, seen.superseded_percent)
        table.rows.append((name, seen["tried"], kept, seen["false_keeps"], seen.power, bias, *spent))
        if name == "no-ops":
            made.targets.append(Target("keeps per 100 no-ops", seen.noops_per_hundred, 0.5))
    made.notes.append(f"{WORKERS} workers. Gains of 3 standard deviations, losses of 2; intervals of 95%.")
    made.seconds = time.monotonic() - began
    return made


def account_of(stored: Sequence[Stamped], ideas: Sequence[Idea]) -> Night:
    """The figures of a stored run whose trial k is idea k, counted from 1: its events are told once more.

    Raises:
        ValueError: the first event is not Began.
    """
    first = stored[0]
    if not isinstance(first.event, Began):
        raise ValueError("a run begins with Began")
    run = Run(first.event, first.at)
    account = Account(first.event.base, lambda tree: sum(ideas[number - 1].effect for number in tree))
    account.ideas = {idea.number: idea for idea in ideas}
    trees, seconds = account.trees, []
    lies_on: dict[int, str] = {}
    landing: dict[int, str] = {}
    for stamp in stored[1:]:
        match stamp.event:
            case Measured(_, _, _, _, measurement):
                seconds.append(measurement.seconds_total)
            case Applied(trial, candidate):
                trees[candidate.commit] = trees[lies_on[trial]] | {trial}
            case Merged(trial, onto, Candidate() as merged):
                trees[merged.commit] = trees[onto] | {trial}
            case Landed(trial, commit):
                trees[commit] = trees[landing[trial]]
        account.told(stamp.at, stamp.event)
        for action in run.tell(stamp.at, stamp.event):
            account.asked(stamp.at, stamp.event, action)
            if isinstance(action, Apply):
                lies_on[action.trial] = action.parent_commit
            elif isinstance(action, Land):
                landing[action.trial] = action.candidate
    account.night.true_gain = account.truth(trees[account.tip])
    account.night.measure_seconds = average(seconds)
    return account.night


def _run(folder: Path, ideas: Sequence[Idea]) -> list[Stamped]:
    """Run it in a repository of its own; what the run stored."""
    root, kept = folder / "checkout", dict(os.environ)
    for name in ("checkout", "home", "tmp"):
        (folder / name).mkdir()
    environment = {name: value for name, value in kept.items() if not name.startswith(("ANTHROPIC_", "GIT_"))}
    environment |= {
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TMPDIR": str(folder / "tmp"),
    }
    (root / "measure.sh").write_text(MEASURE)
    (root / "worth.sh").write_text("".join(f"{_line(idea, 0.0)}\n\n\n" for idea in ideas))
    user = ("-c", "user.name=A User", "-c", "user.email=user@example.org")
    for words in (("init", "-q"), ("add", "-A"), (*user, "commit", "-q", "-m", "start")):
        subprocess.run(["git", *words], cwd=root, env=environment, check=True)
    lines = [json.dumps({"hypothesis": f"idea {idea.number}", "edits": [_edit(idea)]}) for idea in ideas]
    replay = folder / "replay.jsonl"
    replay.write_text("\n".join(lines) + "\n")
    words = ("maximize score", "sh measure.sh", "worth.sh", "--proposer", f"replay:{replay}", "--tag", TAG, "--yes")
    command = [sys.executable, "-m", "autoresearch", *words, "--plain", "--quiet", "--workers", str(WORKERS)]
    subprocess.run(command, cwd=root, env=environment, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return anyio.run(_stored, root / ".autoresearch" / TAG)


def _edit(idea: Idea) -> dict[str, str]:
    old, new = f"{_line(idea, 0.0)}\n", f"{_line(idea, idea.effect)} # changed\n"
    return {"path": "worth.sh", "old": old, "new": new}


def _line(idea: Idea, worth: float) -> str:
    return f"worth_{idea.number}={worth:g}"


async def _stored(run_dir: Path) -> list[Stamped]:
    async with SQLiteStore.open(run_dir) as store:
        return await store.events()
