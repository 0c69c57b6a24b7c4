"""What is measured in place of a worktree's files: read from commands, build files, interpreters and links.

Asked only where the canary was not noticed. Each finding is a line that says what is used, and how to mend that.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from autoresearch.measurers.environment import setup_env
from autoresearch.measurers.paths import inside
from autoresearch.scope import named_files

_FINDINGS = 6
_MODULES = 5
_READ_BYTES = 1 << 20
_SECONDS = 10.0
_BUILD_FILES = (
    *("Makefile", "makefile", "GNUmakefile", "justfile", "CMakeLists.txt", ".cargo/config.toml", ".cargo/config"),
    *("package.json", "pyproject.toml", "setup.cfg", "tox.ini", "noxfile.py", "pytest.ini", "conftest.py"),
)
_TARGETS = ("CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "GOBIN")
_REST = r"[^\s'\"`;|&<>()$,=*?\[\]{}:#\\]"
_PATH = re.compile(rf"(?<![\w./~$}}-])/(?!/){_REST}+")
_SYSTEM = re.compile(r"/(usr|bin|sbin|lib\w*|etc|dev|proc|sys|opt|nix|snap|run|Library|System|Applications)(/|$)")
_PYTHON = re.compile(r"(python|pypy)[\d.]*$")
_FIND = """
import importlib.util, json, sys
found = {}
for name in sys.argv[1:]:
    spec = importlib.util.find_spec(name)
    if spec is not None:
        found[name] = spec.origin or next(iter(spec.submodule_search_locations or []), "")
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where the measurement was taken that did not notice the canary."""

    root: Path
    """The user's checkout."""
    roots: Sequence[str]
    """All its spellings."""
    worktree: Path
    """A slot's."""
    commands: Sequence[str]
    scope: Sequence[str]
    """The files that were replaced."""
    tracked: Sequence[str] = ()
    prefix: str = ""
    """The folder in which commands start, relative to the root."""
    pythonpath: Sequence[str] = ()
    """Folders of the worktree that come first on PYTHONPATH."""
    environ: Mapping[str, str] = field(default_factory=dict)


def diagnose(place: Surroundings) -> list[str]:
    """Lines that say what is measured instead; empty where nothing can be told. Starts interpreters: for a thread."""
    found = [*_named_in_checkout(place), *_imported(place), *_linked(place), *_shared(place)]
    return list(dict.fromkeys(found))[:_FINDINGS]


# Paths in commands and build files


def _texts(place: Surroundings) -> Iterator[tuple[str, str]]:
    """What may name paths: the commands, then files that they name or that build tools read."""
    for command in place.commands:
        yield "the command", command
    named = [*named_files(place.commands, place.tracked, place.prefix), *_BUILD_FILES]
    for name in dict.fromkeys(os.path.normpath(name) for name in named):
        for number, line in enumerate(_read(place.root / name).splitlines(), 1):
            yield f"{name}:{number}", line


def _named_in_checkout(place: Surroundings) -> Iterator[str]:
    roots = "|".join(re.escape(root) for root in place.roots)  # which may hold what no other path is seen to hold
    for where, text in _texts(place):
        for path in re.findall(rf"((?:{roots})(?:/{_REST}*)?)(?![\w.-])", text):
            relative = inside(path, place.roots)
            if relative is not None and not _PYTHON.match(os.path.basename(path)):
                here = os.path.relpath(relative, place.prefix or ".")
                yield f"{where} names {path}, in your checkout: write it relative to where the run starts, as {here}"


def _shared(place: Surroundings) -> Iterator[str]:
    """Folders outside of the worktree that builds may go to."""
    for name in _TARGETS:
        if os.path.isabs(place.environ.get(name, "")):
            yield f"{name} is {place.environ[name]}, one folder for your checkout and all slots: unset it for the run"
    home = Path(place.environ.get("HOME", "/"))
    texts = [*_texts(place), ("~/.cargo/config.toml", _target_line(home / ".cargo" / "config.toml"))]
    for where, text in texts:
        for path in _PATH.findall(text):
            ours = inside(path, [*place.roots, str(place.worktree)]) is not None
            if not ours and not _SYSTEM.match(path) and os.path.exists(path) and not _program(path):
                yield f"{where} names {path}, which your checkout and all slots share: use a path below the worktree"


def _target_line(config: Path) -> str:
    return next((line for line in _read(config).splitlines() if line.startswith("target-dir")), "")


def _program(path: str) -> bool:
    return os.path.basename(os.path.dirname(path)) == "bin" and os.access(path, os.X_OK)


# Python


