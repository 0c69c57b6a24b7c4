from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from autoresearch.devices import Gpu, Machine, deal
from autoresearch.measurers.environment import PORTS, free_port_base, measurement_env, setup_env, withheld
from autoresearch.protocols import Device, Request

SECRETS = {
    "OPENAI_API_KEY": "x",
    "ANTHROPIC_API_KEY": "x",
    "ANTHROPIC_AUTH_TOKEN": "x",
    "ANTHROPIC_CUSTOM_HEADERS": "x",
    "HF_TOKEN": "x",
    "GITHUB_TOKEN": "x",
    "TOKEN": "x",
    "api_key": "x",
    "DJANGO_SECRET_KEY": "x",
    "CLIENT_SECRET_ID": "x",
    "DB_PASSWORD": "x",
    "PGPASSWORD": "x",
    "MYSQL_PWD": "x",
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SESSION_TOKEN": "x",
    "GOOGLE_APPLICATION_CREDENTIALS": "/home/u/key.json",
    "SSH_AUTH_SOCK": "/run/agent",
    "MINE": "sk-ant-api03-abc",
    "OTHER": "sk-proj-0123456789abcdefghijk",
    "HUB": "ghp_0123456789abcdefghij0123456789abcdef",
    "DATABASE_URL": "postgres://me:hunter2@db.example/x",
    "HTTPS_PROXY": "http://me:hunter2@proxy.example:3128",
    "CERT": "-----BEGIN RSA PRIVATE KEY-----\nMII",
    "EXTRA": "Authorization: Basic bWU6aHVudGVyMg==",
}
HARMLESS = {
    "PATH": "/usr/bin:/home/u/envs/sk-learn-benchmarks-2024-long/bin",
    "HOME": "/home/u",
    "LANG": "C.UTF-8",
    "TOKENIZERS_PARALLELISM": "false",
    "MAX_TOKENS": "4096",
    "KEYBOARD": "us",
    "KEYMAP": "de",
    "MONKEY_PATCH": "1",
    "XAUTHORITY": "/home/u/.Xauthority",
    "COMPASS": "north",
    "AUTHOR": "me",
    "HTTP_PROXY": "http://proxy.example:3128",
    "PIP_INDEX_URL": "https://pypi.example/simple",
    "REMOTE": "ssh://git@example.com:22/x",
    "CONDA_DEFAULT_ENV": "sk-learn-benchmarks-env",
    "SHA": "0123456789abcdef0123456789abcdef01234567",
}


def measured(outer: dict[str, str], worktree: Path = Path("/wt"), **options: Any) -> dict[str, str]:
    asked: dict[str, Any] = {
        "tag": "nov22",
        "slot": 3,
        "device": Device(),
        "tmp": Path("/tmp/t"),
        "caches": Path("/caches/3"),
        "port": 20030,
        "request": Request(trial=7, command="true", timeout_seconds=1, seed=11),
    }
    return measurement_env(outer, worktree=worktree, **(asked | options))


def test_a_measurement_knows_what_it_is():
    env = measured({"PATH": "/usr/bin"})
    assert {name: value for name, value in env.items() if name.startswith("AUTORESEARCH_")} == {
        "AUTORESEARCH_RUN": "nov22",
        "AUTORESEARCH_TRIAL": "7",
        "AUTORESEARCH_SLOT": "3",
        "AUTORESEARCH_SEED": "11",
        "AUTORESEARCH_WORKTREE": "/wt",
        "AUTORESEARCH_PORT": "20030",
    }
    assert env["TMPDIR"] == "/tmp/t"
    assert env["HUSKY"] == env["LEFTHOOK"] == "0"


def test_secrets_are_withheld_and_named():
    assert withheld(SECRETS | HARMLESS, ()) == sorted(SECRETS)
    env = measured(SECRETS | HARMLESS)
    assert not set(SECRETS) & set(env)
    assert {name: env[name] for name in HARMLESS} == HARMLESS


def test_the_user_passes_a_secret():
    assert "HF_TOKEN" not in withheld(SECRETS, ["HF_TOKEN"])
    assert measured(SECRETS, passed=["HF_TOKEN"])["HF_TOKEN"] == "x"


def test_compilers_have_the_slots_caches_and_downloads_the_users():
    env = measured({"UV_CACHE_DIR": "/u/uv", "PIP_CACHE_DIR": "/u/pip", "TRITON_CACHE_DIR": "/u/triton"})
    assert (env["UV_CACHE_DIR"], env["PIP_CACHE_DIR"]) == ("/u/uv", "/u/pip")
    folders = {env[name] for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "MPLCONFIGDIR")}
    assert len(folders) == 3 and all(folder.startswith("/caches/3/") for folder in folders)


