"""Adapters that start from the strongest directions of the weights (PiSSA).

The weights below such an adapter are what is left of them without those directions, so it fits no other model. As a
plain LoRA it says what has changed since the start, which takes twice the rank and fits the weights as they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, PeftModel

from studio.config.train import TrainConfig

STARTED = "pissa_start"  # attribute of a model: its adapter's weights before the first step


def start(config: TrainConfig) -> str:
    """What PEFT calls this start."""
    return "pissa" if config.pissa_iter < 0 else f"pissa_niter_{config.pissa_iter}"


def is_start(adapter: LoraConfig) -> bool:
    """Whether an adapter began as this module says, and so stands on altered weights."""
    return str(adapter.init_lora_weights).startswith("pissa")


def remember(model: PeftModel) -> None:
    """Keep the start beside the model, on the CPU, for `as_plain`."""
    weights = {name: weight for name, weight in model.named_parameters() if ".lora_" in name}
    start = {name.replace(".default", ""): weight.detach().cpu().clone() for name, weight in weights.items()}
    setattr(model, STARTED, start)


def as_plain(model: PeftModel, weights: dict[str, torch.Tensor], adapter: LoraConfig) -> dict[str, torch.Tensor]:
    """`weights` of a trained adapter as those of a plain LoRA: B A - B0 A0 is [B, -B0] [A; A0]. Alters `adapter`."""
    adapter.lora_alpha *= math.sqrt(2) if adapter.use_rslora else 2  # what keeps the scale at twice the rank
    adapter.r *= 2
    adapter.init_lora_weights = True
    plain = dict(weights)
    for name, started in getattr(model, STARTED).items():
        trained = weights[name]
        parts = [trained, started.to(trained)] if ".lora_A" in name else [trained, -started.to(trained)]
        plain[name] = torch.cat(parts, 0 if ".lora_A" in name else 1).contiguous()
    return plain


def residual(model: PeftModel, live: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """The altered weights below the adapter, by the names that they have in the model's files.

    `live` are all weights of `model` by name, where it does not hold them itself.
    """
    layers = {name: layer for name, layer in model.base_model.model.named_modules() if _is_adapted(layer)}
    if live is None:
        return {f"{name}.weight": layer.get_base_layer().weight.detach() for name, layer in layers.items()}
    return {f"{name}.weight": live[f"base_model.model.{name}.base_layer.weight"] for name in layers}


def _is_adapted(layer: Any) -> bool:
    return "default" in getattr(layer, "lora_A", {})
