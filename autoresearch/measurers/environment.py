"""The environment of a measured command, and of the setup command.

Functions of a mapping; what they read besides is whether the worktree has the counterpart of a folder of the checkout,
and which ports are free.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from autoresearch.devices import is_amd
from autoresearch.measurers.paths import inside, spellings
from autoresearch.protocols import Device, Request

PORTS = 10
"""How many consecutive ports a slot has."""
_FIRST_PORT, _LAST_PORT = 20_000, 32_000
"""Below the ports that systems hand out on their own."""
_PORT_SLOTS = 64

_SECRET_NAME = re.compile(
    r"""
    (^|_)KEYS?$ | APIKEY$                               # OPENAI_API_KEY, DEPLOY_KEY; not KEYBOARD
    | (^|_)(ACCESS|AUTH|API|REFRESH|SESSION)?TOKEN$     # HF_TOKEN; not TOKENIZERS_PARALLELISM, MAX_TOKENS
    | SECRET | PASSWORD | PASSWD | PASSPHRASE | CREDENTIAL
    | _(PASS|PWD|AUTH|HEADERS)$                         # MYSQL_PWD, NPM_CONFIG__AUTH, OTEL_EXPORTER_OTLP_HEADERS
    | ^AWS_
    | ^(SSH_AUTH_SOCK|SSH_AGENT_PID|GPG_AGENT_INFO|KRB5CCNAME|DOCKER_AUTH_CONFIG)$
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"""
    (?<![\w/-])sk-(ant-|(?=[\w-]*\d)[\w-]{20})          # Anthropic, OpenAI and those that copy them; not sk-learn
    | \bgh[pousr]_\w{16,} | \bgithub_pat_\w{16,} | \bglpat-[\w-]{16,}
    | \bhf_\w{16,} | \bnpm_\w{30,} | \bpypi-[\w-]{16,} | \bxox[abeoprs]-[\w-]{10,}
    | \b(AKIA|ASIA)[0-9A-Z]{16}\b | \bAIza[\w-]{35}
    | \beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.                    # JSON web tokens
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY
    | (?i:\bbearer\ [\w.~+/-]{16,} | \bauthorization:\ *\S+\ \S+)
    | ://[^/\s:@]*:[^/\s@]+@                            # https://user:password@host
    """,
    re.VERBOSE,
)

_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "JULIA_NUM_THREADS",
    "GOMAXPROCS",
)

_ELSEWHERE = frozenset(
    {
        # These would lead git in a worktree to another repository, the user's own among them.
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_COMMON_DIR",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_CONFIG",
        "GIT_CEILING_DIRECTORIES",
        # The shell sets its own.
        "PWD",
        "OLDPWD",
        # Bytecode outside the worktree outlives a reset: a candidate of equal size and second would run another's.
        "PYTHONPYCACHEPREFIX",
    }
)
_FOLDER_LISTS = ("PATH", "PYTHONPATH", "NODE_PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_FOLDERS = ("VIRTUAL_ENV", "CONDA_PREFIX")


def withheld(outer: Mapping[str, str], passed: Collection[str]) -> list[str]:
    """Names of `outer` that a measurement does not get, because name or value looks like a secret; sorted."""
    return sorted(
        name
        for name, value in outer.items()
        if name not in passed and (_SECRET_NAME.search(name) or _SECRET_VALUE.search(value))
    )


def measurement_env(
    outer: Mapping[str, str],
    *,
    tag: str,
    slot: int,
    device: Device,
    worktree: Path,
    tmp: Path,
    caches: Path,
    port: int,
    request: Request,
    passed: Collection[str] = (),
    pythonpath: Sequence[str] = (),
    checkout: Path | None = None,
) -> dict[str, str]:
    """What a measured command sees.

    `outer` is the coordinator's environment, `passed` the names that the user lets through, `pythonpath` folders
    relative to the worktree. Folders of `checkout` are replaced by those of the worktree, where it has them. `tmp` is
    the measurement's own, `caches` the slot's, kept for the run.
    """
    secret = set(withheld(outer, passed))
    env = _repointed({name: value for name, value in outer.items() if name not in secret}, checkout, worktree)
    # Half of git's counted configuration is an error, so it stays or goes as one.
    if any(name.startswith("GIT_CONFIG_") for name in secret):
        env = {name: value for name, value in env.items() if not re.match(r"GIT_CONFIG_(COUNT|KEY_|VALUE_)", name)}
    env |= _identity(tag, slot, worktree)
    env |= {"AUTORESEARCH_TRIAL": str(request.trial), "AUTORESEARCH_SEED": str(request.seed)}
    env |= {"AUTORESEARCH_PORT": str(port)}
    env |= dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(tmp))
    env |= _cache_folders(caches)
    env |= _device_variables(outer, device)
    if pythonpath:
        first = [str(worktree / folder) for folder in pythonpath]
        env["PYTHONPATH"] = os.pathsep.join([*first, *_split(env.get("PYTHONPATH", ""))])
    return env | dict(request.env)


