"""How full the machine is: processors, memory, disk, GPUs. Read without opening a CUDA context."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from studio import machine
from studio.machine import GB


@dataclass(frozen=True)
class Gauge:
    """One figure of the strip; `share` is 0..1."""

    label: str
    text: str
    share: float


def gauges(saves: Path) -> list[Gauge]:
    """Processors, memory, disk of `saves`, then each GPU."""
    busy = psutil.cpu_percent() / 100
    memory = psutil.virtual_memory()
    used = memory.total - memory.available
    disk = shutil.disk_usage(saves if saves.exists() else saves.parent)
    return [
        Gauge("CPU", f"{busy:.0%} of {psutil.cpu_count()} cores", busy),
        Gauge("Memory", f"{used / GB:.1f} / {memory.total / GB:.1f} GB", used / memory.total),
        Gauge("Disk", f"{disk.free / GB:.0f} GB free", disk.used / disk.total),
        *_gpus(),
    ]


def _gpus() -> Iterator[Gauge]:
    for gpu in machine.gpus():
        text = f"{gpu.used / GB:.1f} / {gpu.total / GB:.0f} GB, {gpu.load} %"
        yield Gauge(f"GPU {gpu.index}", text, gpu.used / gpu.total)
