from __future__ import annotations

import os
import stat
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoresearch.dealing import Clocking
from autoresearch.devices import Gpu, Machine, bound_by_memory, deal, detect, is_amd
from autoresearch.errors import UsageError

GIB = 1024**3
A100 = "NVIDIA A100-SXM4-80GB"
H100 = "NVIDIA H100"


def machine(gpus: int = 0, cores: int = 4, threads: int = 1) -> Machine:
    siblings = tuple(tuple(core + cores * thread for thread in range(threads)) for core in range(cores))
    cards = tuple(Gpu(index, f"GPU-{index}{index}", A100, 80 * GIB) for index in range(gpus))
    return Machine(cards, siblings, 64 * GIB)


def dealt(on: Machine, **options: Any) -> tuple[list[tuple[str, ...]], list[tuple[int, ...]], str]:
    asked: dict[str, Any] = {"workers": None, "gpus": "auto", "gpus_per_worker": None, "cpus_per_worker": None}
    result = deal(on, **(asked | options))
    return [d.gpus for d in result.devices], [d.cpus for d in result.devices], "\n".join(result.notes)


def test_gpus_come_first_then_cores_and_at_most_eight():
    assert dealt(machine(gpus=4, cores=64))[0] == [("0",), ("1",), ("2",), ("3",)]
    assert len(dealt(machine(gpus=16, cores=64))[0]) == 8
    assert len(dealt(machine(cores=3))[0]) == 3
    assert len(dealt(machine(cores=64))[0]) == 8


def test_more_workers_than_gpus_are_cut_and_said():
    gpus, _, notes = dealt(machine(gpus=2, cores=16), workers=8)
    assert gpus == [("0",), ("1",)]
    assert "8 workers are cut to 2" in notes


def test_shared_gpus_and_no_gpus_are_not_cut():
    gpus, _, notes = dealt(machine(gpus=2, cores=16), workers=8, gpus_per_worker=0.25)
    assert gpus == [("0",), ("1",)] * 4
    assert notes == ""
    gpus, _, notes = dealt(machine(gpus=2, cores=16), workers=8, gpus="none")
    assert gpus == [()] * 8
    assert notes == ""


def test_a_tenth_of_a_gpu_holds_ten_workers():
    assert len(dealt(machine(gpus=1), workers=10, gpus_per_worker=0.1)[0]) == 10


def test_several_gpus_for_each_worker():
    assert dealt(machine(gpus=5, cores=16), gpus_per_worker=2)[0] == [("0", "1"), ("2", "3")]


def test_busy_gpus_are_left_out_and_named():
    on = machine(gpus=3)
    by_process = replace(on.gpus[1], processes=("pid 77 (python)",))
    by_memory = replace(on.gpus[2], used_bytes=30 * GIB)
    gpus, _, notes = dealt(replace(on, gpus=(on.gpus[0], by_process, by_memory)))
    assert gpus == [("0",)]
    assert f"GPU 1 ({A100}) is used by others and left out: pid 77 (python)" in notes
    assert "GPU 2" in notes and "30.0 GiB in use" in notes


def test_a_desktop_on_the_gpu_does_not_make_it_busy():
    on = machine(gpus=1)
    assert dealt(replace(on, gpus=(replace(on.gpus[0], used_bytes=GIB),)))[0] == [("0",)]


def test_a_busy_gpu_that_the_user_names_is_used():
    on = machine(gpus=1)
    busy = replace(on, gpus=(replace(on.gpus[0], processes=("pid 77 (python)",)),))
    gpus, _, notes = dealt(busy, gpus="0")
    assert gpus == [("0",)]
    assert "used by others too" in notes


def test_where_all_gpus_are_busy_cores_are_dealt_and_it_is_said():
    on = machine(gpus=1, cores=4)
    gpus, cpus, notes = dealt(replace(on, gpus=(replace(on.gpus[0], processes=("pid 7",)),)))
    assert gpus == [()] * 4 and len(set(cpus)) == 4
    assert "no GPU is free" in notes


