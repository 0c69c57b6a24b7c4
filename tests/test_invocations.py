"""The invocations of the documentation as people type them: real pytest, ruff, uv and npm, on checkouts of their kind.

Each checkout is made once and serves several runs, each of which has to leave it as it was.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.checkouts import HEAD_LINES, SCRIPTS, Checkout, begun_by, made, old, whole

BRIEF = ("-y", "--repeats", "1")
"""Where a measurement takes long, and how often it is repeated does not matter."""


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A shell's, with this environment's tools and empty folders of its own; nothing is fetched."""
    home = tmp_path_factory.mktemp("home")
    led = ("ANTHROPIC_", "GIT_", "UV_", "npm_", "NPM_", "PYTEST_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(led) and name != "VIRTUAL_ENV"}
    return kept | {
        "PATH": os.pathsep.join([str(SCRIPTS), os.environ.get("PATH", os.defpath)]),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "UV_CACHE_DIR": str(home / "uv"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # loading ours takes longer than the tests
        "UV_OFFLINE": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "npm_config_cache": str(home / "npm"),
        "GIT_CONFIG_GLOBAL": str(_git_config(home)),
        "GIT_OPTIONAL_LOCKS": "0",
    }


def _git_config(home: Path) -> Path:
    path = home / "gitconfig"
    path.write_text("[user]\n\tname = Jo\n\temail = jo@example.org\n[commit]\n\tgpgsign = true\n")
    return path


# 1 and 2: a package with a src layout, installed as editable into a .venv of the checkout ---------------------------

PRICES = '''\
"""Prices in cents."""


def total(prices):
    result = 0
    for price in prices[1:]:
        result += price
    return result


def discount(price, percent):
    """The price less so many percent."""
    return price * percent // 100


def tax(price):
    """What is due on top."""
    return price * 19 // 100
'''
TESTS = """\
import pytest

from shop.prices import discount, tax, total


def test_total():
    assert total([1, 2, 3]) == 6


@pytest.mark.parametrize("percent, expected", [(0, 200), (10, 180), (50, 100)])
def test_discount(percent, expected):
    assert discount(200, percent) == expected


def test_tax():
    assert tax(100) == 19
"""
PROJECT = """\
[build-system]
requires = ["uv_build"]
build-backend = "uv_build"

[project]
name = "{name}"
version = "0.1.0"
requires-python = ">=3.10"
dependencies = []
"""
RATE = ("maximize pytest pass rate", "pytest -q 2>&1 | tail -1", "src/")
COUNT = ("maximize test pass count", "pytest --tb=no -q 2>&1 | tail -1", "src/ tests/")
SUM_ALL = old("src/shop/prices.py", "prices[1:]", "prices")
LESS = old("src/shop/prices.py", "return price * percent", "return price - price * percent")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Checkout:
    """Its own environment is activated, as a person does before typing `pytest`."""
    files = {
        ".gitignore": ".venv/\n__pycache__/\n",
        "pyproject.toml": PROJECT.format(name="shop"),
        "src/shop/__init__.py": "",
        "src/shop/prices.py": PRICES,
        "tests/test_prices.py": TESTS,
    }
    checkout = made(tmp_path_factory, env, files)
    checkout.sh("uv", "venv", "--quiet", "--python", sys.executable, ".venv")
    checkout.sh("uv", "pip", "install", "--quiet", "--editable", ".")
    # pytest is this environment's: nothing is downloaded for a test.
    (site,) = checkout.root.glob(".venv/lib/python*/site-packages")
    (site / "tools.pth").write_text(os.path.dirname(os.path.dirname(pytest.__file__)))
    program = checkout.root / ".venv" / "bin" / "pytest"
    python = begun_by(checkout.root / ".venv" / "bin" / "python")
    program.write_text(f"{python}import pytest\nraise SystemExit(pytest.main())\n")
    program.chmod(0o755)
    venv = str(checkout.root / ".venv")
    return Checkout(checkout.root, env | {"VIRTUAL_ENV": venv, "PATH": f"{venv}/bin{os.pathsep}{env['PATH']}"})


def test_pass_rate_of_an_editable_install(package: Checkout) -> None:
    lines = package.replay(
        ("sum all prices", SUM_ALL),
        ("weaken a test", old("tests/test_prices.py", "== 19", "> 0")),
        ("break the import", old("src/shop/prices.py", "def tax(price):", "def tax(price:")),
        ("leave at once", old("src/shop/prices.py", '"""Prices', 'import os; os._exit(0)\n"""Prices')),
        ("what is not there", old("src/shop/prices.py", "prices[2:]", "prices")),
        ("the same again", SUM_ALL | {"old": "price in prices:", "new": "price in prices :"}),
        ("take the discount off the price", LESS),
        ("never asked for", old("src/shop/prices.py", "result = 0", "result = 1")),
    )
    ended = package.do(*RATE, "--tag", "rate", "--proposer", lines, "-y", "--workers", "1", "--proposers", "1")
    assert ended.code == 0
    assert ended.verdicts == {
        0: ("keep", "baseline", "baseline"),
        1: ("keep", "improved", "sum all prices"),
        2: ("crash", "out_of_scope", "weaken a test"),
        3: ("discard", "worse", "break the import"),
        4: ("crash", "no_metric", "leave at once"),
        5: ("crash", "does_not_apply", "what is not there"),
        6: ("discard", "equal", "the same again"),
        7: ("keep", "improved", "take the discount off the price"),
    }
    assert ended.values == {0: "0.4", 1: "0.6", 2: "ERR", 3: "0.0", 4: "ERR", 5: "ERR", 6: "0.6", 7: "1.0"}
    assert [row["parent"] for row in ended.rows] == ["", "0", "1", "1", "1", "1", "1", "1"]
    assert [float(row["delta"] or 0) for row in ended.rows] == pytest.approx([0, 0.2, 0, -0.6, 0, 0, 0, 0.4])
    assert list(ended.rows[0])[:4] == ["commit", "pytest.rate", "status", "description"]
    assert ended.head == [
        "=== Autoresearch Summary ===",
        "Branch: autoresearch/rate",
        "Experiments run: 7",
        "Kept: 2",
        "Discarded: 2",
        "Crashed: 3",
        "Baseline metric: 0.4",
        "Best metric: 1 (improvement: +150.0%)",
        "",
    ]
    commits = [row["commit"] for row in ended.rows]
    assert ended.summary[HEAD_LINES : HEAD_LINES + 10] == [
        "Top improvements:",
        f"1. {commits[7]} — take the discount off the price — 1",
        f"2. {commits[1]} — sum all prices — 0.6",
        "",
        "Failed ideas:",
        "- the same again — 0.6, equal",
        "- break the import — 0, worse",
        "- weaken a test — ERR, out_of_scope",
        "- leave at once — ERR, no_metric",
        "- what is not there — ERR, does_not_apply",
    ]
    assert "Stopped: nothing left to gain: the metric is at its bound" in ended.summary
    assert package.log("rate") == ["sum all prices", "take the discount off the price"]
    assert package.git("log", "-1", "--format=%an <%ae>%n%n%B", "autoresearch/rate").strip().split("\n\n") == [
        "Jo <jo@example.org>",
        "take the discount off the price",
        "pytest.rate: 0.6 -> 1",
        "Autoresearch-Trial: 7\nAutoresearch-Model: replay\nMetric-Before: 0.6\nMetric-After: 1.0\nMeasurements: 2",
    ]
    assert package.show("rate", "src/shop/prices.py") == PRICES.replace("[1:]", "").replace(
        "return price * percent", "return price - price * percent"
    )
    assert package.git("diff", "--name-only", "main", "autoresearch/rate").split() == ["src/shop/prices.py"]


def test_pass_count_with_the_tests_in_scope(package: Checkout) -> None:
    lines = package.replay(
        ("sum all prices", SUM_ALL),
        ("a test more", whole("tests/test_more.py", "from shop.prices import tax\n\n\ndef test_it():\n    tax(0)\n")),
        ("break the import", old("src/shop/prices.py", "def tax(price):", "def tax(price:")),
        ("a note", old("src/shop/prices.py", "What is due on top.", "What is due on top of it.")),
        ("another version", old("pyproject.toml", "0.1.0", "0.2.0")),
    )
    ended = package.do(*COUNT, "--tag", "count", "--proposer", lines, *BRIEF, "--workers", "2")
    assert ended.code == 0
    assert {trial: verdict[:2] for trial, verdict in ended.verdicts.items()} == {
        0: ("keep", "baseline"),
        1: ("keep", "improved"),
        2: ("keep", "improved"),
        3: ("discard", "worse"),
        4: ("discard", "equal"),
        5: ("crash", "out_of_scope"),
    }
    assert "the scope holds tests that the measurement may run" in ended.plan
    assert "Worktrees get .venv (copied" in ended.plan
    assert ended.head[2:8] == [
        "Experiments run: 5",
        "Kept: 2",
        "Discarded: 2",
        "Crashed: 1",
        "Baseline metric: 2",
        "Best metric: 4 (improvement: +100.0%)",
    ]
    assert sorted(package.log("count")) == ["a test more", "sum all prices"]
    assert "tests/test_more.py" in package.git("ls-tree", "-r", "--name-only", "autoresearch/count")


def test_an_environment_elsewhere_imports_the_worktree(package: Checkout, tmp_path: Path) -> None:
    """Its editable install points into the checkout; what is measured is each slot's own."""
    venv = tmp_path / "venv"
    package.sh("uv", "venv", "--quiet", "--python", sys.executable, str(venv))
    package.sh("uv", "pip", "install", "--quiet", "--python", str(venv), "--editable", ".")
    command = f"'{venv}/bin/python' -c 'from shop.prices import total; print(total([1, 2, 3]))'"
    lines = package.replay(("sum all prices", SUM_ALL))
    active = Checkout(package.root, package.env | {"VIRTUAL_ENV": str(venv)})
    ended = active.do("maximize it", command, "src", "--tag", "elsewhere", "--proposer", lines, *BRIEF)
    assert ended.values == {0: "5.0", 1: "6.0"}
    assert "imports `src` from this checkout; slots put their own first" in ended.plan


# 3: a packaged uv project with a train.py ---------------------------------------------------------------------------

PREPARE = """\
# Fixed: the evaluation.
def evaluate_bpb(rate, depth):
    return 0.9 + (rate - 0.04) ** 2 * 50 + abs(depth - 8) * 0.001
"""
TRAIN = """\
import nano
from prepare import evaluate_bpb

MATRIX_LR = 0.02

DEPTH = 8

DEVICE_BATCH_SIZE = 128

for step in range(3):
    print(f"\\rstep {step:05d} | loss: {3.0 - step * 0.1:.6f}", end="", flush=True)
print()
print("---")
print(f"val_bpb:          {evaluate_bpb(MATRIX_LR * nano.SCALE, DEPTH):.6f}")
print("training_seconds: 300.1")
print(f"peak_vram_mb:     {DEVICE_BATCH_SIZE * 352.03:.1f}")
print(f"num_steps:        {step + 1}")
"""
TRAINING = ("minimize val_bpb", "uv run train.py > run.log 2>&1 && grep '^val_bpb:' run.log", "train.py")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Checkout:
    files = {
        ".gitignore": ".venv/\n__pycache__/\nrun.log\nresults.tsv\n",
        "pyproject.toml": PROJECT.format(name="nano"),
        "src/nano/__init__.py": "SCALE = 1.0\n",
        "prepare.py": PREPARE,
        "train.py": TRAIN,
        "program.md": "LOOP FOREVER: edit train.py, `uv run train.py > run.log 2>&1`, keep or reset.\n",
    }
    checkout = made(tmp_path_factory, env, files)
    checkout.sh("uv", "lock", "--quiet")
    checkout.commit({})
    checkout.sh("uv", "sync", "--quiet")
    return checkout


def test_training_with_uv(training: Checkout) -> None:
    lines = training.replay(
        ("increase LR to 0.04", old("train.py", "MATRIX_LR = 0.02", "MATRIX_LR = 0.04")),
        ("double model width (OOM)", old("train.py", "DEPTH = 8", 'raise MemoryError("CUDA out of memory")')),
        ("switch to GeLU", old("train.py", "DEPTH = 8", "DEPTH = 12")),
        ("an easier evaluation", old("prepare.py", "0.9 +", "0.1 +")),
        ("diverges", old("train.py", "{evaluate_bpb(MATRIX_LR * nano.SCALE, DEPTH):.6f}", "{float('nan'):.6f}")),
        ("half the batch", old("train.py", "BATCH_SIZE = 128", "BATCH_SIZE = 64")),
        ("a name that nobody reads", old("train.py", "val_bpb:  ", "bpb:  ")),
    )
    ended = training.do(*TRAINING, "--tag", "uv", "--proposer", lines, *BRIEF, "--workers", "2")
    assert ended.code == 0
    assert {trial: verdict[:2] for trial, verdict in ended.verdicts.items()} == {
        0: ("keep", "baseline"),
        1: ("keep", "improved"),
        2: ("crash", "exit"),
        3: ("discard", "worse"),
        4: ("crash", "out_of_scope"),
        5: ("crash", "no_metric"),
        6: ("discard", "equal"),
        7: ("crash", "exit"),
    }
    assert "Worktrees get .venv (copied, then `uv sync --frozen --offline`" in ended.plan
    assert "train.py: a command of this run names it; the scope names it too, so it may be edited" in ended.plan
    assert ended.head[2:8] == [
        "Experiments run: 7",
        "Kept: 1",
        "Discarded: 2",
        "Crashed: 4",
        "Baseline metric: 0.92",
        "Best metric: 0.9 (improvement: -2.2%)",
    ]
    assert "trial 2 crashed (exit: status 1): double model width (OOM)" in ended.plan
    assert training.show("uv", "train.py") == TRAIN.replace("0.02", "0.04")
    log = (training.root / ".autoresearch" / "uv" / "logs" / "2.log").read_text()
    assert "--- run.log\n" in log and "MemoryError: CUDA out of memory" in log


def test_the_table_serves_the_analysis_that_people_have(training: Checkout) -> None:
    """What his notebook does: numbers or nothing, status in capitals, the running best of the keeps."""
    lines = training.replay(
        ("increase LR to 0.03", old("train.py", "0.02", "0.03")),
        ("a slip", old("train.py", "DEPTH = 8", "DEPTH = ")),
        ("deeper", old("train.py", "DEPTH = 8", "DEPTH = 9")),
        ("increase LR to 0.04", old("train.py", "0.03", "0.04")),
    )
    words = ("--tag", "table", "--proposer", lines, *BRIEF, "--workers", "1", "--proposers", "1")
    rows = training.do(*TRAINING, *words).rows
    assert [name for name in rows[0]][:5] == ["commit", "val_bpb", "status", "description", "memory_gb"]
    values = [None if row["val_bpb"] == "ERR" else float(row["val_bpb"]) for row in rows]
    assert values == [0.92, 0.905, None, 0.906, 0.9]
    kept = [row for row in rows if row["status"].strip().upper() == "KEEP"]
    assert [(row["description"], row["memory_gb"]) for row in kept] == [
        ("baseline", "44.0"),
        ("increase LR to 0.03", "44.0"),
        ("increase LR to 0.04", "44.0"),
    ]
    assert all(len(row["commit"]) == 7 for row in kept)


@pytest.mark.parametrize("locked", [True, False])
def test_the_projects_own_package_is_the_worktrees(training: Checkout, tmp_path: Path, locked: bool) -> None:
    """With the environment of the checkout carried along, and with one that `uv run` makes in each slot."""
    checkout = training
    if not locked:
        training.git("clone", "-q", ".", str(tmp_path / "clone"))
        checkout = Checkout(tmp_path / "clone", training.env)
    lines = checkout.replay(("scale 2", old("src/nano/__init__.py", "1.0", "2.0")))
    words = ("--tag", f"own-{locked}", "--proposer", lines, *BRIEF, "--workers", "2")
    ended = checkout.do(*TRAINING[:2], "src", *words)
    assert ended.values == {0: "0.92", 1: "0.9"}
    assert (checkout.root / ".venv").exists() == locked


# 4: an npm workspace ------------------------------------------------------------------------------------------------

BUILD = """\
// Bundles the entry and the modules that it requires, and prints how many bytes that takes.
const fs = require("fs");
const path = require("path");
const config = require("./webpack.config.js");

function bundle(file) {
  let text = fs.readFileSync(file, "utf8");
  new Function("require", "module", "exports", text);
  for (const [, name] of text.matchAll(/require\\("([^"]+)"\\)/g)) {
    const found = require.resolve(name, { paths: [path.dirname(file)] });
    if (!found.startsWith(__dirname + path.sep)) throw new Error(found + " is of another workspace");
    text += bundle(found);
  }
  return text;
}

let output = bundle(path.resolve(config.entry));
if (config.minimize) output = output.replace(/ +/g, " ");
fs.mkdirSync("dist", { recursive: true });
fs.writeFileSync("dist/main.js", output);
console.log("asset main.js 1 module");
console.log("Total: " + Buffer.byteLength(output));
"""
ENTRY = """\
// The page's entry.
const ui = require("@site/ui");

function page() {
  return ui.button("Send");
}

module.exports = page;
"""
WEBPACK = "module.exports = {\n  entry: './src/index.js',\n  minimize: false,\n};\n"
UI = 'exports.button = (text) => "<button>" + text + "</button>";\n'
BUNDLE = ("minimize bundle size bytes", "npm run build 2>&1 | grep -oP 'Total: \\K[\\d.]+'", "webpack.config.js src/")
needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Checkout:
    """Its `node_modules` holds a link to a package of the workspace."""
    package = {
        "name": "site",
        "version": "1.0.0",
        "private": True,
        "workspaces": ["packages/*"],
        "scripts": {"build": "node build.js"},
        "dependencies": {"@site/ui": "*"},
    }
    files = {
        ".gitignore": "node_modules/\ndist/\n",
        "package.json": json.dumps(package),
        "packages/ui/package.json": json.dumps({"name": "@site/ui", "version": "1.0.0", "main": "index.js"}),
        "packages/ui/index.js": UI,
        "webpack.config.js": WEBPACK,
        "build.js": BUILD,
        "src/index.js": ENTRY,
    }
    checkout = made(tmp_path_factory, env, files)
    checkout.sh("npm", "install", "--offline", "--no-audit", "--no-fund", "--no-package-lock")
    assert (checkout.root / "node_modules" / "@site" / "ui").is_symlink()
    return checkout


@needs_npm
def test_bundle_size_of_a_workspace(site: Checkout) -> None:
    lines = site.replay(
        ("minimize", old("webpack.config.js", "false", "true")),
        ("no comment", old("src/index.js", "// The page's entry.\n", "")),
        ("a slip", old("src/index.js", "function page() {", "function page( {")),
        ("a smaller button", old("packages/ui/index.js", '"<button>" + text', "text")),
        ("no entry", {"path": "src/index.js", "delete": True}),
    )
    ended = site.do(*BUNDLE, "--tag", "bundle", "--proposer", lines, *BRIEF, "--workers", "2")
    assert ended.code == 0
    assert {trial: verdict[:2] for trial, verdict in ended.verdicts.items()} == {
        0: ("keep", "baseline"),
        1: ("keep", "improved"),
        2: ("keep", "improved"),
        3: ("crash", "exit"),
        4: ("crash", "out_of_scope"),
        5: ("crash", "exit"),
    }
    assert list(ended.rows[0])[1] == "metric"
    size = len(ENTRY) + len(UI)
    best = size - len("// The page's entry.\n") - 1
    assert ended.values[0] == f"{size}.0"
    assert f"Baseline metric: {size}" in ended.head
    assert ended.head[7].startswith(f"Best metric: {best} (improvement: -")
    assert "Worktrees get node_modules (copied" in ended.plan
    assert sorted(site.log("bundle")) == ["minimize", "no comment"]


# 5: ruff ------------------------------------------------------------------------------------------------------------

REPORT = """\
import os
import sys


def lines(rows):
    return [str(row) for row in rows]


def total(rows):
    unused = 3
    return sum(rows)
"""
OTHER = "def find(text):\n    return undefined_name(text)\n"
RUFF = ("minimize ruff warnings", "ruff check src/ 2>&1 | tail -1", "src/")
WORKS = "ruff check src/ 2>&1 | grep -E '^Found|^All checks'"
CLEAN_UP = ("no unused imports", old("src/report.py", "import os\nimport sys\n\n\n", ""))


@pytest.fixture(scope="module")
def lint(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Checkout:
    return made(tmp_path_factory, env, {"src/report.py": REPORT, "src/other.py": OTHER})


def test_ruff_whose_last_line_is_no_reading(lint: Checkout) -> None:
    assert "fixable" in lint.sh("bash", "-c", RUFF[1])
    lines = lint.replay(
        CLEAN_UP,
        ("see nothing", whole("ruff.toml", 'exclude = ["src"]\n')),
        ("import more", old("src/other.py", "def find", "import abc\n\n\ndef find")),
        ("a known name", old("src/other.py", "undefined_name(text)", "text")),
        ("nothing unused", old("src/report.py", "    unused = 3\n", "")),
        ("never asked for", old("src/report.py", "def total", "def totals")),
    )
    ended = lint.do(*RUFF, "--tag", "ruff", "--proposer", lines, "--yes", "--workers", "1", "--proposers", "1")
    assert ended.code == 0
    assert f"Using one that works: {WORKS}" in ended.plan
    assert f"Measure {WORKS}" in ended.plan
    assert {trial: verdict[:2] for trial, verdict in ended.verdicts.items()} == {
        0: ("keep", "baseline"),
        1: ("keep", "improved"),
        2: ("crash", "out_of_scope"),
        3: ("discard", "worse"),
        4: ("keep", "improved"),
        5: ("keep", "improved"),
    }
    assert ended.values == {0: "4.0", 1: "2.0", 2: "ERR", 3: "3.0", 4: "1.0", 5: "0.0"}
    assert ended.head[2:8] == [
        "Experiments run: 5",
        "Kept: 3",
        "Discarded: 1",
        "Crashed: 1",
        "Baseline metric: 4",
        "Best metric: 0 (improvement: -100.0%)",
    ]
    assert "Stopped: nothing left to gain: the metric is at its bound" in ended.summary


def test_ruff_with_many_workers(lint: Checkout) -> None:
    lines = lint.replay(CLEAN_UP, ("a known name", old("src/other.py", "undefined_name(text)", "text")))
    ended = lint.do(*RUFF, "--tag", "ruff-3", "--proposer", lines, "--yes", "--workers", "3")
    assert {verdict[:2] for verdict in ended.verdicts.values()} == {("keep", "baseline"), ("keep", "improved")}
    assert "Best metric: 1 (improvement: -75.0%)" in ended.summary


def test_without_a_terminal_a_command_is_not_replaced_unasked(lint: Checkout) -> None:
    assert "pass --yes" in lint.refuse(*RUFF, "--proposer", "mutate")


def test_check_says_which_command_works(lint: Checkout) -> None:
    ended = lint.do("check", *RUFF)
    assert ended.code == 0
    assert f"Measure {WORKS}" in ended.plan
    assert "Baseline 4, measured 3 times, all equal" in ended.plan


def test_nothing_left_to_gain(lint: Checkout, tmp_path_factory: pytest.TempPathFactory) -> None:
    clean = made(tmp_path_factory, lint.env, {"src/a.py": "def total(rows):\n    return sum(rows)\n"})
    lines = clean.replay(("never asked for", old("src/a.py", "total", "totals")))
    ended = clean.do(*RUFF, "--tag", "clean", "--proposer", lines, "--yes", "--workers", "2")
    assert ended.code == 0
    assert ended.verdicts == {0: ("keep", "baseline", "baseline")}
    assert "Experiments run: 0" in ended.summary
    assert "Stopped: nothing left to gain: the metric is at its bound" in ended.summary
    assert "! nothing left to gain: the metric is at its bound" in clean.do("check", *RUFF).plan


# 6: a benchmark, and a repository with settings ---------------------------------------------------------------------

BENCHMARK = """\
import sys

from src.pipeline.extract import amount

CASES = [("Total: 12.50 EUR", 12.5), ("Sum 8", 8.0), ("You owe 1,250.00", 1250.0), ("3 items, 9.99", 9.99)]

hits = sum(amount(text) == expected for text, expected in CASES)
print(f"read {len(CASES)} documents", file=sys.stderr)
print(f"accuracy: {100 * hits / len(CASES):.1f}%")
"""
EXTRACT = r"""import re


def amount(text):
    found = re.search(r"\d+\.\d+", text)
    return float(found[0]) if found else None
"""
ACCURACY = ("maximize extraction accuracy", "python benchmark.py 2>&1 | grep accuracy", "src/pipeline/")
EXTRACTIONS = (
    ("thousands", old("src/pipeline/extract.py", "return float", 'text = text.replace(",", "")\n    return float')),
    ("no separators", old("src/pipeline/extract.py", 'r"\\d+\\.\\d+", text', 'r"\\d+\\.\\d+", text.replace(",", "")')),
    ("raise", old("src/pipeline/extract.py", "    found =", "    raise ValueError\n    found =")),
    ("a module more", whole("src/pipeline/more.py", "X = 1\n")),
    ("grade oneself", old("benchmark.py", "100 * hits", "100 * 4")),
)
EXTRACTED = {
    0: ("keep", "baseline"),
    1: ("discard", "equal"),
    2: ("keep", "improved"),
    3: ("crash", "exit"),
    4: ("discard", "equal"),
    5: ("crash", "out_of_scope"),
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Checkout:
    files = {".gitignore": "__pycache__/\n", "benchmark.py": BENCHMARK, "src/pipeline/extract.py": EXTRACT}
    return made(tmp_path_factory, env, files)


def test_accuracy_of_a_benchmark(pipeline: Checkout) -> None:
    lines = pipeline.replay(*EXTRACTIONS)
    ended = pipeline.do(*ACCURACY, "--tag", "six", "--proposer", lines, "-y", "--workers", "3")
    assert ended.code == 0
    assert {trial: verdict[:2] for trial, verdict in ended.verdicts.items()} == EXTRACTED
    assert list(ended.rows[0])[1] == "accuracy"
    assert ended.head == [
        "=== Autoresearch Summary ===",
        "Branch: autoresearch/six",
        "Experiments run: 5",
        "Kept: 1",
        "Discarded: 2",
        "Crashed: 2",
        "Baseline metric: 50",
        "Best metric: 75 (improvement: +50.0%)",
        "",
    ]
    assert pipeline.log("six") == ["no separators"]


def test_settings_and_nothing_but_workers(pipeline: Checkout, tmp_path: Path) -> None:
    pipeline.git("clone", "-q", ".", str(tmp_path / "clone"))
    checkout = Checkout(tmp_path / "clone", pipeline.env)
    settings = dict(zip(("objective", "measure", "scope"), ACCURACY, strict=True))
    settings |= {"proposer": checkout.replay(*EXTRACTIONS), "tag": "eight"}
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    (checkout.root / "autoresearch.toml").write_text(f"yes = true\n{text}")
    with checkout.untouched():
        said = checkout.sh("autoresearch", "--workers", "8")
    table = (checkout.root / ".autoresearch" / "eight" / "results.tsv").read_text().splitlines()
    rows = [row.split("\t") for row in table[1:]]
    assert {int(row[6]): (row[2], row[5]) for row in rows} == EXTRACTED
    assert "Workers        8, " in said
    assert "Stops          after the last line of its file" in said
    assert "Best metric: 75 (improvement: +50.0%)\n" in said


# Without a model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [pytest.param("training", TRAINING, marks=pytest.mark.slow), ("pipeline", ACCURACY)],
)
def test_mutate_makes_its_trials_anywhere(name: str, words: Sequence[str], request: pytest.FixtureRequest) -> None:
    checkout: Checkout = request.getfixturevalue(name)
    ended = checkout.do(*words, "--tag", "mutate", "--proposer", "mutate", "--max-trials", "2", *BRIEF)
    assert ended.code == 0
    assert sorted(ended.verdicts) == [0, 1, 2]
    assert "Experiments run: 2" in ended.head
    assert "Stopped: --max-trials reached" in ended.summary


# What people also type ----------------------------------------------------------------------------------------------

ADD = "def add(a, b):\n    return a - b\n"
TEST_ADD = "from calc import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n\n\ndef test_no():\n    add(0, 0)\n"
PLUS = ("plus", old("sub/calc.py", "a - b", "a + b"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> Checkout:
    files = {
        ".gitignore": "__pycache__/\n",
        "value.py": "X = 1.0\n",
        "sub/conftest.py": "",
        "sub/calc.py": ADD,
        "sub/test_calc.py": TEST_ADD,
    }
    return made(tmp_path_factory, env, files)


@pytest.mark.parametrize(
    ("tag", "folder", "measure", "scope"),
    [
        ("inside", "sub", "pytest -q | tail -1", "calc.py"),
        ("into", "", "cd sub && pytest -q | tail -1", "sub/calc.py"),
    ],
)
def test_a_subfolder(odd: Checkout, tag: str, folder: str, measure: str, scope: str) -> None:
    words = ("--tag", tag, "--proposer", odd.replay(PLUS), *BRIEF, "--workers", "1")
    ended = odd.do("maximize pass rate", measure, scope, *words, folder=folder)
    assert ended.values == {0: "0.5", 1: "1.0"}
    assert odd.show(tag, "sub/calc.py") == ADD.replace("-", "+")


def test_each_reading_of_an_ambiguous_output_comes_with_what_picks_it(odd: Checkout) -> None:
    values = [3, 4, 3.5, 5]
    words = ("minimize the loss", "echo 'epoch 3 of 4: alpha 3.5 beta 5'", "value.py")
    complaint = odd.refuse(*words, "-y", "--proposer", "mutate", "--workers", "1")
    first, *shown = complaint.splitlines()
    assert first == f"error: the output has {len(values)} readings; say which one is the metric:"
    readings = [shlex.split(line) for line in shown]
    assert [float(value) for *_, value in readings] == values
    flag, pick, value = readings[-1]
    ended = odd.do("check", *words, flag, pick, "--workers", "1", "--no-canary")
    assert f"Baseline {float(value):g}, measured 3 times, all equal" in ended.plan


def test_run_time_of_a_silent_command(odd: Checkout) -> None:
    lines = odd.replay(("sleep less", old("value.py", "1.0", "0.01")))
    words = ("--tag", "time", "--proposer", lines, *BRIEF, "--workers", "1")
    ended = odd.do("minimize run time", "python -c 'import time, value; time.sleep(value.X)'", "value.py", *words)
    assert list(ended.rows[0])[1] == "wall_seconds"
    assert float(ended.values[0]) > 1
    assert ended.verdicts[1][:2] == ("keep", "improved")
