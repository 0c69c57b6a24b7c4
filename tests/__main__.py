"""`python -m tests`: lint, types, tests, in this order; ends at the first that fails. Arguments go to pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STEPS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("pytest", "-m", "not slow", "--numprocesses", "auto", "--maxprocesses", "4", "--dist", "worksteal"),
)


def main(arguments: list[str]) -> int:
    # What the tests start by name (pytest, ruff, uv) is this environment's, whether or not it is activated.
    scripts = str(Path(sys.executable).parent)
    env = {**os.environ, "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)])}
    for step in STEPS:
        extra = arguments if step[0] == "pytest" else []
        print("$", " ".join([*step, *extra]), flush=True)
        code = subprocess.run(
            [sys.executable, "-m", *step, *extra], env=env, cwd=Path(__file__).parent.parent
        ).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
