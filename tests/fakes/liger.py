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


def install(
    monkeypatch: pytest.MonkeyPatch,
    norm: float = 1,
    slant: float = 1,
    gated: float = 1,
    fault: Exception | None = None,
) -> None:
    """Have it found. Norms and activations come out so many times as large as they are, norms' gradients so many times
    as steep; the `fault` is raised in the midst of the work."""
    for name in ("liger_kernel", "liger_kernel.transformers", "triton"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    patching, faults = ModuleType("liger_kernel.transformers.monkey_patch"), ModuleType("triton.errors")
    patching._apply_liger_kernel_to_instance = partial(_put, norm=norm, slant=slant, gated=gated, fault=fault)
    faults.TritonError = type("TritonError", (Exception,), {})
    for module in (patching, faults):
        monkeypatch.setitem(sys.modules, module.__name__, module)
