"""The folder of a new adapter: weights, configuration, the base it belongs to, tokenizer and template."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from studio.errors import ModelError
from studio.exports.report import Section
from studio.files import write_json
from studio.models import ADAPTER_WEIGHTS, PEFT_PREFIX, TOKENIZER_FILES, AdapterInfo
from studio.worker import outputs

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Made:
    """An adapter that has been made and not been written: `stated` is its adapter_config.json.

    `like` is the folder whose tokenizer and template it takes. `verdict` says in a sentence how good it is.
    """

    weights: Weights
    stated: Mapping[str, Any]
    like: Path
    verdict: str
    sections: tuple[Section, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def read(info: AdapterInfo) -> Weights:
    """All tensors of an adapter, on the CPU."""
    weights: Weights = load_file(info.path / ADAPTER_WEIGHTS)
    return weights


def type_of(weight: torch.Tensor) -> str:
    """The name of a tensor's type: float32."""
    return str(weight.dtype).removeprefix("torch.")


def write(made: Made, base_name: str, base: Path, target: Path) -> None:
    """Write an adapter into the folder `target`; `base` is the model that it belongs to."""
    contiguous = {key: weight.contiguous() for key, weight in made.weights.items()}
    save_file(contiguous, target / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    write_json(target / "adapter_config.json", {**made.stated, "base_model_name_or_path": str(base)})
    outputs.write_base(target, base_name, base)
    own = any((made.like / name).exists() for name in TOKENIZER_FILES)
    outputs.copy_tokenizer(made.like if own else base, target)
    if (made.like / "generation_config.json").exists():
        shutil.copy2(made.like / "generation_config.json", target)


def cast(weights: Weights, export_dtype: str) -> tuple[Weights, float]:
    """Floating point weights in another type, and the largest rounding error as a share of each tensor's length.

    Raises:
        ModelError: a weight is too large for that type.
    """
    if export_dtype == "auto":
        return weights, 0.0
    dtype = getattr(torch, export_dtype)
    written = {key: weight.to(dtype) if weight.is_floating_point() else weight for key, weight in weights.items()}
    for key, weight in written.items():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise ModelError(
                f"{key.removeprefix(PEFT_PREFIX)} has values that {export_dtype} cannot hold: take bfloat16"
            )
    return written, max((_rounding(weights[key], weight) for key, weight in written.items()), default=0.0)


def _rounding(before: torch.Tensor, after: torch.Tensor) -> float:
    length = float(before.double().norm())
    return float((before.double() - after.double()).norm()) / length if length else 0.0
