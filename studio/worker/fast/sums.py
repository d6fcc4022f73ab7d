"""Sums that a norm comes after, made and led back by the norm's own kernel, and not in passes over memory of their own.

Liger has the kernel; the layers of models do not ask for it. Here they do, where they compute as Llama's do.
"""

from __future__ import annotations

from functools import partial
from inspect import unwrap
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from studio.config.train import TrainConfig
from studio.worker.fast import Path, first_line, liger

PART = "sums"
TOKENS = 37  # of a trial
TOLERANCE = 0.02  # of the length of a trial's result: bfloat16 alone gives 0.004
STAGES = 2  # of a kernel's pipeline, Liger's choice


def join(model: PreTrainedModel, config: TrainConfig, precision: torch.dtype) -> None:
    """Have the layers of `model` add by their norms, where those are Liger's and do it right; `precision` is the type
    that it is trained in."""
    layers = [layer for layer in model.modules() if _adds_as_llama(layer)] if liger.path(model).way == "liger" else []
    if not layers:
        return
    why = _fault(layers[0].post_attention_layernorm, precision, config.finetuning_type != "lora")
    for layer in layers if not why else ():
        layer.forward = MethodType(_forward, layer)
    model.sums_path = Path(PART, "one by one", why) if why else Path(PART, "in the norms after them")


def paths(model: PreTrainedModel) -> list[Path]:
    """How sums are made in `model`, if `join` had a choice."""
    told: Path | None = getattr(model, "sums_path", None)
    return [told] if told else []


def _adds_as_llama(layer: nn.Module) -> bool:
    """Transformers writes the layers of its models out one by one: what they compute is the same where the code is."""
    if not isinstance(layer, GradientCheckpointingLayer):
        return False
    ours, llamas = (unwrap(kind.forward).__code__ for kind in (type(layer), LlamaDecoderLayer))
    return (ours.co_code, ours.co_names) == (llamas.co_code, llamas.co_names)


def _is_ligers(norm: nn.Module) -> bool:
    """Whether Liger put its kernel in, and nothing else is to be called: an adapter may have been wrapped around it."""
    return "casting_mode" in vars(norm) and not (norm._forward_hooks or norm._forward_pre_hooks)


def _forward(layer: Any, hidden_states: Tensor, **keys: Any) -> Tensor:
    """A layer of Llama's kind: attention and then the other part, each with what it got added."""
    first, second = layer.input_layernorm, layer.post_attention_layernorm
    if not (_is_ligers(first) and _is_ligers(second)):
        plain: Tensor = type(layer).forward(layer, hidden_states, **keys)
        return plain
    states, before = Normed.apply(hidden_states, None, first.weight, first)
    states, _ = layer.self_attn(hidden_states=states, **keys)
    if states.dtype != before.dtype:  # the kernel would keep the sum in the type of the first
        states, before = before + states, None
    states, before = Normed.apply(states, before, second.weight, second)
    whole: Tensor = before + layer.mlp(states)
    return whole


class Normed(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """What Liger's `norm`, with its `weight`, makes of `states` [..., hidden] with `before` added, if there is such;
    and that sum."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, before: Tensor | None, weight: Tensor, norm: Any) -> tuple[Tensor, Tensor]:
        from liger_kernel.ops.fused_add_rms_norm import fused_add_rms_norm_forward
        from liger_kernel.ops.rms_norm import rms_norm_forward

        told = weight, norm.variance_epsilon, norm.offset, norm.casting_mode
        states = states.contiguous()
        if before is None:
            normed, _, scale, block, warps, mode = rms_norm_forward(states, *told, True)
            whole = states
        else:
            normed, whole, scale, block, warps, _, mode = fused_add_rms_norm_forward(states, before.contiguous(), *told)
        ctx.save_for_backward(whole, weight, scale)
        ctx.has_before = before is not None
        ctx.how = norm.offset, mode, block, warps, STAGES, norm.in_place
        return normed, whole

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, to_normed: Tensor, to_whole: Tensor) -> tuple[Tensor | None, ...]:
        from liger_kernel.ops.fused_add_rms_norm import fused_add_rms_norm_backward

        slopes = to_normed.contiguous(), to_whole.contiguous()
        to_states, to_before, to_weight = fused_add_rms_norm_backward(
            *slopes, *ctx.saved_tensors, *ctx.how, needs_dw=ctx.needs_input_grad[2]
        )
        return to_states, to_before if ctx.has_before else None, to_weight, None


def _fault(norm: Any, precision: torch.dtype, is_whole: bool) -> str:
    """What comes out otherwise than by a sum and then `norm`; empty if nothing. Its weight has a gradient where the
    model `is_whole` in training: the kernel without is another."""
    if not _is_ligers(norm):
        return f"Liger has no {type(norm).__name__}"
    chance = torch.Generator(norm.weight.device).manual_seed(0)
    draw = partial(torch.randn, 1, TOKENS, len(norm.weight), device=norm.weight.device, generator=chance)
    states, before, *slopes = (draw().to(precision) for _ in range(4))
    held = norm.weight.requires_grad
    try:
        norm.weight.requires_grad_(is_whole)
        for given in ([states], [states, before]):
            ours, theirs = (_results(way, given, norm, slopes, is_whole) for way in (Normed.apply, _plain))
            # unlike Python's, the maximum of tensors is no number where one of them is none
            error = float(torch.stack([liger.distance(*pair) for pair in zip(ours, theirs, strict=True)]).max())
            if not error < TOLERANCE:
                return f"they are off by {error:.1%} here"
    except liger.faults() as fault:
        return f"they do not run here: {first_line(fault)}"
    finally:
        norm.weight.requires_grad_(held)
    return ""


def _plain(states: Tensor, before: Tensor | None, _: Tensor, norm: Any) -> tuple[Tensor, Tensor]:
    whole = states if before is None else states + before
    return norm(whole), whole


def _results(way: Any, states: list[Tensor], norm: Any, slopes: list[Tensor], is_whole: bool) -> list[Tensor]:
    """What `way` makes of `states`, and the gradients of these and of the norm's weight. Kernels write into what they
    get."""
    given = [each.clone().requires_grad_() for each in states]
    weight = norm.weight
    made = way(given[0], given[1] if given[1:] else None, weight, norm)
    kept = [each.detach().clone() for each in made]
    learning = [*given, weight] if is_whole else given
    return [*kept, *torch.autograd.grad(made, learning, [each.clone() for each in slopes])]
