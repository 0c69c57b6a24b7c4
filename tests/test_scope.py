"""What may be edited, and what may not whatever the scope says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.errors import UsageError
from autoresearch.scope import Scope, named_files, resolve

TRACKED = (
    "train.py",
    "prepare.py",
    "autoresearch.toml",
    "program.md",
    "uv.lock",
    ".github/workflows/ci.yml",
    "src/a.py",
    "src/b/c.py",
    "src/bench.py",
    "src/my file.py",
    "src/odd\nname.py",
    "sub/x.py",
    "sub/src/y.py",
    "tests/test_a.py",
    "tests/conftest.py",
    "web/package-lock.json",
    "web/[id].ts",
    "webpack.config.js",
)


def scope(*arguments: str, prefix: str = "", protect: tuple[str, ...] = (), commands: tuple[str, ...] = ()) -> Scope:
    return resolve(arguments, TRACKED, prefix, protect=protect, commands=commands)


def test_files_folders_and_globs() -> None:
    assert scope("train.py").files == ("train.py",)
    src = ("src/a.py", "src/b/c.py", "src/bench.py", "src/my file.py", "src/odd\nname.py")
    assert scope("src/").files == scope("src").files == scope("./src").files == src
    assert scope("src/*.py").files == tuple(path for path in src if path != "src/b/c.py")
    assert scope("src/**/*.py").files == src
    assert scope("*.py").files == ("prepare.py", "train.py")
    assert scope("tests/", "train.py").files == ("tests/conftest.py", "tests/test_a.py", "train.py")


def test_an_argument_that_exists_is_one_path_else_it_is_split() -> None:
    assert scope("src/my file.py").files == ("src/my file.py",)
    assert scope("web/[id].ts").files == ("web/[id].ts",)
    assert scope("webpack.config.js src/b").files == ("src/b/c.py", "webpack.config.js")


def test_paths_are_relative_to_the_start_folder() -> None:
    assert scope("src/", prefix="sub").files == ("sub/src/y.py",)
    assert scope("*.py", prefix="sub").files == ("sub/x.py",)
    assert scope(".", prefix="sub").files == ("sub/src/y.py", "sub/x.py")
    assert scope("../train.py", prefix="sub").files == ("train.py",)


def test_new_files_are_in_scope_where_a_folder_or_glob_covers_them() -> None:
    assert scope("src/").why_not("src/new/deep.py") is None
    assert scope("src/*.py").why_not("src/new.py") is None
    assert scope("src/*.py").why_not("src/new.txt") == "outside the scope"
    assert scope("train.py").why_not("train2.py") == "outside the scope"
    assert scope("src/").why_not("src2/new.py") == "outside the scope"
    assert scope(".").why_not("anything/at/all") is None


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "../x", "src/../../x", "src//a.py", "src/./a.py", "src/", "a\0b", "x\ud800"),
        *(".git", ".git/config", "src/.git", "src/.GIT/x", "src/.git./x", "src/.git /x", "GIT~1/x", ".git::$INDEX/x"),
    ],
)
def test_no_scope_lets_a_path_escape(path: str) -> None:
    assert scope(".").why_not(path) not in (None, "outside the scope")


def test_protected_by_default_unless_named_literally() -> None:
    everything = scope(".")
    for path in ("autoresearch.toml", "sub/program.md", "uv.lock", "web/package-lock.json", ".github/workflows/ci.yml"):
        assert everything.why_not(path) == "protected by default"
        assert path not in everything.files
    assert scope("uv.lock").why_not("uv.lock") is None
    assert scope("uv.lock").notes == ("uv.lock: protected by default; the scope names it, so it may be edited",)


def test_what_a_command_names_is_not_edited_unless_the_scope_names_it() -> None:
    command = "uv run train.py > run.log 2>&1 && grep '^val_bpb:' run.log"
    literal = scope("train.py", commands=(command,))
    assert literal.why_not("train.py") is None
    assert "so it may be edited" in literal.notes[0]
    folder = scope("src/", commands=("python src/bench.py 2>&1 | grep accuracy",))
    assert folder.why_not("src/bench.py") == "protected: a command of this run names it"
    assert "src/bench.py" not in folder.files and "src/bench.py: stays as it is" in folder.notes[0]
    assert scope("src/", commands=("ruff check src/ | tail -1",)).why_not("src/bench.py") is None


def test_protect_wins_over_everything() -> None:
    protected = scope("src/", "train.py", protect=("b/", "*.md", "src/a.*"))
    assert protected.why_not("src/a.py") == protected.why_not("src/b/c.py") == "protected by `--protect`"
    assert protected.why_not("src/deep/notes.md") == "protected by `--protect`"
    with pytest.raises(UsageError, match=r"nothing in it may be edited \(train.py: protected by `--protect`\)"):
        scope("train.py", protect=("*.py",))


def test_tests_in_scope_that_the_measurement_runs_are_said() -> None:
    notes = scope("src/ tests/", commands=("pytest --tb=no -q 2>&1 | tail -1",)).notes
    assert notes == (
        "the scope holds tests that the measurement may run (tests/conftest.py, tests/test_a.py): "
        "a change can weaken them",
    )
    assert scope("src/", commands=("pytest -q",)).notes == ()
    assert scope("tests/", commands=("ruff check src",)).notes == ()


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("python src/bench.py --fast", ["src/bench.py"]),
        ("cd sub && python x.py", ["sub/x.py"]),
        ("bash -c 'python ./train.py'", ["train.py"]),
        ("CONFIG=autoresearch.toml python -m src.b.c", ["autoresearch.toml", "src/b/c.py"]),
        ("python -m bench", ["src/bench.py"]),
        ("cat 'unclosed train.py", ["train.py"]),
        ("python 'src/my file.py'", ["src/my file.py"]),
        ("npm run build 2>&1 | grep -oP 'Total: \\K[\\d.]+'", []),
        ("pytest tests/", []),
    ],
)
def test_files_that_a_command_names(command: str, named: list[str]) -> None:
    assert named_files([command], TRACKED) == named


def test_what_matches_nothing_says_so() -> None:
    def exists(path: str) -> bool:
        return path in ("draft.py", "new", "new/*.py", "two words.py")

    def refused(*arguments: str) -> str:
        with pytest.raises(UsageError) as caught:
            resolve(arguments, TRACKED, "", exists)
        return str(caught.value)

    assert "nothing.py: matches nothing" in refused("train.py nothing.py")
    assert "*.rs: matches nothing" in refused("*.rs")
    for word in ("draft.py", "new/", "new/*.py", "two words.py"):
        assert f"{word}: not committed" in refused(word)
    assert "leaves the repository" in refused("../x") and "leaves the repository" in refused("/etc")
    assert "SCOPE: " in refused("src/*\\")
    assert "SCOPE is missing" in refused() and "SCOPE is missing" in refused("", "  ")


PARTS = st.text(st.sampled_from("ab.*[]?! \\\n"), min_size=1, max_size=4)
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@given(st.lists(PATHS, min_size=1, max_size=6, unique=True), PATHS)
def test_the_files_of_a_scope_are_those_that_it_lets_through(tracked: list[str], argument: str) -> None:
    """Whatever the names: files are committed, allowed, and complete; a literal name never acts as a pattern."""
    try:
        found = resolve([argument], tracked)
    except UsageError:
        return
    assert set(found.files) == {path for path in tracked if found.why_not(path) is None}
    if argument in tracked and argument in found.literal:
        assert set(found.files) <= {argument}


@pytest.mark.parametrize("path", ["src/" + "n" * 256, "src/" + "é" * 128, "src/" + "n/" * 1600 + "n"])
def test_a_name_that_no_file_system_holds_is_refused(path: str) -> None:
    """The commit could be made, and no worktree of it."""
    assert "too long" in (scope("src/").why_not(path) or "")


def test_the_longest_name_is_fine() -> None:
    assert scope("src/").why_not("src/" + "n" * 255) is None
