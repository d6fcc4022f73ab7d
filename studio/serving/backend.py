"""Who is to answer: vLLM, or Transformers where vLLM cannot; and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from studio import machine, models
from studio.config.serve import ServeConfig
from studio.errors import ServingError
from studio.files import read_record
from studio.serving import installed
from studio.serving.installed import Platform

Name = Literal["vllm", "huggingface"]


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


def is_slow(config: ServeConfig) -> bool:
    """Whether the type of the weights is left open, and the model's own would be taken apart for every product, as
    16 bits are by a processor without AVX512."""
    if config.dtype != "auto" or config.quantization or _stored(config) or not machine.lacks_avx512():
        return False
    if choose(config).name == "vllm":
        return installed.platform()[0] == "cpu"
    return not machine.chosen(config.devices)


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


def _stored(config: ServeConfig) -> dict[str, Any]:
    """How the model's weights are quantised, as its config.json tells; empty where they are not."""
    folder = models.folder_of(config.model_name_or_path)
    stored = read_record(folder / "config.json").get("quantization_config") if folder else None
    return stored if isinstance(stored, dict) else {}


def _packed_bits(stored: Mapping[str, Any]) -> int | None:
    """Of weights that lie several to a word, and activations as they are: GPTQ's, AWQ's and llmcompressor's formats.
    The most where layers differ; None where nothing is known."""
    if str(stored.get("quant_method")).startswith(("gptq", "awq")):
        return _number(stored.get("bits", stored.get("w_bit")))
    groups = stored.get("config_groups")
    if stored.get("format") not in ("pack-quantized", "mixed-precision") or not isinstance(groups, dict):
        return None
    found = [_group_bits(name, group) for name, group in groups.items()]
    return max(filter(None, found), default=None)


def _group_bits(name: str, group: Any) -> int | None:
    """Of one of llmcompressor's groups: W4A16 is the name of one that says no more than its layers."""
    if not isinstance(group, dict):
        return next((bits for bits in (4, 8) if name.startswith(f"W{bits}A16")), None)
    weights = group.get("weights")
    is_packed = not group.get("input_activations") and group.get("format", "pack-quantized") == "pack-quantized"
    return _number(weights.get("num_bits")) if is_packed and isinstance(weights, dict) else None


def _number(value: Any) -> int | None:
    return int(value) if str(value).isdecimal() else None


def _unknown_architecture(name: str) -> str | None:
    """The model's class where vLLM lacks it; None for a model that is not here yet, or says nothing of it."""
    folder, known = models.folder_of(name), installed.architectures()
    named = read_record(folder / "config.json").get("architectures") if folder else None
    if not (isinstance(named, list) and named and known) or known.intersection(map(str, named)):
        return None
    return str(named[0])