def _imported(place: Surroundings) -> Iterator[str]:
    """Modules of the scope that an interpreter of the commands finds elsewhere."""
    modules = dict(_modules(place))
    env = _environment(place)
    for python, flags in _interpreters(place, env) if modules else ():
        for name, origin in _find(python, flags, list(modules), env).items():
            if inside(origin, [str(place.worktree)]) is not None:
                continue
            path = modules[name] if modules[name] == "." else os.path.relpath(modules[name], place.prefix or ".")
            ignored = f"{flags[0]} makes Python ignore PYTHONPATH: leave it out" if flags else ""
            if inside(origin, place.roots) is not None:
                how = ignored or f"begin the command with `PYTHONPATH={path}`"
                yield f"{python} imports `{name}` from {origin}, in your checkout: {how}"
            else:
                how = ignored or f"begin the command with `PYTHONPATH={path}`, or install it by `pip install -e`"
                yield f"{python} imports `{name}` from {origin}, an installed copy: {how}"


def _modules(place: Surroundings) -> Iterator[tuple[str, str]]:
    """Top-level modules and packages that the scope's files belong to, each with the folder to import it from."""
    found: dict[str, str] = {}
    for file in place.scope:
        path = PurePosixPath(file)
        if path.suffix not in (".py", ".pyi", ".pyx", ".so"):
            continue
        top = path.with_suffix("") if path.stem != "__init__" else path.parent
        while (place.root / top.parent / "__init__.py").is_file() or (len(top.parts) > 2 and top.parts[0] == "src"):
            top = top.parent
        if top.name.isidentifier() and len(found) < _MODULES:
            found.setdefault(top.name, str(top.parent))
    yield from found.items()


def _environment(place: Surroundings) -> dict[str, str]:
    env = setup_env(place.environ, worktree=place.worktree, slot=0, tag="", checkout=place.root)
    first = [str(place.worktree / folder) for folder in place.pythonpath]
    env["PYTHONPATH"] = os.pathsep.join([*first, *filter(None, [env.get("PYTHONPATH", "")])])
    return env | {"PYTHONDONTWRITEBYTECODE": "1"}


def _interpreters(place: Surroundings, env: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """The interpreters that the commands start, each with its flags that hide PYTHONPATH."""
    start = place.worktree / place.prefix
    found: dict[str, list[str]] = {}
    for command in place.commands:
        words = _words(command)
        flags = [word for word in words if word in ("-I", "-E")]
        for word in words:
            program = str(start / word) if "/" in word else shutil.which(word, path=env.get("PATH")) or ""
            if python := program if _PYTHON.match(os.path.basename(program)) else _shebang(program):
                found.setdefault(python, flags)
        if "uv" in words:
            found.setdefault(str(start / ".venv" / "bin" / "python"), flags)
    if not found and (usual := shutil.which("python3", path=env.get("PATH"))):
        found[usual] = []
    yield from ((python, flags) for python, flags in found.items() if os.access(python, os.X_OK))


def _shebang(program: str) -> str:
    """The Python that a script says it is run by, or an empty string."""
    if not os.path.isabs(program) or not os.path.isfile(program):
        return ""
    with open(program, "rb") as file:
        first = file.read(300).split(b"\n")[0].decode(errors="replace")
    python = first.removeprefix("#!").split()[:1] if first.startswith("#!") else []
    return python[0] if python and _PYTHON.match(os.path.basename(python[0])) else ""


def _find(python: str, flags: Sequence[str], modules: Sequence[str], env: Mapping[str, str]) -> dict[str, str]:
    """Where an interpreter finds modules, from a folder that has none of them."""
    try:
        answer = subprocess.run(
            [python, *flags, "-c", _FIND, *modules],
            cwd="/",
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
        return dict(json.loads(answer.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return {}


def _words(command: str) -> list[str]:
    try:
        return shlex.split(re.sub(r"[;|&()<>]", " ", command))
    except ValueError:
        return command.split()


# Node


def _linked(place: Surroundings) -> Iterator[str]:
    """Packages in a worktree's node_modules that are folders of the checkout."""
    folders = {"", place.prefix, *(os.path.dirname(path) for path in place.scope)}
    folders |= {str(parent) for folder in folders for parent in PurePosixPath(folder).parents}
    for folder in sorted(folders):
        modules = place.worktree / folder / "node_modules"
        mend = "slots get a copy where it is not named by --link" if modules.is_symlink() else "run `npm install` again"
        for package in [*modules.glob("[!@.]*"), *modules.glob("@*/*")]:
            relative = inside(os.path.realpath(package), place.roots)
            if relative is not None and "node_modules" not in PurePosixPath(relative).parts:
                name = package.relative_to(modules)
                where = place.root / relative
                yield f"node_modules leads `{name}` to {where}, in your checkout: {mend}"


def _read(file: Path) -> str:
    """The beginning of a text; empty where there is none."""
    try:
        with open(file, errors="surrogateescape") as text:
            return text.read(_READ_BYTES)
    except OSError:
        return ""
