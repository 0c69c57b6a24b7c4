"""A real run in a temporary repository: no model, no key, under a minute."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from anyio import to_thread

from autoresearch import checkout, launch
from autoresearch.config import RunConfig
from autoresearch.protocols import Console

TRIALS = 60

_SETTINGS = '''\
"""Settings of a small predator and prey model. The demo tunes them; nothing else may be edited."""

PREY_GROWTH = 0.60
PREDATION = 0.040
PREDATOR_GROWTH = 0.010
PREDATOR_DEATH = 0.30
FIRST_PREY = 20.0
FIRST_PREDATORS = 12.0
'''

_EVALUATE = '''\
"""Prints how far the model is from the Hudson's Bay Company's furs of 1900 to 1910, in thousands."""

import settings

HARES = [30.0, 47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22.0, 25.4, 27.1]
LYNXES = [4.0, 6.1, 9.8, 35.2, 59.4, 41.7, 19.0, 13.0, 8.3, 9.1, 7.4]
STEPS = 200

hares, lynxes, error = settings.FIRST_PREY, settings.FIRST_PREDATORS, 0.0
for seen_hares, seen_lynxes in zip(HARES, LYNXES):
    error += (hares - seen_hares) ** 2 + (lynxes - seen_lynxes) ** 2
    for _ in range(STEPS):
        born = settings.PREY_GROWTH * hares - settings.PREDATION * hares * lynxes
        fed = settings.PREDATOR_GROWTH * hares * lynxes - settings.PREDATOR_DEATH * lynxes
        hares, lynxes = max(0.0, hares + born / STEPS), max(0.0, lynxes + fed / STEPS)

print(f"rmse: {(error / (2 * len(HARES))) ** 0.5:.6f}")
'''

_README = "Lynxes and hares: settings.py is tuned so that the model of evaluate.py fits the furs that were sold.\n"


async def demo(config: RunConfig, *, console: Console) -> int:
    """Make a small repository and improve it with the `mutate` proposer; return the exit code."""
    root = Path(await to_thread.run_sync(tempfile.mkdtemp, "", "autoresearch-demo-"))
    folder = root / "repository"
    files = {"settings.py": _SETTINGS, "evaluate.py": _EVALUATE, "README.md": _README}
    await checkout.create(folder, files)
    console.say(f"A model of hares and lynxes, six constants, one command that prints how badly it fits: {folder}")
    shown = replace(
        config,
        objective="minimize rmse",
        measure=f"{sys.executable} evaluate.py",
        scope=("settings.py",),
        proposer="mutate",
        max_trials=config.max_trials or TRIALS,
        tag=config.tag or "demo",
        worktrees=str(root),
        yes=True,
    )
    code = await launch.run(shown, folder=folder, console=console)
    console.say(f"Look around: cd {folder} && git log -p autoresearch/{shown.tag}\nRemove it:   rm -r {root}")
    return code