def test_dealt_gpus_are_the_only_ones_seen():
    env = measured({"CUDA_VISIBLE_DEVICES": "2,3"}, device=Device(("3",), "NVIDIA A100"))
    assert env["CUDA_VISIBLE_DEVICES"] == "3"
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert measured({"CUDA_VISIBLE_DEVICES": ""})["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in measured({})


def test_amd_gpus_go_by_their_own_variable():
    amd = Machine((Gpu(0, "5", "AMD GPU", token="5"),))
    [device] = deal(amd, workers=1, gpus="auto", gpus_per_worker=None, cpus_per_worker=None).devices
    env = measured({"ROCR_VISIBLE_DEVICES": "5,6"}, device=device)
    assert env["ROCR_VISIBLE_DEVICES"] == "5"
    assert "CUDA_VISIBLE_DEVICES" not in env


def test_threads_follow_the_dealt_cpus_and_the_users_smaller_number_stands():
    env = measured({"MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "64"}, device=Device(cpus=(0, 1, 4, 5)))
    assert (env["OMP_NUM_THREADS"], env["MKL_NUM_THREADS"], env["OPENBLAS_NUM_THREADS"]) == ("4", "1", "4")
    assert "OMP_NUM_THREADS" not in measured({})


def test_git_stays_in_the_worktree():
    elsewhere = {
        "GIT_DIR": "/u/.git",
        "GIT_WORK_TREE": "/u",
        "GIT_INDEX_FILE": "/u/.git/index",
        "GIT_AUTHOR_NAME": "Me",
    }
    for env in (measured(elsewhere), setup_env(elsewhere, worktree=Path("/wt"), slot=0, tag="t")):
        assert {name for name in env if name.startswith("GIT_")} == {"GIT_AUTHOR_NAME"}


def test_git_still_runs_where_a_counted_setting_is_secret():
    counted = {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "GIT_CONFIG_KEY_1": "http.extraheader",
        "GIT_CONFIG_VALUE_1": "Authorization: Basic bWU6aHVudGVyMg==",
    }
    env = measured({"PATH": os.environ["PATH"]} | counted)
    subprocess.run(["git", "config", "--list"], env=env, check=True, capture_output=True)
    harmless = {name: value for name, value in counted.items() if not name.endswith("1")} | {"GIT_CONFIG_COUNT": "1"}
    assert measured(harmless)["GIT_CONFIG_VALUE_0"] == "*"


def test_folders_of_the_checkout_become_the_worktrees(tmp_path: Path):
    checkout, worktree = tmp_path / "checkout", tmp_path / "wt"
    for folder in (".venv/bin", "src", "node_modules/.bin"):
        (worktree / folder).mkdir(parents=True)
    beside = f"{checkout}-old/.venv/bin"
    outer = {
        "PATH": f"{checkout}/.venv/bin:{checkout}/node_modules/.bin:{checkout}/venv/bin:{beside}:/usr/bin:",
        "VIRTUAL_ENV": f"{checkout}/.venv",
        "PYTHONPATH": f"{checkout}/src:/opt/lib",
        "UV_PROJECT_ENVIRONMENT": f"{checkout}/.venv",
        "OLDPWD": str(checkout),
    }
    for env in (
        measured(outer, worktree, checkout=checkout),
        setup_env(outer, worktree=worktree, slot=0, tag="t", checkout=checkout),
    ):
        assert env["PATH"] == (
            f"{worktree}/.venv/bin:{worktree}/node_modules/.bin:{checkout}/venv/bin:{beside}:/usr/bin:"
        )
        assert env["VIRTUAL_ENV"] == f"{worktree}/.venv"
        assert env["PYTHONPATH"] == f"{worktree}/src:/opt/lib"
        assert "UV_PROJECT_ENVIRONMENT" not in env and "OLDPWD" not in env


def test_the_shells_spelling_of_the_checkout_is_understood(tmp_path: Path):
    (tmp_path / "checkout").mkdir()
    (tmp_path / "alias").symlink_to("checkout")
    (tmp_path / "wt/.venv/bin").mkdir(parents=True)
    outer = {"PATH": f"{tmp_path}/alias/.venv/bin:/bin", "PWD": f"{tmp_path}/alias/src"}
    env = measured(outer, tmp_path / "wt", checkout=tmp_path / "checkout")
    assert env["PATH"] == f"{tmp_path}/wt/.venv/bin:/bin"


def test_folders_of_editable_installs_come_first():
    env = measured({"PYTHONPATH": "/opt/lib"}, pythonpath=["src", "."])
    assert env["PYTHONPATH"] == "/wt/src:/wt:/opt/lib"
    assert measured({}, pythonpath=["src"])["PYTHONPATH"] == "/wt/src"


def test_bytecode_stays_in_the_worktree():
    assert "PYTHONPYCACHEPREFIX" not in measured({"PYTHONPYCACHEPREFIX": "/u/pyc"})


def test_what_the_request_sets_wins():
    request = Request(trial=1, command="true", timeout_seconds=1, env={"LANG": "C", "NEW": "1"})
    env = measured({"LANG": "de"}, request=request)
    assert (env["LANG"], env["NEW"]) == ("C", "1")


def test_setup_has_the_users_whole_environment():
    env = setup_env(SECRETS | HARMLESS, worktree=Path("/wt"), slot=2, tag="t")
    assert (SECRETS | HARMLESS).items() <= env.items()
    assert (env["HUSKY"], env["LEFTHOOK"], env["AUTORESEARCH_SLOT"]) == ("0", "0", "2")


def test_slots_have_free_ports_of_their_own():
    bases = [free_port_base(slot) for slot in range(16)]
    assert len({port for base in bases for port in range(base, base + PORTS)}) == 16 * PORTS


@pytest.mark.parametrize("offset", [0, PORTS - 1])
def test_a_taken_port_is_passed_over(offset: int):
    base = free_port_base(40)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", base + offset))
        taken.listen()
        assert free_port_base(40) != base
