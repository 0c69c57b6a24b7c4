"""What a run may change: the user's SCOPE, less what is protected. Pure: paths are text, relative, with `/`."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from pathspec import GitIgnoreSpec

from autoresearch.errors import UsageError

_LONGEST_NAME_BYTES, _LONGEST_PATH_BYTES = 255, 3000
PROTECTED = (
    "autoresearch.toml",
    "program.md",
    ".autoresearch/",
    ".gitattributes",
    ".gitmodules",
    # continuous integration
    ".github/",
    ".gitlab-ci.yml",
    ".gitlab/",
    ".circleci/",
    ".buildkite/",
    ".woodpecker*",
    ".travis.yml",
    ".drone.yml",
    ".cirrus.yml",
    ".appveyor.yml",
    "appveyor.yml",
    "azure-pipelines*.yml",
    "bitbucket-pipelines.yml",
    "Jenkinsfile",
    ".ci/",
    # lock files
    "*.lock",
    "*.lockb",
    "*.lockfile",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "pnpm-lock.yaml",
    "packages.lock.json",
    "conda-lock.yml",
    "Package.resolved",
    "go.sum",
)
"""Never edited unless the scope names the file itself; gitignore patterns."""

_TESTS = re.compile(r"(^|/)(tests?|__tests__|spec)/|(^|/)(test_[^/]*|conftest)\.py$|_test\.\w+$|\.(test|spec)\.\w+$")
_TEST_RUN = re.compile(
    r"\b(pytest|unittest|tox|nox|jest|vitest|mocha|ctest|rspec|phpunit|(cargo|go|npm|yarn|pnpm|make) (run )?test)\b"
)
_MAGIC = re.compile(r"[*?\[]")
_SHELL_BREAKS = re.compile(r"[;&|<>()`$'\"=,:\s]+")


@dataclass(frozen=True, slots=True)
class Scope:
    """Which paths may be edited. Built by `resolve`."""

    files: tuple[str, ...]
    """The committed files that may be edited, sorted."""
    notes: tuple[str, ...] = ()
    """What the user should know of this scope before the run."""
    literal: frozenset[str] = frozenset()
    """Files that the scope names themselves."""
    folders: tuple[str, ...] = ()
    """Folders of the scope; "" is the whole repository."""
    globs: GitIgnoreSpec = field(default_factory=lambda: GitIgnoreSpec.from_lines([]))
    measured: frozenset[str] = frozenset()
    """Files that the commands name."""
    protect: GitIgnoreSpec = field(default_factory=lambda: GitIgnoreSpec.from_lines([]))
    """What the user protects: wins over everything."""
    protected: GitIgnoreSpec = field(default_factory=lambda: GitIgnoreSpec.from_lines(PROTECTED))

    def covers(self, path: str) -> bool:
        """Whether the scope's own words hold the path, a new file included; protection left aside."""
        return path in self.literal or any(_within(path, folder) for folder in self.folders) or _hit(self.globs, path)

    def why_not(self, path: str) -> str | None:
        """Why the path may not be edited; None where it may."""
        return _unsafe(path) or (self._refused(path) if self.covers(path) else "outside the scope")

    def _refused(self, path: str) -> str | None:
        if _hit(self.protect, path):
            return "protected by `--protect`"
        if path in self.literal:
            return None
        if path in self.measured:
            return "protected: a command of this run names it"
        if _hit(self.protected, path):
            return "protected by default"
        return None


def resolve(
    arguments: Sequence[str],
    tracked: Collection[str],
    prefix: str = "",
    exists: Callable[[str], bool] = lambda path: False,
    *,
    protect: Sequence[str] = (),
    commands: Iterable[str] = (),
) -> Scope:
    """Read the SCOPE arguments of a run that starts in the subfolder `prefix`.

    An argument that exists as it stands is one path, else it is split at spaces. Globs are anchored at the start
    folder: `*.py` are files there, `**/*.py` at any depth. `protect` globs without `/` match at any depth.
    `tracked` are the committed files; `exists` says whether an untracked path or glob is there; `commands` are the
    shell commands that measure, build, check, screen and hold out.

    Raises:
        UsageError: nothing was named, a word matches nothing or only files that are not committed, or all is protected.
    """
    files, folders, globs = set[str](), set[str](), list[str]()
    known = frozenset(tracked)
    for word in _words(arguments, known, prefix, exists):
        path = _normal(word, prefix)
        if path in known:
            files.add(path)
        elif any(_within(file, path) for file in known):
            folders.add(path)
        elif _MAGIC.search(word) and _any_hit(_anchored(path), known):
            globs.append(_anchored(path))
        else:
            raise _missing(word, path, exists)
    commands = tuple(commands)
    scope = Scope(
        files=(),
        literal=frozenset(files),
        folders=tuple(sorted(folders)),
        globs=_spec("SCOPE", globs),
        measured=frozenset(named_files(commands, known, prefix)),
        protect=_spec("--protect", protect),
    )
    return _complete(scope, known, commands)