def setup_env(
    outer: Mapping[str, str], *, worktree: Path, slot: int, tag: str, checkout: Path | None = None
) -> dict[str, str]:
    """What setup and teardown see: the user's whole environment, secrets, network and caches included.

    No variable leads git out of the worktree, whose configuration is that of our own repository, so that the user's
    cannot be written.
    """
    return _repointed(outer, checkout, worktree) | _identity(tag, slot, worktree)


def free_port_base(slot: int) -> int:
    """The first of 10 consecutive ports that are free now; different for each of 64 slots.

    Raises:
        OSError: there are none.
    """
    own = range(_FIRST_PORT + PORTS * (slot % _PORT_SLOTS), _LAST_PORT, PORTS * _PORT_SLOTS)
    for base in own:
        if all(_is_free(port) for port in range(base, base + PORTS)):
            return base
    raise OSError(f"no {PORTS} consecutive free ports between {_FIRST_PORT} and {_LAST_PORT}")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _identity(tag: str, slot: int, worktree: Path) -> dict[str, str]:
    """Who and where it is; and tools that install hooks for git are told not to."""
    return {
        "AUTORESEARCH_RUN": tag,
        "AUTORESEARCH_SLOT": str(slot),
        "AUTORESEARCH_WORKTREE": str(worktree),
        "HUSKY": "0",
        "LEFTHOOK": "0",
    }


def _cache_folders(caches: Path) -> dict[str, str]:
    """Caches of compilers are the slot's own: they hold what candidates compiled, and racing writers spoil them.

    uv, pip and npm keep the user's caches: those hold downloads under their hashes and are locked against each other,
    and an empty one would download everything again for each slot, or fail without a network: `uv run` builds an edited
    project with a build tool that only the cache has.
    """
    return {
        "TRITON_CACHE_DIR": str(caches / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "torchinductor"),
        "MPLCONFIGDIR": str(caches / "matplotlib"),
    }


def _device_variables(outer: Mapping[str, str], device: Device) -> dict[str, str]:
    env = {}
    if device.gpus and is_amd(device):
        env["ROCR_VISIBLE_DEVICES"] = ",".join(device.gpus)
    elif device.gpus:
        # CUDA numbers by speed unless told otherwise; the numbers dealt are those of the bus.
        env["CUDA_DEVICE_ORDER"] = outer.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        env["CUDA_VISIBLE_DEVICES"] = ",".join(device.gpus)
    if device.cpus:
        dealt = len(device.cpus)
        for name in _THREADS:
            wanted = outer.get(name, "")
            env[name] = wanted if wanted.isdecimal() and 0 < int(wanted) <= dealt else str(dealt)
    return env


def _repointed(outer: Mapping[str, str], checkout: Path | None, worktree: Path) -> dict[str, str]:
    """`outer` with the checkout's folders replaced by the worktree's, and without what leads elsewhere."""
    env = {name: value for name, value in outer.items() if name not in _ELSEWHERE}
    # Anything that a package manager links instead of copying could be written through into the user's caches.
    env.setdefault("UV_LINK_MODE", "copy")
    if checkout is None:
        return env
    roots = spellings(checkout, outer)
    for name in _FOLDER_LISTS:
        if env.get(name):
            env[name] = os.pathsep.join(_counterpart(folder, roots, worktree) for folder in env[name].split(os.pathsep))
    for name in _FOLDERS:
        if env.get(name):
            env[name] = _counterpart(env[name], roots, worktree)
    # `uv run` writes to it, so the user's own must not be named.
    if os.path.isabs(env.get("UV_PROJECT_ENVIRONMENT", "")):
        del env["UV_PROJECT_ENVIRONMENT"]
    return env


def _counterpart(folder: str, roots: Iterable[str], worktree: Path) -> str:
    """The worktree's folder for one of the checkout; unchanged where the worktree has none."""
    relative = inside(folder, roots) if os.path.isabs(folder) else None
    return str(worktree / relative) if relative is not None and (worktree / relative).exists() else folder


def _split(paths: str) -> list[str]:
    return [path for path in paths.split(os.pathsep) if path]
