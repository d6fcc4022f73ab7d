"""What this machine has: GPUs, memory and disk, and how much of each is free. No CUDA context is opened."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import psutil

GB = 1e9
MOST = 64  # GPUs of one machine


@dataclass(frozen=True)
class Gpu:
    """One GPU, in bytes and percent. `index` is the driver's."""

    index: int
    name: str
    total: int
    used: int
    load: int

    @property
    def free(self) -> int:
        return self.total - self.used


@dataclass(frozen=True)
class Machine:
    """Where a training would run, in bytes: `gpu` is the one that a process alone would take, None on a machine
    without; `gpus` are all that several could."""

    gpu: Gpu | None
    memory_free: int
    disk_free: int
    gpus: tuple[Gpu, ...] = ()

    @property
    def device(self) -> str:
        """What the verdict calls the place that the model must fit into."""
        return self.gpu.name if self.gpu else "CPU"

    @property
    def free(self) -> int:
        return self.gpu.free if self.gpu else self.memory_free

    def without(self, held_gb: float) -> Machine:
        """The same machine once somebody has given up that much of where the training would run."""
        held = round(held_gb * GB)
        if self.gpu is None:
            return replace(self, memory_free=self.memory_free + held)
        freed = replace(self.gpu, used=max(0, self.gpu.used - held))
        return replace(self, gpu=freed, gpus=tuple(freed if gpu == self.gpu else gpu for gpu in self.gpus))


def look(saves: Path) -> Machine:
    """This machine now; the disk is that of the folder `saves`."""
    disk = shutil.disk_usage(saves if saves.exists() else saves.parent)
    own = _own_gpu()
    several = tuple(chosen(None, count=MOST)) if own else ()
    return Machine(own, psutil.virtual_memory().available, disk.free, several or ((own,) if own else ()))


def gpus() -> Iterator[Gpu]:
    """All GPUs of the machine, in the driver's order."""
    nvml = _nvml()
    if nvml is None:
        return
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        yield Gpu(index, str(nvml.nvmlDeviceGetName(handle)), memory.total, memory.used, _load(nvml, handle))


def chosen(devices: str | None, count: int = 1) -> list[Gpu]:
    """The GPUs that a process will see: those of these numbers ("0,1"), or else the first `count` that are visible.

    Empty on a machine without, and where the environment names them in another way than by number.
    """
    visible = devices or os.environ.get("CUDA_VISIBLE_DEVICES")
    found = {str(gpu.index): gpu for gpu in gpus()}
    named = list(found) if visible is None else [word.strip() for word in visible.split(",")]
    return [found[name] for name in named[: None if devices else count] if name in found]


def gpu_pids(indices: Collection[int]) -> list[int]:
    """Processes that hold memory of these GPUs, as far as the driver tells."""
    nvml = _nvml()
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in indices] if nvml else []
    return [found.pid for handle in handles for found in nvml.nvmlDeviceGetComputeRunningProcesses(handle)]


@cache
def lacks_avx512() -> bool:
    """Whether this is an x86 processor without AVX512, as most of laptops are; False where nobody tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    found = next((line.split() for line in lines if line.startswith("flags")), None)
    return found is not None and "avx512f" not in found


def _load(nvml: Any, handle: Any) -> int:
    """0 where the driver does not tell, as of a GPU that is divided (MIG)."""
    try:
        return int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    except nvml.NVMLError:
        return 0


def _own_gpu() -> Gpu | None:
    """The one that a worker takes: the first that CUDA_VISIBLE_DEVICES names, or the first."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if not wanted or wanted.startswith("-"):  # hidden from the worker
        return None
    named = (gpu for gpu in gpus() if str(gpu.index) == wanted or not wanted.isdecimal())
    return next(named, None)


@cache
def _nvml() -> Any:
    """NVIDIA's management library, or None on a machine without it."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