def test_only_the_largest_class_of_gpus_is_used():
    cards = (Gpu(0, "GPU-a", H100), Gpu(1, "GPU-b", A100), Gpu(2, "GPU-c", A100))
    gpus, _, notes = dealt(Machine(cards, ((0,), (1,))))
    assert gpus == [("1",), ("2",)]
    assert f"left out: GPU 0 ({H100})" in notes


@pytest.mark.parametrize("words", ["5", "0,5", "x", "", "0,", "-1", "²"])
def test_a_gpu_that_is_not_there_is_refused(words: str):
    with pytest.raises(UsageError, match="--gpus"):
        dealt(machine(gpus=2), gpus=words)


@pytest.mark.parametrize(
    "options",
    [
        {"gpus": "0"},
        {"gpus_per_worker": 1},
        {"workers": 0},
        {"cpus_per_worker": 0},
        {"cpus_per_worker": 5},
        {"workers": 3, "cpus_per_worker": 2},
    ],
)
def test_what_this_machine_does_not_have_is_refused(options: dict[str, Any]):
    with pytest.raises(UsageError):
        dealt(machine(cores=4), **options)


@pytest.mark.parametrize("each", [0, -1, 1.5, float("nan"), float("inf"), 3])
def test_wrong_shares_are_refused(each: float):
    with pytest.raises(UsageError, match="--gpus-per-worker"):
        dealt(machine(gpus=2), gpus_per_worker=each)


def test_cpus_are_dealt_as_whole_cores():
    _, cpus, _ = dealt(machine(cores=4, threads=2), workers=2)
    assert cpus == [(0, 1, 4, 5), (2, 3, 6, 7)]
    _, cpus, _ = dealt(machine(cores=8, gpus=2), cpus_per_worker=3)
    assert cpus == [(0, 1, 2), (3, 4, 5)]


def test_more_workers_than_cores_share_them():
    _, cpus, notes = dealt(machine(cores=2), workers=8)
    assert cpus == [()] * 8
    assert notes == ""


def test_one_worker_keeps_the_whole_machine_unpinned():
    assert dealt(machine(cores=4), workers=1)[1] == [()]


@given(
    st.integers(0, 9),
    st.integers(1, 40),
    st.integers(1, 2),
    st.none() | st.integers(1, 20),
    st.none() | st.sampled_from([0.1, 0.25, 0.5, 1, 2]),
)
def test_nothing_is_dealt_twice(gpus: int, cores: int, threads: int, workers: int | None, share: float | None):
    on = machine(gpus, cores, threads)
    try:
        dealt_gpus, cpus, _ = dealt(on, workers=workers, gpus_per_worker=share)
    except UsageError:
        assert share is not None and gpus < max(1, share)
        return
    assert 1 <= len(dealt_gpus) <= (workers or 8)
    flat = [cpu for slot in cpus for cpu in slot]
    assert len(flat) == len(set(flat))
    assert len({len(slot) for slot in cpus}) == 1
    visible = [gpu for slot in dealt_gpus for gpu in slot]
    assert all(visible.count(gpu) <= round(1 / (share or 1) + 0.5) for gpu in visible)


def test_memory_bounds_the_workers():
    assert bound_by_memory(8, 30 * GIB, 10 * GIB) == 2
    assert bound_by_memory(8, 300 * GIB, 10 * GIB) == 8
    assert bound_by_memory(8, GIB, 10 * GIB) == 1
    assert bound_by_memory(8, GIB, 0) == 8


# Looking


