"""What a way of answering takes of the machine while it is measured, and what others take beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import psutil

from studio import machine
from studio.errors import ServingError
from studio.runs.events import Load
from studio.serving import metrics
from studio.serving.client import Client

LOOK_S = 0.5
GB = 1e9


@dataclass(frozen=True)
class Demand:
    """The highest that was seen. Memory counts each shared page once; `gpu_gb` is None without a GPU.

    others_cores: cores that programs beside the benchmark kept busy, on average. kv_used: share of the cache, 0..1.
    """

    memory_gb: float
    gpu_gb: float | None
    others_cores: float
    kv_used: float | None = None
    kv_blocks: int | None = None
    preemptions: int = 0


class Watch:
    """Looks at the processes that answer, and at their server's metrics where there is one."""

    def __init__(self, members: Collection[psutil.Process], client: Client | None) -> None:
        self._members = members
        self._client = client
        self._memory_gb = self._gpu_gb = 0.0
        self._loads: list[Load] = []
        self._begun = time.monotonic()
        self._others_s = self._busy_by_others_s()

    async def follow(self) -> None:
        """Look on until cancelled."""
        while True:
            await asyncio.to_thread(self._look)  # the kernel takes its time to add up a large process's pages
            if self._client:
                with suppress(ServingError, ValueError):  # what is no metric is no figure
                    self._loads.append(metrics.parse(await self._client.text("/metrics")))
            await asyncio.sleep(LOOK_S)

    def demand(self) -> Demand:
        """What was seen so far."""
        self._look()
        others = (self._busy_by_others_s() - self._others_s) / (time.monotonic() - self._begun)
        used = [load.kv_used for load in self._loads if load.kv_used is not None]
        preempted = [load.preemptions or 0 for load in self._loads] or [0]
        return Demand(
            round(self._memory_gb, 3), round(self._gpu_gb, 3) if self._gpu_gb else None, round(max(0.0, others), 2),
            max(used, default=None), self._loads[0].kv_blocks if used else None, preempted[-1] - preempted[0],
        )  # fmt: skip

    def _look(self) -> None:
        held = sum(_held(member) for member in self._members)
        self._memory_gb = max(self._memory_gb, held / GB)
        self._gpu_gb = max(self._gpu_gb, sum(gpu.used for gpu in machine.chosen(None)) / GB)

    def _busy_by_others_s(self) -> float:
        """Seconds of processor time that neither the benchmark nor what it measures has had."""
        times = psutil.cpu_times()
        own = sum(_worked_s(member) for member in (psutil.Process(), *self._members))
        return float(times.user + times.system + times.nice - own)


@asynccontextmanager
async def watched(members: Collection[psutil.Process], client: Client | None = None) -> AsyncIterator[Watch]:
    """A watch that looks on for as long as the block takes."""
    watch = Watch(members, client)
    looking = asyncio.create_task(watch.follow())
    try:
        yield watch
    finally:
        looking.cancel()


def _held(member: psutil.Process) -> int:
    try:
        return int(member.memory_full_info().pss)
    except psutil.Error:
        return 0


def _worked_s(member: psutil.Process) -> float:
    try:
        return float(sum(member.cpu_times()[:2]))
    except psutil.Error:
        return 0.0
