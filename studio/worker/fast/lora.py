"""Adapters computed together with the layers below them, in fewer passes over memory than PEFT makes.

PEFT widens the input for the adapter, autocast narrows it again, and what the adapter adds is scaled and added in
passes of their own. On a fast GPU that takes more than half as long as the matrix products.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.worker.fast import FAULTS, Path, first_line, siblings
from studio.worker.fast.adapted import Adapted, Adapters, Copies
from studio.worker.methods.loading import precision

PART = "adapters"
STRATEGIES = ("single", "ddp")  # others lay weights out in ways of their own
KINDS = ("peft.tuners.lora.layer.Linear", "peft.tuners.lora.bnb.Linear4bit")
TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.03}  # of a result's norm; PEFT rounds as well
SPREAD = 0.1  # of B in a trial
TINY = 1e-30


def fuse(model: nn.Module, config: TrainConfig) -> Path:
    """Have the adapted layers of `model` compute their adapters together with what is below them, where they can.

    PEFT's classes, names and weights stay as they are. Whatever is not the plain case at a call (adapters that are
    merged, switched off or several) is computed by PEFT as before.

    Raises:
        ModelError: fused_lora is asked for and cannot be had.
    """
    why = "fused_lora: false" if config.fused_lora is False else _fuse(model, config)
    if why and config.fused_lora:
        raise ModelError(
            f"fused_lora: adapters cannot be computed together with their layers here: {why}. Leave it empty"
        )
    return Path(PART, "by PEFT", why) if why else Path(PART, "together with their layers")


def _fuse(model: nn.Module, config: TrainConfig) -> str:
    """What is in the way; nothing if all went well."""
    if config.parallel_strategy not in STRATEGIES:
        return f"parallel_strategy: {config.parallel_strategy}"
    if not isinstance(model, PeftModel):
        return "there are none"
    adapter = model.active_adapter
    adapted = {name: each for name, each in model.named_modules() if adapter in getattr(each, "lora_A", ())}
    obstacles = {name: _obstacle(each, adapter) for name, each in adapted.items()}
    layers = {name: each for name, each in adapted.items() if not obstacles[name]}
    if not layers:
        return next(iter(obstacles.values()), "there are none")
    with _autocast(config, model):
        groups = siblings.groups(model, layers, _kind)
        first = {type(group.layers[0]): group for group in reversed(groups) if group.x is not None}
        if why := next(filter(None, (_difference(group.layers, group.x, adapter) for group in first.values())), ""):
            return why
    copies = _join([group.layers for group in groups], adapter)
    _stem(model, list(layers)).register_forward_pre_hook(copies.forget)
    return ""


def _obstacle(layer: Any, adapter: str) -> str:
    """Why a layer has to be left to PEFT; nothing if it has not."""
    kind = type(layer)
    if f"{kind.__module__}.{kind.__name__}" not in KINDS:
        return f"they are on layers of the kind {kind.__name__}"
    base = layer.base_layer
    is_known = type(base) is nn.Linear or hasattr(base.weight, "quant_state")
    obstacles = {
        "lora_dropout is not 0": not isinstance(layer.lora_dropout[adapter], nn.Identity),
        f"they are of the kind {type(layer.lora_variant.get(adapter)).__name__}": adapter in layer.lora_variant,
        "they have a bias": layer.lora_bias[adapter],
        f"they are on layers of the kind {type(base).__name__}": not is_known or "forward" in vars(base),
        "they are on weights that are stored the other way round": layer.fan_in_fan_out,
    }
    return next((what for what, holds in obstacles.items() if holds), "")


def _autocast(config: TrainConfig, model: PeftModel) -> torch.autocast:
    """The model in there computes as in the training."""
    dtype = precision(config)
    return torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32 and not config.pure_bf16)


def _kind(layer: Any) -> tuple[Any, ...]:
    """What layers that are computed together have in common."""
    return type(layer), layer.base_layer.weight.dtype


def _difference(layers: list[Any], x: Any, adapter: str) -> str:
    """What is wrong with the results for copies of the layers, on this device; nothing where they are PEFT's."""
    try:
        layers = copy.deepcopy(layers)
        _spread(layers, adapter)
        theirs = _results(layers, x, adapter)
        _join([layers], adapter)
        computed_in = layers[0].computed_in(x)
        if computed_in is None:
            return f"their layers are computed in {x.dtype}, which their weights are not in"
        ours = _results(layers, x, adapter)
    except FAULTS as fault:
        return f"it was tried and failed: {first_line(fault)}"
    apart = max(float((a - b).norm() / b.norm().clamp_min(TINY)) for a, b in zip(ours, theirs, strict=True))
    return "" if apart < TOLERANCE[computed_in] else f"it was tried and results were {apart:.1%} off"


def _spread(layers: Sequence[Any], adapter: str) -> None:
    """An adapter that is new adds nothing; here it does."""
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in layers:
            weight = layer.lora_B[adapter].weight
            weight.copy_(torch.randn(weight.shape, generator=chance) * SPREAD)


def _results(layers: Sequence[Any], x: torch.Tensor, adapter: str) -> list[torch.Tensor]:
    """Outputs of the layers, and gradients of the input and the adapters, in float32."""
    x = x.detach().requires_grad_()
    weights = [getattr(each, part)[adapter].weight for each in layers for part in ("lora_A", "lora_B")]
    with torch.enable_grad():
        outputs = [layer(x) for layer in layers]
        loss = sum(y.float().square().sum() / y.numel() ** 0.5 for y in outputs)  # within what float16 can hold
        slopes = torch.autograd.grad(loss, [x, *weights])
    return [each.detach().float() for each in (*outputs, *slopes)]


def _join(groups: Sequence[Sequence[Any]], adapter: str) -> Copies:
    """Put ours before PEFT's class in each layer."""
    kinds = {type(layer) for layers in groups for layer in layers}
    ours = {kind: type(kind.__name__, (Adapted, kind), {"__module__": kind.__module__}) for kind in kinds}
    copies = Copies(adapter, groups)
    for number, layers in enumerate(groups):
        together = Adapters(copies, number, layers)
        for layer in layers:
            layer.siblings = together
            layer.__class__ = ours[type(layer)]
    return copies


def _stem(model: nn.Module, names: Sequence[str]) -> nn.Module:
    """The innermost module that every pass through one of these layers goes through."""
    around = [
        module
        for name, module in model.named_modules()
        if all(each.startswith(name and f"{name}.") for each in names) and not isinstance(module, nn.ModuleList)
    ]
    return around[-1]
