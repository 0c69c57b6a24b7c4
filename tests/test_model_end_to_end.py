"""Whole runs of the command: real git, real measurements, and a model's server that answers, errs and breaks off."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.messages_server import Cut, Fault, MessagesServer, Request, Say, Stall, Step, StreamFault, thinking
from tests.valley import (
    KNOBS,
    Model,
    Valley,
    better,
    crashing,
    edit,
    good,
    in_text,
    look_ups,
    not_applying,
    out_of_scope,
    prompt_of,
    stubborn,
    submission,
    worse,
)

FREE = ("--yes", "--max-cost", "none", "--repeats", "1")
START = len(KNOBS) * 64.0


@pytest.fixture
def valley(tmp_path: Path) -> Valley:
    return Valley(tmp_path)


def thoughtful(request: Request, turn: int) -> Step:
    path, old, new = better(request, turn)
    return Say(thinking("All of them are too high."), submission(f"turn {Path(path).stem}", edit(path, old, new)))


def no_op(request: Request, turn: int) -> Step:
    path, old, _ = better(request, turn)
    return Say(submission(f"write {Path(path).stem} otherwise", edit(path, old, f"{old}{'0' * (turn % 7 + 1)}")))


FAULTS: dict[int, Step] = {
    3: Fault(529, "overloaded_error", retry_after="0"),
    5: Fault(429, "rate_limit_error", retry_after="0.2"),
    7: StreamFault(),
    9: Stall(),
    11: Fault(500),
    13: Cut(),
    15: Cut(chunked=False),
    21: StreamFault("api_error"),
    25: Stall(),
}
"""By the number of the proposal that they meet."""


def faulty(kinds: tuple[Callable[[Request, int], Step] | Step, ...]) -> Model:
    """Many proposals: each fault once, the kinds in between."""
    row = [FAULTS.get(number, kinds[number % len(kinds)]) for number in range(1, 200)]
    return Model(*row)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> tuple[Valley, MessagesServer, str]:
    """A run of 24 trials with all that a model and its server can do wrong."""
    valley = Valley(tmp_path_factory.mktemp("night"))
    kinds = (good, in_text, look_ups, worse, crashing, thoughtful, no_op, not_applying, stubborn, good, out_of_scope)
    with MessagesServer(faulty(kinds)) as server:
        run = valley.run(
            *("--workers", "4", *FREE, "--max-trials", "24", "--proposal-timeout", "3"),
            *("--feedback", "echo knobs look high", "--context", "measure.sh"),
            server=server,
        )
    assert (run.returncode, run.stderr) == (0, "")
    return valley, server, run.stdout


Night = tuple[Valley, MessagesServer, str]


def test_the_run_keeps_improving_and_each_trial_has_one_row(night: Night) -> None:
    valley, _, printed = night
    rows = valley.rows
    assert sorted(int(row["trial"]) for row in rows) == list(range(25))
    kept = [float(row["loss"]) for row in rows if row["status"] == "keep"]
    assert kept[0] == START
    assert len(kept) >= 5 and kept == sorted(kept, reverse=True) and kept[-1] < START / 2
    assert kept[-1] == pytest.approx(valley.value_of("autoresearch/t"))
    counted = Counter(row["status"] for row in rows if row["trial"] != "0")
    summary = dict(re.findall(r"^(Experiments run|Kept|Discarded|Crashed|Stopped): (.*)$", printed, re.MULTILINE))
    assert summary == {
        "Experiments run": "24",
        "Kept": str(counted["keep"]),
        "Discarded": str(counted["discard"]),
        "Crashed": str(counted["crash"]),
        "Stopped": "--max-trials reached",
    }


def test_no_fault_of_the_server_became_a_trial(night: Night) -> None:
    valley, server, printed = night
    deferred = valley.events("Deferred")
    said = " ".join(str(event["why"]) for event in deferred)
    for words in ("529", "429", "500", "overloaded", "within 3 s", "incomplete chunked read", "cut off"):
        assert words in said
    late = [event for event in deferred if "within 3 s" in event["why"]]  # on a slow machine also what did not stall
    assert len(deferred) - len(late) == len([fault for fault in FAULTS.values() if not isinstance(fault, Stall)])
    failed = [trial for trial in _log(valley) if trial["reason"] == "proposer_failed"]
    assert failed and len(failed) <= sum("stubborn" in json.dumps(each.body["messages"]) for each in server.requests)
    asked = {trial["trial"]: trial for trial in _log(valley)}
    assert {event["trial"] for event in deferred} <= set(asked), "what was not answered is asked again"
    assert "Proposer       claude: claude-opus-5-5\n" in printed
    assert "waiting for the model's server" in printed and "answers again" in printed


def test_measuring_went_on_during_the_faults(night: Night) -> None:
    valley, _, _ = night
    stalled = [event["at"] for event in valley.events("Deferred") if "within 3 s" in event["why"]]
    measured = [event["at"] for event in valley.events("Measured")]
    for ended in stalled:
        assert any(ended - 3 < at < ended for at in measured)


def test_a_crash_is_sent_back_with_what_its_run_redirected(night: Night) -> None:
    valley, server, _ = night
    repairs = [text for text in map(prompt_of, server.requests) if "# Repair" in text]
    crashed = [text for text in repairs if "failed (exit)" in text]
    assert crashed and all(re.search(r"\w+ is no number: eleven\d+", text) for text in crashed)
    assert not [row for row in valley.rows if row["reason"] == "exit"], "every crash was repaired"
    repaired = {event["trial"] for event in valley.events("Proposed")}
    twice = [trial for trial in repaired if sum(e["trial"] == trial for e in valley.events("Proposed")) == 2]
    assert twice


def test_an_edit_that_does_not_apply_is_corrected_with_the_nearest_lines(night: Night) -> None:
    _, server, _ = night
    objections = [text for text in map(_last_turn, server.requests) if "Nothing was applied" in text]
    assert any("nearest to what you wanted to replace" in text for text in objections)
    assert any("measure.sh" in text for text in objections), "an edit outside the scope is sent back"


def test_look_ups_are_answered(night: Night) -> None:
    _, server, _ = night
    results = [json.dumps(each.body["messages"][-1]) for each in server.requests if len(each.body["messages"]) > 1]
    assert any("reading the knobs" in text and "measure.sh:" in text for text in results)


def test_the_model_sees_the_task_the_files_and_what_happened(night: Night) -> None:
    _, server, _ = night
    prompts = [prompt_of(each) for each in server.requests]
    for text in prompts:
        for words in (
            "Objective: minimize loss",
            "loss that the measure command prints, minimize (lower is better)",
            "sh measure.sh > run.log 2>&1 && grep '^loss:' run.log",
            "The user's guidance follows",
            "Turn one knob at a time",
            "knobs/alpha.txt\n```\nalpha = ",
            "A valley of knobs",
            "measure.sh\n```\necho",
            "Best so far: loss",
            "knobs_read 6",
            "reading the knobs",
        ):
            assert words in text, words
    later = prompts[-5:]
    assert all("Feedback on the incumbent:\n```\nknobs look high" in text for text in later)
    assert any("# What was tried" in text and "worse" in text and "away" in text for text in later)
    assert any("# Being tried right now by others" in text for text in prompts)
    assert not any("sk-dummy-key" in json.dumps(each.body) for each in server.requests)


def test_rows_and_show_tell_what_a_trial_cost(night: Night) -> None:
    valley, _, printed = night
    rows = [row for row in valley.rows if row["trial"] != "0"]
    assert all(int(row["tokens"]) >= 150 and float(row["usd"]) > 0 for row in rows)
    assert {row["model"] for row in rows} == {"claude-opus-5-5"}
    spent = json.loads(valley.autoresearch("status", "--json").stdout)
    assert f"${spent['cost_usd']:.2f}" in printed
    assert spent["cost_usd"] >= sum(float(row["usd"]) for row in rows) > 0
    best = max(rows, key=lambda row: (row["status"] == "keep", float(row["delta"] or 0)))
    shown = valley.autoresearch("show", best["trial"]).stdout
    for words in (best["description"], "Objective: minimize loss", "knobs/", "+", "tokens", "claude-opus-5-5"):
        assert words in shown
    assert re.search(r"^\+\w+ = [\d.]+$", shown, re.MULTILINE), "the diff"
    assert '"submit_change"' in shown or "<<<<<<< SEARCH" in shown, "the reply"


def _log(valley: Valley) -> list[dict[str, Any]]:
    return [json.loads(line) for line in valley.autoresearch("log", "--json").stdout.splitlines()]


def _last_turn(request: Request) -> str:
    last = request.body["messages"][-1]["content"]
    return "" if len(request.body["messages"]) == 1 else "\n".join(str(each.get("text", "")) for each in last)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401, "authentication_error", "invalid key"), "refuses the key"),
        (Fault(402, "billing_error", "no credit"), "wants payment"),
    ],
    ids=["401", "402"],
)
def test_a_server_that_will_never_answer_ends_the_run_at_once_resumable(
    valley: Valley, fault: Fault, words: str
) -> None:
    answers = [good] * 2 + [fault] * 50
    with MessagesServer(Model(*answers)) as server:
        run = valley.run("-w", "2", *FREE, "--max-trials", "5", "--proposers", "2", server=server)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1 and run.stderr.startswith("error: ") and words in run.stderr
    assert "=== Autoresearch Summary ===" in run.stdout
    assert len(server.requests) <= 5
    if fault.status == 402:
        with MessagesServer(Model()) as server:
            again = valley.autoresearch("resume", server=server)
        assert (again.returncode, again.stderr) == (0, "")
        assert sorted(int(row["trial"]) for row in valley.rows) == list(range(6))


def dear(request: Request, turn: int) -> Step:
    path, old, _ = better(request, turn)
    usage = {"input_tokens": 25_000, "output_tokens": 10_000}
    return Say(submission(f"turn {Path(path).stem} away", edit(path, old, round(old + turn / 100, 6))), usage=usage)


def test_spending_stays_below_the_ceiling(valley: Valley) -> None:
    """Each answer is worse, and costs 0.3 dollars; one in nine breaks off."""
    with MessagesServer(Model(*[dear] * 8, StreamFault())) as server:
        run = valley.run("-w", "4", "--yes", "--max-cost", "3", "--repeats", "1", server=server)
    assert (run.returncode, run.stderr) == (0, "")
    assert "Stopped: --max-cost reached" in run.stdout
    spent = json.loads(valley.autoresearch("status", "--json").stdout)["cost_usd"]
    answered = sum(float(row["usd"]) for row in valley.rows)
    assert answered <= spent <= 3.0
    assert spent > 2.1, "most of the ceiling is used"


def test_yes_without_a_ceiling_spends_and_measures_nothing(valley: Valley) -> None:
    with MessagesServer(Model()) as server:
        run = valley.run("--yes", server=server)
    assert (run.returncode, server.requests) == (2, [])
    assert "--max-cost USD, or --max-cost none" in run.stderr and run.stderr.count("\n") == 1
    assert not (valley.root / ".autoresearch").exists()
    assert "autoresearch" not in valley.git("for-each-ref")


def test_no_key_and_no_terminal_names_the_choices(valley: Valley) -> None:
    run = valley.run()
    assert run.returncode == 2
    for words in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "mutate", "command", "replay:FILE"):
        assert words in run.stderr
    assert not (valley.root / ".autoresearch").exists()


def test_on_a_terminal_the_plan_asks_for_a_ceiling(valley: Valley) -> None:
    with MessagesServer(Model(dear)) as server:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            valley.command("--plain", "-w", "2"),
            cwd=valley.root,
            env=valley.environment(server, COLUMNS="100"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            assert "Spend at most how many dollars" in _read_until(ours, "dollars")
            assert server.requests == [], "nothing is asked before"
            os.write(ours, b"0.1\n")
            assert "does not pay for one proposal" in _read_until(ours, "dollars")
            os.write(ours, b"1.5\n")
            printed = _read_until(ours, "Go on:")
        finally:
            process.wait(60)
            os.close(ours)
    assert process.returncode == 0
    assert "Stopped: --max-cost reached" in printed
    assert json.loads(valley.autoresearch("status", "--json").stdout)["cost_usd"] <= 1.5


def _read_until(descriptor: int, words: str) -> str:
    """What the terminal shows, until `words` or its end."""
    shown = b""
    while words.encode() not in shown:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    return shown.decode(errors="replace")


def test_saved_replies_are_not_asked_again_after_a_kill(valley: Valley) -> None:
    slow = "sleep 0.2; " + (valley.root / "measure.sh").read_text()
    (valley.root / "measure.sh").write_text(slow)
    valley.git("commit", "-qam", "slower")
    with MessagesServer(Model(worse, look_ups)) as server:
        process = valley.start("-w", "2", *FREE, "--max-trials", "6", "--proposers", "4", server=server)
        assert process.stdout is not None
        ended = 0
        for line in process.stdout:
            ended += " kept " in line or " discarded " in line
            if ended == 2:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
    saved = Counter(event["trial"] for event in valley.events("Proposed"))
    before = {row["trial"]: row for row in valley.rows}
    assert len(saved) > len(before) - 1, "there were replies whose trial had not ended"
    with MessagesServer(Model(good)) as server:
        resumed = valley.autoresearch("resume", server=server)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert Counter(event["trial"] for event in valley.events("Proposed")) == Counter(range(1, 7))
    assert len(server.requests) == 6 - len(saved)
    rows = {row["trial"]: row for row in valley.rows}
    assert sorted(map(int, rows)) == list(range(7)) and len(valley.rows) == 7
    assert {number: rows[number] for number in before} == before


AGENT = """\
#!/bin/sh
echo $$ > "$STATE/pid-$$"
for pid in $(cat "$STATE"/pid-*); do kill -0 "$pid" 2>/dev/null && echo "$pid"; done | grep -c . >> "$STATE/at-once"
cat > "$STATE/stdin-$$"; cmp -s "$STATE/stdin-$$" "$AUTORESEARCH_PROMPT" || echo differ >> "$STATE/wrong"
if grep -q "answer was of no use" "$STATE/stdin-$$"; then echo "Still nothing."; exit; fi
n=1
while ! mkdir "$STATE/$n" 2>/dev/null; do n=$((n + 1)); done
set -- alpha beta gamma delta epsilon zeta
shift $((n % 6)); knob=$1
turn() {
    awk -F' = ' -v by="$n" '{ printf "%s = %.6f\\n", $1, $2 + (3 - $2) * (0.4 + by / 100) }' \\
        "knobs/$knob.txt" > new && mv new "knobs/$knob.txt"
}
case $((n % 8)) in
    1|0) turn; sleep 0.2; echo "hypothesis: turn $knob" ;;
    2) turn; git add -A; git -c user.name=a -c user.email=a@b commit -qm "agent"; echo "hypothesis: commit $knob" ;;
    3) turn; setsid sh -c "exec sleep $SECONDS_OF_HANG" & wait ;;
    4) turn; (setsid sleep "$SECONDS_OF_HANG" &); echo "leave a daemon for $knob" ;;
    5) echo "Nothing to do." ;;
    6) echo 'echo loss: 0' > measure.sh; turn; echo "hypothesis: measure less" ;;
    7) turn; echo '{"type":"result","result":"hypothesis: in JSON","total_cost_usd":0.03,"usage":{"input_tokens":7}}' ;;