class FakeNvml:
    """The part of pynvml that is asked."""

    class NVMLError(Exception):
        pass

    def __init__(self, models: list[str], *, busy: tuple[int, ...] = (), driver: bool = True) -> None:
        self.models, self.busy, self.driver = models, busy, driver
        self.open = 0

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError("driver not loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.models)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, device: int) -> str:
        return f"GPU-{device}{device}{device}"

    def nvmlDeviceGetName(self, device: int) -> bytes:
        return self.models[device].encode()

    def nvmlDeviceGetMemoryInfo(self, device: int) -> Any:
        return SimpleNamespace(total=80 * GIB, used=GIB)

    def nvmlDeviceGetComputeRunningProcesses(self, device: int) -> list[Any]:
        return [SimpleNamespace(pid=os.getpid())] if device in self.busy else []


def nvidia_smi(folder: Path, body: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


TWO_GPUS = f"""
case "$*" in
*--query-gpu=*) printf '0, GPU-000, {A100}, 81920, 4\\n1, GPU-111, {A100}, 81920, [N/A]\\n';;
*--query-compute-apps=*) printf 'GPU-111, 4242, /usr/bin/python3\\n';;
esac
"""


@pytest.fixture
def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)


def test_the_library_is_asked_and_closed():
    nvml = FakeNvml([A100, H100], busy=(1,))
    found = detect({}, nvml=nvml).gpus
    assert [(gpu.index, gpu.uuid, gpu.model, gpu.total_bytes) for gpu in found] == [
        (0, "GPU-000", A100, 80 * GIB),
        (1, "GPU-111", H100, 80 * GIB),
    ]
    assert found[0].busy == "" and found[1].busy.startswith(f"pid {os.getpid()}")
    assert nvml.open == 0


def test_the_program_is_asked_where_there_is_no_library(tmp_path: Path, without_library: None):
    found = detect(nvidia_smi(tmp_path / "bin", TWO_GPUS)).gpus
    assert [(gpu.visible, gpu.model, gpu.total_bytes, gpu.busy) for gpu in found] == [
        ("0", A100, 80 * GIB, ""),
        ("1", A100, 80 * GIB, "pid 4242 (python3)"),
    ]


def test_the_program_is_asked_where_the_library_has_no_driver(tmp_path: Path):
    environ = nvidia_smi(tmp_path / "bin", TWO_GPUS)
    assert len(detect(environ, nvml=FakeNvml([A100], driver=False)).gpus) == 2


@pytest.mark.parametrize("body", ["exit 9", "echo No devices were found", "printf '\\001,,,,'"])
def test_a_broken_program_means_no_gpus(tmp_path: Path, without_library: None, body: str):
    assert detect(nvidia_smi(tmp_path / "bin", body)).gpus == ()


def test_a_hanging_program_is_given_up(tmp_path: Path, without_library: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("autoresearch.devices._PROGRAM_SECONDS", 0.2)
    began = time.monotonic()
    assert detect(nvidia_smi(tmp_path / "bin", "sleep 60")).gpus == ()
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("mask", "visible"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("2,0", ["2", "0"]),
        ("1,7,0", ["1"]),
        ("GPU-11,GPU-333", ["GPU-11", "GPU-333"]),
        ("MIG-abc", ["MIG-abc"]),
    ],
)
def test_an_outer_mask_is_composed_through(mask: str, visible: list[str]):
    on = detect({"CUDA_VISIBLE_DEVICES": mask}, nvml=FakeNvml([A100] * 4))
    assert [gpu.visible for gpu in on.gpus] == visible


def test_numbers_of_gpus_count_within_the_mask():
    on = detect({"CUDA_VISIBLE_DEVICES": "3,2"}, nvml=FakeNvml([A100] * 4))
    assert dealt(on, gpus="1")[0] == [("2",)]
    assert dealt(on, gpus="GPU-33")[0] == [("3",)]


def test_amd_gpus_are_those_that_the_environment_names(without_library: None):
    on = detect({"ROCR_VISIBLE_DEVICES": "4,GPU-beef", "PATH": ""})
    devices = deal(on, workers=None, gpus="auto", gpus_per_worker=None, cpus_per_worker=None).devices
    assert [device.gpus for device in devices] == [("4",), ("GPU-beef",)]
    assert all(is_amd(device) for device in devices)
    assert detect({"ROCR_VISIBLE_DEVICES": "", "PATH": ""}).gpus == ()


def system(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return root


def test_the_driver_alone_is_enough(tmp_path: Path, without_library: None):
    information = "proc/driver/nvidia/gpus/0000:{}:00.0/information"
    text = "Model: \t\t NVIDIA H100\nIRQ:   \t\t 74\nGPU UUID: \t GPU-{}"
    root = system(tmp_path, {information.format(bus): text.format(bus) for bus in ("c1", "01")})
    found = detect({"PATH": ""}, filesystem=root).gpus
    assert [(gpu.index, gpu.uuid, gpu.model) for gpu in found] == [(0, "GPU-01", H100), (1, "GPU-c1", H100)]
    assert [gpu.visible for gpu in detect({"PATH": "", "CUDA_VISIBLE_DEVICES": "1"}, filesystem=root).gpus] == ["1"]


def test_siblings_make_one_core(tmp_path: Path):
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    root = system(tmp_path, {topology.format(cpu): f"{cpu % 2},{cpu % 2 + 2}" for cpu in range(4)})
    assert detect({}, filesystem=root, cpus=range(4)).cores == ((0, 2), (1, 3))
    assert detect({}, filesystem=root, cpus=[1, 2, 3]).cores == ((1, 3), (2,))


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/a/b",
            "sys/fs/cgroup/a/cpu.max": "250000 100000",
            "sys/fs/cgroup/cpu.max": "max 100000",
        },
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/a",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "200000",
            "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
        },
    ],
    ids=["version 2", "version 1"],
)
def test_a_quota_bounds_the_cores(tmp_path: Path, files: dict[str, str]):
    assert len(detect({}, filesystem=system(tmp_path, files), cpus=range(64)).cores) == 2


