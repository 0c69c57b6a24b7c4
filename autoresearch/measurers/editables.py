"""Editable installs that point into the checkout: which folders they make importable, and from where."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from autoresearch.measurers.paths import inside

_PYTHON_SECONDS = 5.0
_SITES = "import json, site; print(json.dumps([*site.getsitepackages(), site.getusersitepackages()]))"
_MAPPING = re.compile(r"^MAPPING\b[^=]*= *(\{.*\})", re.MULTILINE)


def importable(sites: Iterable[Path], roots: Sequence[str]) -> dict[str, Path]:
    """Folders below one of `roots` that the editable installs in `sites` make importable, with the site of each.

    `roots` are the spellings of one folder; the keys are relative to it, `.` for itself.
    """
    found: dict[str, Path] = {}
    for site in sites:
        here = {relative for path in _paths(site) if (relative := inside(path, roots)) is not None}
        for project in _projects(site):
            relative = inside(project, roots)
            if relative is not None and not any(_covers(relative, path) for path in here):
                # The install says where the project is, and nothing says where its packages are: the two usual places.
                source = os.path.join(relative, "src")
                here.add(os.path.normpath(source) if os.path.isdir(os.path.join(project, "src")) else relative)
        for relative in sorted(here):
            found.setdefault(relative, site)
    return found


def sites_of_environment(environment: Path) -> list[Path]:
    """The site-packages of a virtual environment."""
    return [*environment.glob("lib/python*/site-packages"), *environment.glob("Lib/site-packages")]


def sites_on_path(environ: Mapping[str, str], known: Sequence[Path]) -> list[Path]:
    """The site-packages of `python` and `python3` on PATH, but for those of the `known` virtual environments."""
    sites: list[Path] = []
    asked: list[str] = []
    for name in ("python", "python3"):
        program = shutil.which(name, path=environ.get("PATH"))
        if program is None or any(Path(program).is_relative_to(environment) for environment in known):
            continue
        if os.path.dirname(program) not in asked:
            asked.append(os.path.dirname(program))
            sites += [site for site in _ask(program, environ) if site not in sites]
    return sites


def _ask(program: str, environ: Mapping[str, str]) -> list[Path]:
    """What an interpreter says of itself; nothing where it does not answer in time."""
    try:
        answer = subprocess.run(
            [program, "-c", _SITES],
            env=dict(environ),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PYTHON_SECONDS,
            check=True,
        )
        return [Path(site) for site in json.loads(answer.stdout.splitlines()[-1])]
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return []


def _paths(site: Path) -> Iterator[str]:
    """Folders that this site-packages puts on the import path beyond itself."""
    for file in [*site.glob("*.pth"), *site.glob("*.egg-link")]:
        for line in _read(file).splitlines()[: 1 if file.suffix == ".egg-link" else None]:
            if line.strip() and not line.startswith(("#", "import ", "import\t")):
                yield os.path.normpath(site / line.strip())
    for file in site.glob("__editable__*.py"):
        mapping = _MAPPING.search(_read(file))
        if mapping:
            yield from _parents(mapping[1])


def _parents(mapping: str) -> Iterator[str]:
    """The import folders of setuptools' mapping {"a.b": "/x/a/b"}: /x; a package renamed on the way has none."""
    try:
        packages = ast.literal_eval(mapping)
    except (ValueError, SyntaxError):
        return
    for name, path in packages.items():
        folder = Path(path).with_suffix("")
        depth = len(name.split("."))
        if list(folder.parts[-depth:]) == name.split("."):
            yield str(folder.parents[depth - 1])


def _projects(site: Path) -> Iterator[str]:
    """Projects that are installed as editable, by the standard's own record."""
    for file in site.glob("*.dist-info/direct_url.json"):
        try:
            record = json.loads(_read(file))
            if record.get("dir_info", {}).get("editable"):
                yield unquote(urlsplit(record["url"]).path)
        except (ValueError, KeyError, AttributeError):
            continue


def _covers(folder: str, path: str) -> bool:
    return folder in (".", path) or path.startswith(folder + os.sep)


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="surrogateescape")
    except OSError:
        return ""
