"""How many processes a training is, here and in all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.machine import GB, Gpu, Machine
from studio.parallel import nodes
from studio.parallel.strategies import STRATEGIES

ON_CPU = 2  # processes where nobody has said how many and there is no GPU


@dataclass(frozen=True)
class Team:
    """`local` processes on this machine, of `world`; or one process that uses `devices`."""

    world: int = 1
    local: int = 1
    devices: int = 1


ALONE = Team()


def of(config: TrainConfig, machine: Machine) -> Team:
    """As the launcher will start them on `machine` and others like it."""
    strategy, gpus = STRATEGIES[config.parallel_strategy], len(chosen(config, machine))
    if not strategy.is_distributed:
        return Team(devices=max(1, gpus) if config.parallel_strategy == "device_map" else 1)
    each = config.nproc_per_node or gpus or ON_CPU
    slots = [host.slots or each for host in _hosts(config)]
    return Team(world=sum(slots), local=slots[0]) if slots else Team(world=each * config.nnodes, local=each)


def chosen(config: TrainConfig, machine: Machine) -> tuple[Gpu, ...]:
    """The GPUs of `machine` that the training would take."""
    several = machine.gpus or ((machine.gpu,) if machine.gpu else ())
    if config.devices:
        named = config.devices.split(",")
        return tuple(gpu for gpu in several if str(gpu.index) in named)
    if config.parallel_strategy == "single":
        return several[:1]
    return several[: config.nproc_per_node]


def free_gb(config: TrainConfig, machine: Machine) -> float:
    """What is free for one process: of the fullest GPU that is taken, or its share of the memory."""
    gpus = chosen(config, machine)
    if gpus:
        return min(gpu.free for gpu in gpus) / GB
    return machine.memory_free / of(config, machine).local / GB


def _hosts(config: TrainConfig) -> tuple[nodes.Host, ...]:
    try:
        return nodes.read_hostfile(Path(config.hostfile)) if config.hostfile else ()
    except ConfigError:
        return ()
