"""How vLLM is called: its options file, its environment, its command line. Values only; nothing is started here."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from studio import machine, models, openmp, templates
from studio.config.serve import ServeConfig
from studio.serving import backend, memory, refusals
from studio.serving.installed import Platform, platform
from studio.settings import ASSETS, ROOT

HOST = "127.0.0.1"
PLUGIN = ASSETS / "vllm_plugin"
# the `vllm` command needs a distribution called vllm, which the CPU build is not
COMMAND = (sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--config")
STAND_IN = (sys.executable, "-m", "studio.worker.stand_in", "--config")

SMALL_MODEL_PARAMETERS = 50_000_000


def base_name(config: ServeConfig) -> str:
    """The name that requests use for the base model: the hub id, or the folder's name."""
    name = config.model_name_or_path
    return Path(models.resolve(name)).name if models.is_local(models.resolve(name)) else name


def options(config: ServeConfig, port: int, on: Platform) -> dict[str, Any]:
    """vLLM's own options, as they go into the run directory. No secrets."""
    values = {
        **_common(config, port),
        "generation-config": "vllm",  # the model's own sampling defaults would differ from what the page shows
        **(_lora_options(config) if backend.takes_adapters(config, on) else {}),
        # an adapter may have been trained with another template than the base's; only who has the key can send one
        "trust-request-chat-template": True,
        "middleware": ["seedbed_vllm_plugin.RequireKey"],
        "disable-access-log-for-endpoints": "/health,/metrics",
        **(_cpu_options(config) if on == "cpu" else _cuda_options(config)),
        **{key: value for key, value in _optional(config).items() if value},
    }
    if not config.enable_prefix_caching:
        values["enable-prefix-caching"] = False
    return values | config.extra


def stand_in_options(config: ServeConfig, port: int) -> dict[str, Any]:
    """The same for the stand-in on Transformers, which takes any adapter and needs no cache of a fixed size."""
    return _common(config, port)


@dataclass(frozen=True)
class Call:
    """How a server is called: a command line that ends in an options file, that file's values, and the environment."""

    words: tuple[str, ...]
    options: dict[str, Any]
    environment: dict[str, str] = field(repr=False)  # holds the key

    def to_yaml(self) -> str:
        """The text of the options file."""
        return to_yaml(self.options, self.words[2])


def call(config: ServeConfig, who: backend.Name, port: int, api_key: str, parameters: int | None = None) -> Call:
    """How the server `who` is called for a model of so many parameters.

    Raises:
        ServingError: vLLM is asked for and not installed.
    """
    computing = threads(config, parameters)
    if who == "huggingface":
        return Call(STAND_IN, stand_in_options(config, port), stand_in_environment(config, api_key, computing))
    on = platform()[0]
    return Call(COMMAND, options(config, port, on), environment(config, api_key, on, computing))


def preview(config: ServeConfig) -> str:
    """The options file of a server that is not started: nothing is written, nothing is spawned.

    Raises:
        ConfigError: what cannot be had here, all of it at once.
        ServingError: vLLM is asked for and not installed.
    """
    refusals.check(config)
    config = memory.settled(config)
    text = call(config, backend.choose(config).name, config.port or 0, "").to_yaml()
    return text if config.port else text.replace("port: 0\n", "# port: a free one, chosen at the start\n")


