"""Liger's package on a machine that lacks it: a llama's layers compute by other code, as right or wrong as is asked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.llama import modeling_llama


class Norm(nn.Module):
    """What newly made models would get."""


class Slanted(torch.autograd.Function):
    """The same forward, and backward so many times as steep."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, slant: float) -> torch.Tensor:
        ctx.slant = slant
        return x.clone()

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, None]:
        return slope * ctx.slant, None


def _norm(self: Any, x: torch.Tensor, off: float, slant: float) -> torch.Tensor:
    y = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.variance_epsilon)
    return Slanted.apply(self.weight * y.to(x.dtype) * off, slant)


def _gated(self: Any, x: torch.Tensor, off: float) -> torch.Tensor:
    return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x) * off)


def _rotated(*_: Any) -> None:
    raise AssertionError("states on the CPU came to a kernel")


def _bind(layer: nn.Module, forward: Callable[..., Any]) -> None:
    layer.in_place, layer.forward = True, forward.__get__(layer)


def _put(model: Any, norm: float, slant: float, gated: float, fault: Exception | None, **losses: bool) -> None:
    assert losses == {"cross_entropy": False, "fused_linear_cross_entropy": False}
    modeling_llama.LlamaRMSNorm, modeling_llama.apply_rotary_pos_emb = Norm, _rotated
    for layer in model.modules():
        if type(layer).__name__ == "LlamaRMSNorm":
            _bind(layer, lambda self, x: _norm(self, x, norm, slant))
        elif type(layer).__name__ == "LlamaMLP":
            _bind(layer, lambda self, x: _gated(self, x, gated))
            if fault:
                raise fault


def mark(layer: Any, is_gemmas: bool = False) -> None:
    """Have the norm be taken for one that Liger's kernel is in."""
    layer.offset, layer.casting_mode = (1.0, "gemma") if is_gemmas else (0.0, "llama")
    layer.variance_epsilon = getattr(layer, "variance_epsilon", None) or layer.eps
    layer.in_place = not is_gemmas


def _normed(
    x: torch.Tensor, weight: torch.Tensor, eps: float, offset: float, mode: str
) -> tuple[torch.Tensor, torch.Tensor]:
    scale = torch.rsqrt(x.float().square().mean(-1) + eps)
    y = x.float() * scale[..., None]
    return ((y if mode == "gemma" else y.to(x.dtype)) * (weight + offset)).to(x.dtype), scale


def _alone(x: torch.Tensor, *told: Any) -> tuple[Any, ...]:
    *told, is_by_rows = told
    assert is_by_rows
    y, scale = _normed(x, *told)
    return y, x.view(-1, x.shape[-1]), scale, 1, 1, told[-1]


def _summed(x: torch.Tensor, beside: torch.Tensor, *told: Any, sums: float | None) -> tuple[Any, ...]:
    if sums is None:
        raise RuntimeError("no compiler")
    assert x.dtype == beside.dtype
    whole = (x + beside) * sums
    y, scale = _normed(whole, *told)
    return y, whole, scale, 1, 1, 2, told[-1]


def _back(
    slope: torch.Tensor,
    beside: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    scale: torch.Tensor,
    offset: float,
    *_: Any,
    needs_dw: bool,
    back: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    unit = x.float() * scale[..., None]
    steep = slope.float() * (weight.float() + offset)
    to_x = scale[..., None] * (steep - unit * (steep * unit).mean(-1, keepdim=True)) + beside.float()
    to_x = (to_x * back).to(x.dtype)
    return to_x, to_x, (slope.float() * unit).flatten(0, -2).sum(0).to(weight.dtype) if needs_dw else None


def install(
    monkeypatch: pytest.MonkeyPatch,
    norm: float = 1,
    slant: float = 1,
    gated: float = 1,
    fault: Exception | None = None,
    sums: float | None = 1,
    back: float = 1,
) -> None:
    """Have it found. Norms, activations and sums come out so many times as large as they are, gradients of norms and of
    sums so many times as steep; the `fault` is raised in the midst of the work."""
    for name in ("liger_kernel", "liger_kernel.transformers", "triton"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    patching, faults = ModuleType("liger_kernel.transformers.monkey_patch"), ModuleType("triton.errors")
    patching._apply_liger_kernel_to_instance = partial(_put, norm=norm, slant=slant, gated=gated, fault=fault)
    faults.TritonError = type("TritonError", (Exception,), {})
    plain, summing = (ModuleType(f"liger_kernel.ops.{name}") for name in ("rms_norm", "fused_add_rms_norm"))
    plain.rms_norm_forward = _alone
    summing.fused_add_rms_norm_forward = partial(_summed, sums=sums)
    summing.fused_add_rms_norm_backward = partial(_back, back=back)
    for module in (patching, faults, ModuleType("liger_kernel.ops"), plain, summing):
        monkeypatch.setitem(sys.modules, module.__name__, module)
