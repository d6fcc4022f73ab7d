"""Who is to answer: vLLM, or Transformers where vLLM cannot; and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from studio import models
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
        installed.platform()
    except ServingError:
        return Backend("huggingface", "answered by Transformers, because vLLM is not installed here")
    if unknown := _unknown_architecture(config.model_name_or_path):
        return Backend("huggingface", f"answered by Transformers, because vLLM does not know {unknown}")
    return Backend("vllm")


def takes_adapters(config: ServeConfig, on: Platform) -> bool:
    """Whether vLLM can load adapters beside this model: on a CPU it dies with weights and activations in int8."""
    folder = models.folder_of(config.model_name_or_path)
    stored = read_record(folder / "config.json").get("quantization_config") if folder else None
    return on != "cpu" or not isinstance(stored, dict) or stored.get("format") != "int-quantized"


def _unknown_architecture(name: str) -> str | None:
    """The model's class where vLLM lacks it; None for a model that is not here yet, or says nothing of it."""
    folder, known = models.folder_of(name), installed.architectures()
    named = read_record(folder / "config.json").get("architectures") if folder else None
    if not (isinstance(named, list) and named and known) or known.intersection(map(str, named)):
        return None
    return str(named[0])
