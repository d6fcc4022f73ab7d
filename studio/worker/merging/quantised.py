"""The base as a training on 4 or 8 bits saw it: what was quantised is rounded as it was, and held in full again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from studio.config.load import load_run_config
from studio.config.merge import MergeConfig
from studio.config.train import TrainConfig
from studio.errors import ConfigError, ModelError, Problem
from studio.worker.merging.work import Read, Source

IN_LAYER = re.compile(r"\b(layers|h|blocks)\.\d+\..*\.weight$")
NOT_LINEAR = (".gate.weight", ".router.weight")  # parts of a mixture that are held as bare parameters, as experts are
TYPE_KEY = "dequantize_base"


@dataclass(frozen=True)
class Rounding:
    """How a training held its base; `double` is whether the scales of 4-bit blocks were quantised too."""

    kind: Literal["nf4", "fp4", "int8"]
    double: bool = True


@dataclass(frozen=True)
class Rounded:
    """A linear layer's weight, quantised as bitsandbytes does and read back."""

    rounding: Rounding
    transposed: bool
    whole: bool = True
    sources: tuple[Source, ...] = ()

    def apply(self, weight: torch.Tensor, read: Read, rows: slice) -> torch.Tensor:
        back = rounded((weight.T if self.transposed else weight).contiguous(), self.rounding)
        return weight.copy_(back.T if self.transposed else back)


def rounded(weight: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    """A weight [out, in] in float32, quantised and read back."""
    return _by_lines(weight) if rounding.kind == "int8" else _by_blocks(weight, rounding)


def asked(config: MergeConfig, adapters: Sequence[Path]) -> Rounding | None:
    """The rounding that a merge asks for; what it leaves open is as the adapters' training runs had it.

    Raises:
        ConfigError: it is to be taken from the training, of which nothing is known here, or trainings differ.
    """
    if config.dequantize_base == "none":
        return None
    trained = {_of_training(adapter) for adapter in adapters}
    if config.dequantize_base != "auto":
        known = trained.pop() if len(trained) == 1 else None
        return Rounding(config.dequantize_base, known.double if known else True)
    if len(trained) > 1 or None in trained:
        what = "the adapters were trained in different ways" if len(trained) > 1 else "its training is not here"
        raise ConfigError([Problem(TYPE_KEY, f"auto cannot tell, {what}: name the type that training had, or none")])
    return trained.pop()


def is_linear(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor of a model is the weight of a linear layer that such a training quantises.

    Embeddings and heads stay as they are, and so do the experts and routers of mixtures.
    """
    in_layer = IN_LAYER.search(name) is not None and not name.endswith(NOT_LINEAR)
    return in_layer and len(shape) == 2 and ".experts." not in name


def _of_training(adapter: Path) -> Rounding | None:
    """How the run that made an adapter held its base; None where it held it in 16 bits or is not here."""
    path = adapter.parent / "config.yaml"
    config = load_run_config(path) if path.exists() else None
    if not isinstance(config, TrainConfig) or config.quantization_bit is None:
        return None
    kind: Literal["nf4", "fp4", "int8"] = "int8" if config.quantization_bit == 8 else config.quantization_type
    return Rounding(kind, config.double_quantization)


def _by_blocks(weight: torch.Tensor, rounding: Rounding) -> torch.Tensor:
    """To 4 bits in blocks of 64 numbers, each with its scale."""
    quantise = _library().quantize_4bit
    packed, state = quantise(weight, quant_type=rounding.kind, compress_statistics=rounding.double)
    back: torch.Tensor = _library().dequantize_4bit(packed, state)
    return back


def _by_lines(weight: torch.Tensor) -> torch.Tensor:
    """To 8 bits, line by line, each with its scale; bitsandbytes starts from float16."""
    weight = weight.half().float()
    scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return (weight * (127 / scale)).round() * (scale / 127)


def _library() -> Any:
    """bitsandbytes, which only this way of merging needs and which takes seconds to import."""
    try:
        from bitsandbytes import functional
    except ImportError as error:
        raise ModelError(f"{TYPE_KEY} needs the package bitsandbytes: pip install bitsandbytes") from error
    return functional
