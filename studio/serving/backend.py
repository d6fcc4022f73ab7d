"""Who is to answer: vLLM, or Transformers where vLLM cannot; and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from studio import machine, models
from studio.config.serve import ServeConfig
from studio.errors import ModelError, ServingError
from studio.files import read_record
from studio.serving import installed
from studio.serving.installed import Platform

Name = Literal["vllm", "huggingface"]

FLOAT32_BYTES = 4
WIDE_SHARE = 0.25  # of the machine's memory, for weights that are twice as wide as they are stored


@dataclass(frozen=True)
class Backend:
    """`why` is a sentence for people where the choice was not theirs; empty for vLLM."""

    name: Name
    why: str = ""


def choose(config: ServeConfig) -> Backend:
    """What the configuration asks for, or what can serve its model."""
    if config.infer_backend != "auto":
        return Backend(config.infer_backend)
    try:
        on, _ = installed.platform()
    except ServingError:
        return Backend("huggingface", "answered by Transformers, because vLLM is not installed here")
    if why := no_kernel(config, on):
        return Backend("huggingface", f"answered by Transformers, because {why}")
    if unknown := _unknown_architecture(config.model_name_or_path):
        return Backend("huggingface", f"answered by Transformers, because vLLM does not know {unknown}")
    return Backend("vllm")


def settled(config: ServeConfig) -> ServeConfig:
    """`config` with a type of the weights, where it is left open and the model's own is the slow one.

    A processor without AVX512 takes bfloat16 apart for every product. Measured with the bundled model, 256 tokens of
    prompt: 351 ms to the first token and 106 tokens/s to eight clients, in float32 84 ms and 303 tokens/s.
    """
    is_open = config.dtype == "auto" and not config.quantization and not _stored(config)
    if not (is_open and machine.lacks_avx512() and _is_for_cpu(config)):
        return config
    fits = 0 < _parameters(config) * FLOAT32_BYTES <= WIDE_SHARE * psutil.virtual_memory().total
    return config.model_copy(update={"dtype": "float32"}) if fits else config


def takes_adapters(config: ServeConfig, on: Platform) -> bool:
    """Whether vLLM can load adapters beside this model: on a CPU it dies with weights and activations in int8."""
    return on != "cpu" or _stored(config).get("format") != "int-quantized"


def no_kernel(config: ServeConfig, on: Platform) -> str:
    """Why vLLM cannot compute with weights as this model's are packed; empty where it can, or nothing is known."""
    bits = _packed_bits(_stored(config)) if on == "cpu" else None
    if bits == 8:
        return "vLLM has no kernel for packed 8-bit weights on a CPU"
    if bits == 4 and machine.lacks_avx512():
        return "vLLM's 4-bit kernel for CPUs needs AVX512, which this processor does not have"
    return ""


def _is_for_cpu(config: ServeConfig) -> bool:
    if choose(config).name == "vllm":
        return installed.platform()[0] == "cpu"
    return not machine.chosen(config.devices)


def _parameters(config: ServeConfig) -> int:
    """0 for a model that is not here, or whose weights are not safetensors."""
    folder = models.folder_of(config.model_name_or_path)
    try:
        return models.check(folder).parameters if folder else 0
    except ModelError:
        return 0


def _stored(config: ServeConfig) -> dict[str, Any]:
    """How the model's weights are quantised, as its config.json tells; empty where they are not."""
    folder = models.folder_of(config.model_name_or_path)
    stored = read_record(folder / "config.json").get("quantization_config") if folder else None
    return stored if isinstance(stored, dict) else {}


def _packed_bits(stored: Mapping[str, Any]) -> int | None:
    """Of weights that lie several to a word, and activations as they are: GPTQ's, AWQ's and llmcompressor's formats."""
    if stored.get("quant_method") in ("gptq", "awq"):
        return stored.get("bits")
    groups = stored.get("config_groups")
    if stored.get("format") != "pack-quantized" or not isinstance(groups, dict) or not groups:
        return None
    weights = next(iter(groups.values())).get("weights") or {}
    return weights.get("num_bits")


def _unknown_architecture(name: str) -> str | None:
    """The model's class where vLLM lacks it; None for a model that is not here yet, or says nothing of it."""
    folder, known = models.folder_of(name), installed.architectures()
    named = read_record(folder / "config.json").get("architectures") if folder else None
    if not (isinstance(named, list) and named and known) or known.intersection(map(str, named)):
        return None
    return str(named[0])
