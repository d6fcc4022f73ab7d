"""What a training on several devices needs of this machine, looked at before it starts: GPUs, packages, folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

from studio import machine, packages
from studio.config.train import TrainConfig
from studio.errors import ConfigError, Problem
from studio.machine import GB, Gpu
from studio.parallel import nodes
from studio.parallel.strategies import STRATEGIES

OTHERS_GB = 2.0  # on a GPU: a desktop holds less


def lacking(config: TrainConfig) -> Iterator[Problem]:
    """What a training as configured cannot do without, and this machine has not."""
    strategy = STRATEGIES[config.parallel_strategy]
    if strategy.is_deepspeed and not packages.is_installed("deepspeed"):
        what = f"{strategy.name} needs the package deepspeed: {packages.INSTALL['deepspeed']}"
        yield Problem("parallel_strategy", f"{what}, or set parallel_strategy: fsdp2, which needs none")
    yield from _hosts(config)
    if config.launcher == "slurm":
        return  # other machines will train
    gpus = list(machine.chosen(None, machine.MOST))
    yield from _gpus(config, gpus)
    if "nvme" in (config.offload_optimizer, config.offload_param):
        yield from _nvme(config)


def busy(config: TrainConfig) -> Iterator[Problem]:
    """GPUs of a training that somebody else computes on, to be asked about."""
    if config.parallel_strategy == "single" or config.launcher == "slurm":
        return
    for gpu in machine.chosen(config.devices, config.nproc_per_node or machine.MOST):
        if gpu.used > OTHERS_GB * GB:
            free = f"{gpu.used / GB:.0f} of its {gpu.total / GB:.0f} GB are taken by other programs"
            yield Problem("devices", f"GPU {gpu.index} is in use: {free}; name other GPUs, or end those programs")


def _gpus(config: TrainConfig, gpus: list[Gpu]) -> Iterator[Problem]:
    known = [str(gpu.index) for gpu in gpus]
    named = config.devices.split(",") if config.devices else []
    if gone := [number for number in named if number not in known]:
        has = f"this machine has {', '.join(known)}" if known else "this machine has none: leave it empty"
        yield Problem("devices", f"there is no GPU {', '.join(gone)}: {has}")
    elif known and config.nproc_per_node and config.nproc_per_node > len(known) and not config.hostfile:
        what = f"{config.nproc_per_node} processes would share {len(known)} GPUs, and each needs its own"
        yield Problem("nproc_per_node", f"{what}: set {len(known)}, or leave it empty")
    if config.parallel_strategy == "device_map" and len(named or known) < 2:
        what = f"device_map deals layers out to several GPUs, and there is {len(named or known) or 'none'}"
        yield Problem("parallel_strategy", f"{what}: set parallel_strategy: single")
    if config.fp16 and not known:
        yield Problem("fp16", "it needs a GPU: set fp16: false to train in float32")
    if config.enable_liger_kernel and not known:
        yield Problem("enable_liger_kernel", "the kernels need a GPU: leave it empty, for where there is one")


def _nvme(config: TrainConfig) -> Iterator[Problem]:
    folder = Path(config.nvme_path or "").expanduser()
    if config.nvme_path and not (folder.is_dir() and os.access(folder, os.W_OK)):
        yield Problem("nvme_path", f"{folder} is no folder that can be written to: make it first")
    # DeepSpeed builds its reader of disks as the training starts
    found = {"g++": shutil.which("g++"), "ninja": shutil.which("ninja"), "libaio": find_library("aio")}
    if missing := [name for name, place in found.items() if not place]:
        install = "apt-get install g++ ninja-build libaio-dev"
        yield Problem("offload_optimizer", f"nvme needs {', '.join(missing)}: {install}, or set cpu")


def _hosts(config: TrainConfig) -> Iterator[Problem]:
    """A hostfile that cannot be read, or says something else than the options."""
    if not config.hostfile:
        return
    try:
        hosts = nodes.read_hostfile(Path(config.hostfile))
    except ConfigError as error:
        yield from error.problems
        return
    if config.nnodes not in (1, len(hosts)):
        yield Problem("nnodes", f"the hostfile names {len(hosts)} machines: leave it out")
    for host in hosts:
        if config.nproc_per_node and host.slots and host.slots != config.nproc_per_node:
            yield Problem("nproc_per_node", f"the hostfile gives {host.name} {host.slots} slots: leave it out")
            return