def named_files(commands: Iterable[str], tracked: Collection[str], prefix: str = "") -> list[str]:
    """The committed files that shell commands name, as paths or as `-m module`, also after a `cd`; sorted."""
    found = set()
    for command in commands:
        words = _shell_words(command)
        folders = [prefix] + [_join(prefix, target) for cd, target in pairwise(words) if cd == "cd"]
        modules = [module for flag, module in pairwise(words) if flag == "-m"]
        names = words + [name for module in modules for name in _module_files(module)]
        found |= {path for folder in folders for name in names if (path := _join(folder, name)) in tracked}
    return sorted(found)


def _complete(scope: Scope, known: Collection[str], commands: Sequence[str]) -> Scope:
    """The scope with its files and notes."""
    held = sorted(path for path in known if scope.covers(path))
    files = tuple(path for path in held if scope.why_not(path) is None)
    if not files:
        why = scope.why_not(held[0])
        raise UsageError(
            f"SCOPE: nothing in it may be edited ({held[0]}: {why}); name the files themselves to allow it"
        )
    return replace(scope, files=files, notes=tuple(_notes(scope, held, files, commands)))


def _notes(scope: Scope, held: Sequence[str], files: Sequence[str], commands: Sequence[str]) -> Iterable[str]:
    editable = set(files)
    for path in held:
        if path in scope.measured and path in editable:
            yield f"{path}: a command of this run names it; the scope names it too, so it may be edited"
        elif path in scope.measured:
            yield f"{path}: stays as it is, because a command of this run names it; name it in the scope to allow edits"
        elif path in scope.literal and path in editable and _hit(scope.protected, path):
            yield f"{path}: protected by default; the scope names it, so it may be edited"
    tests = [path for path in files if _TESTS.search(path)]
    if tests and any(_TEST_RUN.search(command) for command in commands):
        yield f"the scope holds tests that the measurement may run ({_some(tests)}): a change can weaken them"


def _words(
    arguments: Sequence[str], tracked: Collection[str], prefix: str, exists: Callable[[str], bool]
) -> Sequence[str]:
    """One path for an argument that exists as it stands, else its words."""
    words = list[str]()
    for argument in filter(str.strip, arguments):
        path = _normal(argument, prefix)
        whole = path in tracked or exists(path) or any(_within(file, path) for file in tracked)
        words += [argument] if whole else argument.split()
    if not words:
        raise UsageError("SCOPE is missing: name the files, folders or globs that may be edited")
    return words


def _normal(word: str, prefix: str) -> str:
    """The path from the repository's root; "" is the root.

    Raises:
        UsageError: it leaves the repository.
    """
    path = _join(prefix, word)
    if word.startswith("/") or path == ".." or path.startswith("../"):
        raise UsageError(f"SCOPE {word}: leaves the repository; give paths inside it, relative to where you start")
    return path


def _join(prefix: str, name: str) -> str:
    path = posixpath.normpath(posixpath.join(prefix, name))
    return "" if path == "." else path


def _missing(word: str, path: str, exists: Callable[[str], bool]) -> UsageError:
    if exists(path):
        return UsageError(
            f"SCOPE {word}: not committed; run `git add` and `git commit` for it first "
            "(symbolic links and submodules cannot be edited)"
        )
    return UsageError(
        f"SCOPE {word}: matches nothing; give committed files, folders or globs relative to where you start"
    )


def _anchored(path: str) -> str:
    """A gitignore pattern for a glob from the repository's root."""
    return "/" + re.sub(r"( +)$", lambda spaces: "\\ " * len(spaces[1]), path)


def _within(path: str, folder: str) -> bool:
    return not folder or path.startswith(folder + "/")


def _spec(source: str, patterns: Sequence[str]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise UsageError(f"{source}: {error}; give paths or globs as in .gitignore") from None


def _any_hit(pattern: str, paths: Iterable[str]) -> bool:
    return next(iter(_spec("SCOPE", [pattern]).match_files(paths)), None) is not None


def _hit(spec: GitIgnoreSpec, path: str) -> bool:
    return spec.match_file(path)


def _unsafe(path: str) -> str | None:
    """Why a path could leave the worktree or reach git's own files, whatever the scope says."""
    if not path.isascii() and not _encodable(path):
        return "not a path: its name holds half a surrogate pair"
    if not path or "\0" in path or path.startswith("/") or path.endswith("/"):
        return "not a path relative to the repository's root"
    name_bytes = [len(part.encode("utf-8", "surrogateescape")) for part in path.split("/")]
    if max(name_bytes) > _LONGEST_NAME_BYTES or sum(name_bytes) + len(name_bytes) > _LONGEST_PATH_BYTES:
        return "too long: no worktree can hold it"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "not a plain path: it has an empty part, `.` or `..`"
        if part.casefold().rstrip(". ").split(":")[0] in (".git", "git~1"):
            return "`.git` is never edited"
    return None


def _encodable(path: str) -> bool:
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _shell_words(command: str) -> list[str]:
    """The words of a command, also those inside quotes, assignments and redirections."""
    try:
        words = shlex.split(command, comments=False)
    except ValueError:
        words = []
    return [word for word in [*words, *_SHELL_BREAKS.split(command)] if word]


def _module_files(module: str) -> Sequence[str]:
    path = module.replace(".", "/")
    return [f"{root}{path}{end}" for root in ("", "src/") for end in (".py", "/__main__.py")]


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
