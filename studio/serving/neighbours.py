"""Model servers that hold memory which a training needs, and how it is had from them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from studio.config.serve import ServeConfig
from studio.errors import RunError
from studio.machine import GB, Gpu, Machine
from studio.runs import process
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import sleeping

GONE_S = 15.0
POLL_S = 0.05


@dataclass(frozen=True)
class Neighbour:
    """A server that is up or starting, and what it holds of a training's device."""

    run: Run
    held_gb: float

    @property
    def can_sleep(self) -> bool:
        """Whether it can give the memory away and go on later."""
        return sleeping.can_sleep(self.run)


def in_the_way(store: Store, machine: Machine, needed_gb: float | None) -> tuple[Neighbour, ...]:
    """The servers that a training on this machine is asked about: on a GPU those that hold memory of it, on a CPU all,
    where what is needed is known and not free."""
    gpu = machine.gpu
    if gpu:
        found = ((run, run.config) for run in _awake(store))
        taken = ((run, config) for run, config in found if isinstance(config, ServeConfig) and _takes(config, gpu))
        return tuple(Neighbour(run, config.gpu_memory_utilization * gpu.total / GB) for run, config in taken)
    if needed_gb is None or needed_gb * GB <= machine.free:
        return ()
    return tuple(Neighbour(run, held_gb(run.path)) for run in _awake(store))


def sentence(found: Sequence[Neighbour]) -> str:
    """Who holds how much, for people."""
    names = " and ".join(f"{each.run.name} ({each.held_gb:.1f} GB)" for each in found)
    return f"Memory that this training needs is held by the model server{'s' * (len(found) > 1)} {names}"


def stop(found: Iterable[Neighbour]) -> None:
    """Stop them all; returns when they are gone.

    Raises:
        RunError: one is still there after a while.
    """
    runs = [each.run for each in found]
    for run in runs:
        run.stop()
    deadline = time.monotonic() + GONE_S
    while left := [run.id for run in runs if run.is_active]:
        if time.monotonic() > deadline:
            raise RunError(f"The model server {left[0]} does not end. Press Stop now in the Runs tab, then start again")
        time.sleep(POLL_S)


def send_to_sleep(found: Iterable[Neighbour]) -> None:
    """Have them all give their memory away; they wake when they are asked something.

    Raises:
        RequestFailed, SidecarNotReady: one does not.
    """
    for each in found:
        asyncio.run(sleeping.sleep(each.run))


def _awake(store: Store) -> list[Run]:
    return [run for run in store.list("serve") if run.is_active and not sleeping.is_asleep(run)]


def _takes(config: ServeConfig, gpu: Gpu) -> bool:
    """By number, or as one of the first that are visible: where a training goes too."""
    return not config.devices or str(gpu.index) in config.devices.split(",")


def held_gb(run: Path) -> float:
    """What would be free without its processes: what they share with each other counts once."""
    return sum(_proportional_bytes(each) for each in process.of_run(run)) / GB


def _proportional_bytes(each: psutil.Process) -> int:
    try:
        return int(each.memory_full_info().pss)
    except psutil.Error:
        return 0
