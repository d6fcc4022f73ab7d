"""Whether a server that has ended gave its GPU's memory back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from studio import machine
from studio.config.serve import ServeConfig
from studio.machine import GB

WITHIN_S = 5.0
POLL_S = 0.1
SLACK_GB = 0.3  # what the display, or the driver itself, takes more or less of meanwhile

Reading = Callable[[], float]


@dataclass(frozen=True)
class Release:
    """GPU memory in use before the start and after the end, in GB; `pids` still hold it where it is not free."""

    before_gb: float
    after_gb: float
    pids: tuple[int, ...] = ()

    @property
    def is_free(self) -> bool:
        return self.after_gb <= self.before_gb + SLACK_GB

    def to_json(self) -> dict[str, Any]:
        """The value for result.json."""
        figures = {"before_gb": round(self.before_gb, 2), "after_gb": round(self.after_gb, 2)}
        return {"gpu_freed": self.is_free, **figures, **({} if self.is_free else {"pids": list(self.pids)})}

    def __str__(self) -> str:
        if self.is_free:
            return f"the GPU's memory is free again ({self.after_gb:.1f} GB in use)"
        holders = f", by process {', '.join(map(str, self.pids))}" if self.pids else ""
        more = f"{self.after_gb - self.before_gb:.1f} GB more of the GPU's memory"
        return f"{more} are in use than before the start{holders}"


class Watch:
    """The GPUs of one server, from before its start. Without any there is nothing to see."""

    def __init__(self, config: ServeConfig) -> None:
        count = config.tensor_parallel_size * config.pipeline_parallel_size
        self._config = config
        self._gpus = [gpu.index for gpu in machine.chosen(config.devices, count)]
        self._before_gb = self._used_gb() if self._gpus else 0.0

    async def release(self) -> Release | None:
        """Wait until the memory is free again; None on a machine without GPUs."""
        if not self._gpus:
            return None
        return await released(self._before_gb, self._used_gb, lambda: machine.gpu_pids(self._gpus))

    def _used_gb(self) -> float:
        return sum(gpu.used for gpu in machine.gpus() if gpu.index in self._gpus) / GB


async def released(
    before_gb: float, read: Reading, holders: Callable[[], Sequence[int]], within_s: float = WITHIN_S
) -> Release:
    """Read what is in use until it is what it was, or until the time is over."""
    deadline = time.monotonic() + within_s
    while not (release := Release(before_gb, read())).is_free:
        if time.monotonic() > deadline:
            return Release(before_gb, release.after_gb, tuple(sorted(holders())))
        await asyncio.sleep(POLL_S)
    return release