def test_half_a_cpu_is_one_core(tmp_path: Path):
    root = system(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "50000 100000"})
    assert detect({}, filesystem=root, cpus=range(8)).cores == ((0,),)


def test_a_control_group_bounds_the_memory(tmp_path: Path):
    group = "sys/fs/cgroup/"
    files = {"proc/self/cgroup": "0::/", group + "memory.max": "1000000", group + "memory.current": "900000"}
    root = system(tmp_path, files | {group + "memory.stat": "anon 1\ninactive_file 50000"})
    assert detect({}, filesystem=root).free_bytes == 150000
    assert detect({}, filesystem=tmp_path / "none").free_bytes > 1000000


@pytest.mark.parametrize(
    ("files", "clocking"),
    [
        ({}, Clocking()),
        ({"cpu0/cpufreq/scaling_governor": "performance", "smt/active": "1"}, Clocking("performance", None, True)),
        (
            {"cpu0/cpufreq/scaling_governor": "powersave", "cpu1/cpufreq/scaling_governor": "performance"},
            Clocking("performance, powersave"),
        ),
        ({"intel_pstate/no_turbo": "0", "smt/active": "0"}, Clocking(None, True, False)),
        ({"intel_pstate/no_turbo": "1"}, Clocking(None, False)),
        ({"cpufreq/boost": "1"}, Clocking(None, True)),
        ({"cpufreq/boost": "0"}, Clocking(None, False)),
    ],
)
def test_what_makes_clocks_vary_is_read(tmp_path: Path, files: dict[str, str], clocking: Clocking):
    root = system(tmp_path, {f"sys/devices/system/cpu/{path}": text for path, text in files.items()})
    assert detect({}, filesystem=root, cpus=[0, 1]).clocking == clocking


def test_a_slot_knows_what_it_may_use_and_whether_others_slow_it():
    def devices(on: Machine, **options: Any) -> set[tuple[bool, int]]:
        asked: dict[str, Any] = {"workers": None, "gpus": "auto", "gpus_per_worker": None, "cpus_per_worker": None}
        on = replace(on, cpu_count=sum(map(len, on.cores)))
        return {(device.shares_cpus, device.cpu_count) for device in deal(on, **(asked | options)).devices}

    assert devices(machine(cores=4, threads=2), workers=2) == {(True, 4)}
    assert devices(machine(cores=4, threads=2), workers=1) == {(True, 8)}
    assert devices(machine(cores=2), workers=8) == {(True, 2)}
    assert devices(machine(gpus=2, cores=8)) == {(False, 4)}
    assert devices(machine(gpus=4, cores=8), gpus_per_worker=2) == {(False, 4)}
    assert devices(machine(gpus=1, cores=8), gpus_per_worker=0.5) == {(True, 4)}