def environment(
    config: ServeConfig, api_key: str, on: Platform, threads: int | None, inherited: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment of vLLM. The key travels here, because a command line is public.

    `threads`: CPU threads for the arithmetic; None leaves the choice to vLLM.
    """
    values = {
        **_any_environment(config, api_key, inherited),
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_LOGGING_LEVEL": "INFO",  # the phases of the start are read from what it prints
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": _joined(str(PLUGIN), inherited.get("PYTHONPATH")),
    }
    values.pop("VLLM_CPU_KVCACHE_SPACE", None)  # would win over the option, in whole GiB only
    own = _cpu_environment(config, threads, inherited) if on == "cpu" else _cuda_environment(config)
    return values | own


def stand_in_environment(
    config: ServeConfig, api_key: str, threads: int | None, inherited: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment of the stand-in, which spreads a model over all GPUs that it sees."""
    values = _any_environment(config, api_key, inherited)
    if gpus := machine.chosen(config.devices, config.tensor_parallel_size * config.pipeline_parallel_size):
        values["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu.index) for gpu in gpus)
    values["PYTHONPATH"] = _joined(str(ROOT), inherited.get("PYTHONPATH"))
    return values | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


def threads(config: ServeConfig, parameters: int | None) -> int | None:
    """CPU threads for a model of that many parameters, where the configuration leaves it open.

    A small model's threads wait for one another longer than they compute, above all beside a training: with a
    busy machine one thread answered five times faster than vLLM's choice of all cores but one.
    """
    if config.threads or parameters is None:
        return config.threads
    return 1 if parameters < SMALL_MODEL_PARAMETERS else None


def to_yaml(values: Mapping[str, Any], module: str = COMMAND[2]) -> str:
    """The text of the file for `--config` of that module."""
    head = f"# What Seedbed gives the server: python -m {module} --config serve.yaml\n"
    return head + str(yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True))


def _common(config: ServeConfig, port: int) -> dict[str, Any]:
    values = {
        "model": models.resolve(config.model_name_or_path),
        "served-model-name": [base_name(config)],
        "host": HOST,
        "port": port,
        "dtype": config.dtype,
        "max-num-seqs": config.max_num_seqs,
        "max-model-len": config.max_model_len,
        "trust-remote-code": config.trust_remote_code,
        "chat-template": _template_file(config.chat_template),
    }
    return {key: value for key, value in values.items() if value}


def _template_file(name: str | None) -> str | None:
    if name is None or name.endswith(".jinja"):
        return name and str(Path(name).expanduser().absolute())
    return str(templates.FOLDER / f"{templates.find(name).name}.jinja")


def _lora_options(config: ServeConfig) -> dict[str, Any]:
    # one slot more than is ever filled: without our plugin, rows of the base read the last slot
    slots = config.max_loras + 1
    return {"enable-lora": True, "max-lora-rank": config.max_lora_rank, "max-loras": slots, "max-cpu-loras": slots}


def _optional(config: ServeConfig) -> dict[str, Any]:
    """What is left out of the file where it says nothing."""
    return {
        "tensor-parallel-size": config.tensor_parallel_size if config.tensor_parallel_size > 1 else None,
        "pipeline-parallel-size": config.pipeline_parallel_size if config.pipeline_parallel_size > 1 else None,
        "quantization": config.quantization,
        "kv-cache-dtype": config.kv_cache_dtype if config.kv_cache_dtype != "auto" else None,
        "enable-auto-tool-choice": config.tool_call_parser is not None,
        "tool-call-parser": config.tool_call_parser,
        "reasoning-parser": config.reasoning_parser,
        "enable-sleep-mode": config.enable_sleep_mode,
    }


def _cpu_options(config: ServeConfig) -> dict[str, Any]:
    # compiling costs 15 s and a C++ compiler; LoRA switches it off on a CPU anyway
    return {"enforce-eager": True, "kv-cache-memory-bytes": config.kv_cache_memory}


def _cuda_options(config: ServeConfig) -> dict[str, Any]:
    eager = {"enforce-eager": True} if config.enforce_eager else {}
    return {"gpu-memory-utilization": config.gpu_memory_utilization, **eager}


def _any_environment(config: ServeConfig, api_key: str, inherited: Mapping[str, str]) -> dict[str, str]:
    values = {
        **inherited,
        "VLLM_API_KEY": api_key,
        "PYTHONSAFEPATH": "1",  # folders of the run directory must not be taken for packages
        "PYTHONUNBUFFERED": "1",
    }
    if models.is_local(models.resolve(config.model_name_or_path)):
        values["HF_HUB_OFFLINE"] = "1"
    return values | ({"CUDA_VISIBLE_DEVICES": config.devices} if config.devices else {})


def _cpu_environment(config: ServeConfig, threads: int | None, inherited: Mapping[str, str]) -> dict[str, str]:
    # eager everywhere: vLLM compiles a helper at the first request for log-probabilities, which takes 20 s, and
    # kills the engine on a machine without a C++ compiler
    values = {"TORCHDYNAMO_DISABLE": "1"}
    values |= openmp.environment(inherited)
    if threads or config.tensor_parallel_size > 1:
        values["VLLM_CPU_OMP_THREADS_BIND"] = _bound(config.tensor_parallel_size, threads)
    return values


def _bound(workers: int, threads: int | None) -> str:
    """The last cores, so many for each worker; without a word on threads all but one are dealt out."""
    cores = sorted(os.sched_getaffinity(0))
    each = threads or max(1, (len(cores) - 1) // workers)
    taken = cores[-each * workers :]
    return "|".join(",".join(map(str, taken[each * n : each * (n + 1)])) for n in range(workers))


def _cuda_environment(config: ServeConfig) -> dict[str, str]:
    # the sampler of flashinfer is compiled at the first request and needs nvcc
    values = {} if shutil.which("nvcc") else {"VLLM_USE_FLASHINFER_SAMPLER": "0"}
    if config.enable_sleep_mode:  # its routes are open in this mode only; RequireKey guards them as it does all others
        values["VLLM_SERVER_DEV_MODE"] = "1"
    return values


def _joined(first: str, rest: str | None) -> str:
    return f"{first}:{rest}" if rest else first
