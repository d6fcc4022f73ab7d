"""Gradients that are clipped while the optimizer reads them, not in a pass over memory of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from studio.worker.fast.adamw import AdamW

MARGIN = 1e-6  # as torch.nn.utils.clip_grad_norm_ has it


def prepare(optimizer: Any, weights: Iterable[nn.Parameter]) -> bool:
    """Whether `leave` may be called for `optimizer` of `weights`, from here on."""
    ours = takes(optimizer, weights)
    if ours:
        optimizer.register_step_post_hook(_forget)
    return ours


def takes(optimizer: Any, weights: Iterable[nn.Parameter]) -> bool:
    """Whether `optimizer` is AdamW in one kernel, torch's or ours, over `weights` and no others, all of one device."""
    mine = {id(weight) for weight in weights if weight.requires_grad}
    held = [weight for group in getattr(optimizer, "param_groups", ()) for weight in group["params"]]
    is_fused = type(optimizer) in (torch.optim.AdamW, AdamW) and all(group["fused"] for group in optimizer.param_groups)
    is_plain = len({(weight.device, weight.dtype) for weight in held}) == 1 and held[0].dtype == torch.float32
    return bool(is_fused and is_plain and {id(weight) for weight in held} == mine)


def leave(optimizer: torch.optim.AdamW, length: Tensor, limit: float) -> Tensor:
    """Have the next step of `optimizer` take gradients, which are of that `length`, as if it was at most `limit`; the
    length as it is. The step divides by what is left for it here, as it does for a GradScaler."""
    optimizer.grad_scale = ((length + MARGIN) / limit).clamp(min=1.0)
    return length


def _forget(optimizer: torch.optim.AdamW, *_: Any) -> None:
    """Hook: what was left was for one step."""
    optimizer.grad_scale = None
