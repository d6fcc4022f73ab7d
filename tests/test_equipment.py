"""What a training on several devices needs of the machine, and who else is there."""

from __future__ import annotations

from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest

from studio import equipment, machine, packages
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.machine import Gpu

GB = 10**9
TWO = (Gpu(0, "H100", 80 * GB, 1 * GB, 0), Gpu(1, "H100", 80 * GB, 61 * GB, 9))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "gpus", lambda: iter(TWO))


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: iter(()))


def config_of(**keys: Any) -> TrainConfig:
    return parse(TrainConfig, {"dataset": "a", "parallel_strategy": "ddp", **keys})


def told(**keys: Any) -> dict[str, str]:
    return {problem.where: problem.what for problem in equipment.lacking(config_of(**keys))}


@pytest.mark.usefixtures("gpus")
def test_what_is_there_is_enough() -> None:
    assert told(parallel_strategy="device_map") == {}
    assert "there is 1" in told(parallel_strategy="device_map", devices="1")["parallel_strategy"]
    assert told() == told(devices="1") == told(nproc_per_node=2, devices="0,1") == told(fp16=True) == {}
    assert told(enable_liger_kernel=True) == {}


@pytest.mark.usefixtures("gpus")
def test_a_gpu_that_is_not_there() -> None:
    assert told(devices="0,4,5") == {"devices": "there is no GPU 4, 5: this machine has 0, 1"}


@pytest.mark.usefixtures("gpus")
def test_more_processes_than_gpus() -> None:
    assert "would share 2 GPUs" in told(nproc_per_node=3)["nproc_per_node"]
    assert told(nproc_per_node=3, launcher="slurm") == {}  # other machines will train


@pytest.mark.usefixtures("no_gpus")
def test_without_any_gpu() -> None:
    assert told(nproc_per_node=4) == {}
    assert "this machine has none" in told(devices="0")["devices"]
    assert "needs a GPU" in told(fp16=True)["fp16"]
    assert "need a GPU: leave it empty" in told(enable_liger_kernel=True)["enable_liger_kernel"]
    assert told(enable_liger_kernel=False) == {}
    assert "there is none" in told(parallel_strategy="device_map")["parallel_strategy"]


@pytest.mark.usefixtures("gpus")
def test_a_gpu_that_somebody_computes_on_is_told() -> None:
    [found] = equipment.busy(config_of())
    assert found.what.startswith("GPU 1 is in use: 61 of its 80 GB")
    assert not [*equipment.busy(config_of(devices="0"))]
    assert not [*equipment.busy(config_of(parallel_strategy="single"))]


def test_a_folder_for_what_is_offloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"parallel_strategy": "zero3", "offload_optimizer": "nvme"}
    assert "no folder that can be written to" in told(**keys, nvme_path=str(tmp_path / "gone"))["nvme_path"]
    if find_library("aio"):
        assert "nvme_path" not in told(**keys, nvme_path=str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nvme needs g++" in told(**keys, nvme_path=str(tmp_path))["offload_optimizer"]


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "is_installed", lambda name: name != "deepspeed")
    assert "pip install deepspeed" in told(parallel_strategy="zero2")["parallel_strategy"]
    assert told() == {}


def test_a_hostfile_has_the_last_word(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    assert "cannot be read" in told(hostfile=str(path))["hostfile"]
    path.write_text("one slots=4\ntwo slots=4\n")
    assert told(hostfile=str(path)) == told(hostfile=str(path), nnodes=2, nproc_per_node=4) == {}
    assert set(told(hostfile=str(path), nnodes=3, nproc_per_node=2)) == {"nnodes", "nproc_per_node"}