esac
"""


def test_an_agent_of_any_manners_is_run_to_its_end(valley: Valley, tmp_path: Path) -> None:
    state, script = tmp_path / "state", tmp_path / "agent.sh"
    state.mkdir()
    script.write_text(AGENT)
    hang = "98123"
    (valley.root / "knobs/alpha.txt").write_text("alpha = 99\n")  # the user's own work, not committed
    before = _of_the_user(valley)
    run = valley.run(
        *("--agent", shlex.join(("sh", str(script))), "--agent-timeout", "2"),
        *("-w", "4", "--yes", "--max-trials", "10", "--repeats", "1"),
        STATE=str(state),
        SECONDS_OF_HANG=hang,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert _of_the_user(valley) == before
    assert not [process for process in psutil.process_iter(["cmdline"]) if hang in (process.info["cmdline"] or ())]
    assert not (state / "wrong").exists()
    assert max(map(int, (state / "at-once").read_text().split())) == 2
    rows = {int(row["trial"]): row for row in valley.rows}
    assert sorted(rows) == list(range(11))
    reasons = Counter(row["reason"] for row in rows.values())
    assert reasons["proposer_failed"] >= 1 and reasons["improved"] >= 4
    assert any("--agent-timeout" in event["why"] for event in valley.events("Deferred"))
    assert {"commit", "leave", "in JSON"} <= {
        word for row in rows.values() for word in ("commit", "leave", "in JSON") if word in row["description"]
    }
    assert any(float(row["usd"]) == pytest.approx(0.03) for row in rows.values())
    assert valley.git("show", "autoresearch/t:measure.sh") == (valley.root / "measure.sh").read_text()
    assert any("# Repair" in path.read_text() and "out of scope" in path.read_text() for path in state.glob("stdin-*"))


def _of_the_user(valley: Valley) -> dict[str, object]:
    """Everything of the user's that a run may not change."""
    refs = [line for line in valley.git("for-each-ref").splitlines() if "autoresearch/" not in line]
    files = {
        str(path.relative_to(valley.root)): path.read_bytes()
        for path in valley.root.rglob("*")
        if path.is_file() and not {".git", ".autoresearch"} & set(path.relative_to(valley.root).parts)
    }
    return {
        "refs": refs,
        "files": files,
        "status": valley.git("status", "--porcelain"),
        "worktrees": valley.git("worktree", "list"),
        "config": (valley.root / ".git/config").read_bytes(),
        "head": (valley.root / ".git/HEAD").read_bytes(),
        "stash": valley.git("stash", "list"),
    }
