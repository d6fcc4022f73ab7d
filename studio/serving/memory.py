"""Whether the memory that a server takes is free, looked at before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from studio import machine, models
from studio.config.serve import ServeConfig
from studio.errors import ModelError, ServingError
from studio.machine import GB, Gpu
from studio.runs.run import Run
from studio.runs.store import Store
from studio.serving import backend, installed
from studio.serving.neighbours import held_gb

# an API, an engine and a worker process that have each imported torch, before any weight is loaded
PROCESSES_GB, WORKER_GB = 1.7, 0.7
STAND_IN_GB = 0.9
WIDE_SHARE = 0.25  # of the machine's memory, for weights that are wider than they are stored
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
KINDS = {"serve": "the server", "train": "the training", "merge": "the merge"}


@dataclass(frozen=True)
class Need:
    """What a server takes of a CPU's memory, in GB."""

    processes: float
    weights: float
    cache: float

    @property
    def total(self) -> float:
        return self.processes + self.weights + self.cache

    def __str__(self) -> str:
        parts = f"processes {self.processes:.1f}, weights {self.weights:.1f}, KV cache {self.cache:.1f}"
        return f"about {self.total:.1f} GB ({parts})"


def need(config: ServeConfig) -> Need:
    """What a server of this configuration takes on a CPU. The weights of a model that is not here count nothing."""
    weights = _weights_gb(config)
    if backend.choose(config).name == "huggingface":
        return Need(STAND_IN_GB, weights, 0.0)
    ranks = config.tensor_parallel_size
    return Need(PROCESSES_GB + WORKER_GB * (ranks - 1), weights, cache_gb(config.kv_cache_memory) * ranks)


def settled(config: ServeConfig) -> ServeConfig:
    """`config` in float32 where the model's own type is a slow one and there is room for a wider. The cache grows with
    it, to hold as many tokens, unless someone has chosen its size.

    Measured without AVX512, the bundled model and 256 tokens of prompt: 351 ms to the first token and 106 tokens/s to
    eight clients in bfloat16, 84 ms and 303 tokens/s in float32.
    """
    if not backend.is_slow(config):
        return config
    wide = config.model_copy(update={"dtype": "float32", "kv_cache_memory": _wide_cache(config.kv_cache_memory)})
    memory = psutil.virtual_memory()
    is_small = 0 < _weights_gb(wide) <= WIDE_SHARE * memory.total / GB
    return wide if is_small and not cpu_shortage(wide, memory.available / GB) else config


def _wide_cache(size: str) -> str:
    is_chosen = size != ServeConfig.model_fields["kv_cache_memory"].default
    return size if is_chosen else f"{2 * int(size[:-1])}{size[-1]}"


def cache_gb(size: str) -> float:
    """512M as GB."""
    return int(size[:-1]) * UNITS[size[-1]] / GB


def check(config: ServeConfig, run: Run) -> None:
    """Look at the memory that this run's server takes.

    Raises:
        ServingError: it is not free; with what to lower, and whom to stop.
    """
    gpus = machine.chosen(config.devices, config.tensor_parallel_size * config.pipeline_parallel_size)
    if backend.choose(config).name == "vllm" and installed.platform()[0] == "cuda":
        wrong = gpu_shortage(config, gpus)
    else:
        wrong = None if gpus else cpu_shortage(config, psutil.virtual_memory().available / GB)
    if wrong:
        raise ServingError(f"{wrong}{_whom_to_stop(run)}")


def cpu_shortage(config: ServeConfig, free_gb: float) -> str | None:
    """What is wrong with a start in so much free memory, and what to lower; None where it fits."""
    wanted = need(config)
    if wanted.total <= free_gb:
        return None
    spare = free_gb - wanted.processes - wanted.weights
    lower = f"lower kv_cache_memory (now {config.kv_cache_memory}) to {int(spare * 900)}M at most"
    advice = lower if spare > 0.05 and wanted.cache else "choose a smaller model"
    return f"{config.title} needs {wanted}, and {free_gb:.1f} GB of memory are free: {advice}"


def gpu_shortage(config: ServeConfig, gpus: Sequence[Gpu]) -> str | None:
    """The same for these GPUs, of each of which vLLM takes a share at once."""
    for gpu in gpus:
        wanted = config.gpu_memory_utilization * gpu.total
        if wanted <= gpu.free:
            continue
        share, weights_gb = int(gpu.free / gpu.total * 100 - 2) / 100, _weights_gb(config) / len(gpus)
        fits = weights_gb * GB < share * gpu.total
        advice = f"lower gpu_memory_utilization to {share:.2f}" if fits else "choose a smaller model, or another GPU"
        taken = f"takes {config.gpu_memory_utilization:.0%} of GPU {gpu.index}, {wanted / GB:.1f} GB"
        return f"{config.title} {taken}, and {gpu.free / GB:.1f} GB are free: {advice}"
    return None


def _weights_gb(config: ServeConfig) -> float:
    """0 where they are not here, or not as safetensors: whether such a model can be served is not asked here."""
    folder = models.folder_of(config.model_name_or_path)
    if folder is None:
        return 0.0
    try:
        stored = sum((folder / name).stat().st_size for name in models.weight_files(folder))
        parameters = models.check(folder).parameters
    except ModelError:
        return 0.0
    return max(stored, parameters * 4 if config.dtype == "float32" else 0) / GB


def _whom_to_stop(run: Run) -> str:
    """The other runs of this folder that hold memory, the largest first."""
    others = [other for other in Store(run.path.parent).list() if other.id != run.id and other.is_active]
    held = sorted(((held_gb(other.path), other) for other in others), key=lambda pair: -pair[0])
    named = [f"{KINDS.get(other.kind, 'the run')} {other.id} ({size:.1f} GB)" for size, other in held if size > 0.05]
    return f", or stop {' or '.join(named)}" if named else ""
