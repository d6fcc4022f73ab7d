"""The head of a language model over the tokens that count, and no others, of batches that say which these are.

TRL's fused head, too, leaves out the rest, but has to ask the device how many there are, and waits for the answer. It
computes logits twice, tile by tile, for they may be more than there is room for; where they are one tile they are kept.
"""

from __future__ import annotations

from functools import wraps
from inspect import getclosurevars
from types import MethodType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import increment_version
from torch.distributed.tensor import DTensor
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.integrations import is_deepspeed_zero3_enabled
from trl.kernels import ChunkedLogProbFunction, chunked_logprob
from trl.trainer import utils
from trl.trainer.utils import FusedCausalLMOutput

from studio.worker.encode import IGNORED
from studio.worker.fast import dense, gradients
from studio.worker.fast.dense import Dense

PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1")

Told = tuple[Tensor | None, ...]


class Known(NamedTuple):
    """What TRL knows of an architecture: by what it multiplies its logits, and how it limits them; and which of
    PER_TOKEN are asked for beside the first."""

    temperature: float
    softcapping: float | None
    scale: float
    outputs: tuple[str, ...]

    @property
    def limits(self) -> dict[str, Any]:
        """For TRL's kernels."""
        return {
            "logit_scale": self.scale,
            "softcap": self.softcapping or 1.0,
            "inv_t": 1 / self.temperature,
            "HAS_SOFTCAP": self.softcapping is not None,
            "BLOCK_SIZE": chunked_logprob._BLOCK_SIZE,
        }

    @property
    def flags(self) -> dict[str, bool]:
        """Which outputs the kernel of the way forth is to make."""
        return {f"HAS_{name.upper()}": name in self.outputs for name in chunked_logprob.OPTIONAL_OUTPUTS}


def pick(model: PreTrainedModel) -> None:
    """Have `model`, which has TRL's fused head, compute of batches with `targets` [n] those alone: what the tokens
    `counted` [n], numbered row by row, are followed by. Its outputs have the shape [n]; where a target is IGNORED, what
    they say is of no meaning.
    """
    whole = model.forward
    closure = getclosurevars(whole.__func__).nonlocals
    names = ("temperature", "final_logit_softcapping", "logit_scale", "outputs")
    known = Known(*(closure[name] for name in names))
    if len(model.get_output_embeddings().weight) <= utils._CHUNKED_LOGPROB_CHUNK_SIZE:
        dense.admit_head(model)

    @wraps(type(model).forward)  # generate() looks at its arguments
    def forward(_: PreTrainedModel, *args: Any, **keys: Any) -> Any:
        head = model.get_output_embeddings()
        if "targets" not in keys:
            if isinstance(head, Dense):
                gradients.leave(head.weight)
            return whole(*args, **keys)
        counted, targets = keys.pop("counted"), keys.pop("targets")
        keys = {name: value for name, value in keys.items() if name not in ("fused_lm_head", "labels")}
        states = model.base_model(*args, **keys).last_hidden_state.flatten(0, 1).index_select(0, counted)
        told = _told(states, head, targets.clamp(min=0), known)
        mask = targets != IGNORED
        return FusedCausalLMOutput(**dict(zip(PER_TOKEN, told, strict=True)), label_mask=mask)

    model.forward = MethodType(forward, model)


def _told(states: Tensor, head: nn.Linear, targets: Tensor, known: Known) -> Told:
    """What PER_TOKEN names, [n] each, of `states` [n, hidden]; None where it is not asked for."""
    weight = head.weight  # PEFT makes one anew each time, of a head with new tokens
    is_one = _is_one_tile(states, weight)
    narrow = head.narrow(states) if is_one and isinstance(head, Dense) else None
    if narrow is None:
        gradients.leave(weight)
    if is_one:
        return Kept.apply(states, weight, head.bias, narrow, targets, known)  # type: ignore[no-any-return]
    words = utils._CHUNKED_LOGPROB_CHUNK_SIZE
    limits = known.temperature, words, known.softcapping, known.scale, known.outputs
    return ChunkedLogProbFunction.apply(states, weight, head.bias, targets, *limits)  # type: ignore[no-any-return]


def _is_one_tile(states: Tensor, weight: Tensor) -> bool:
    """Whether TRL would compute all logits at once too: they take no more room for being kept."""
    is_whole = not isinstance(weight, DTensor) and not is_deepspeed_zero3_enabled()
    words = utils._CHUNKED_LOGPROB_CHUNK_SIZE
    return is_whole and 0 < len(states) <= chunked_logprob.TOKEN_CHUNK_SIZE and len(weight) <= words


class Kept(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """TRL's ChunkedLogProbFunction where there is one tile: it is kept for the way back, and becomes its own gradient.

    `narrow` is a copy of the weight [words, hidden] in the type of the computation, where the weight is ours: its
    gradient is then added to what it has by now, and given to nobody else.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        narrow: Tensor | None,
        targets: Tensor,
        known: Known,
    ) -> Told:
        ctx.set_materialize_grads(False)  # figures that are only told of have none
        kind = states.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
        rows, cast = states.to(dtype), weight.to(dtype) if narrow is None else None
        logits = functional.linear(rows, narrow if cast is None else cast, None if bias is None else bias.to(dtype))
        log_z, *told = _fold(logits, targets, known)
        ctx.known, ctx.types = known, (states.dtype, weight.dtype, None if bias is None else bias.dtype)
        # what is ours stays, and its copy is written over for each pass; anything else goes once it is passed
        ctx.ours = None if narrow is None else (weight, narrow)
        ctx.save_for_backward(rows, cast, logits, targets, log_z, log_z if told[1] is None else told[1])
        ctx.mark_non_differentiable(*(each for each in told[2:] if each is not None))
        return tuple(told)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, to_log_probs: Tensor | None, to_entropy: Tensor | None, *_: Any) -> Told:
        rows, cast, logits, targets, log_z, entropy = ctx.saved_tensors
        ours, narrow = ctx.ours or (None, cast)
        slopes = _slopes(logits, targets, log_z, entropy, to_log_probs, to_entropy, ctx.known)
        of_states, of_weight, of_bias = ctx.types
        to_states = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            is_narrow = of_states == slopes.dtype
            to_states = slopes @ narrow if is_narrow else _wide(slopes, narrow).to(of_states)
        if ctx.needs_input_grad[1]:
            if ours is None:
                to_weight = _wide(slopes.T, rows).to(of_weight)
            else:
                gradients.learn(ours, slopes.T, rows)
        if ctx.needs_input_grad[2]:
            to_bias = slopes.sum(0, dtype=torch.float32).to(of_bias)
        return to_states, to_weight, to_bias, None, None, None


def _wide(left: Tensor, right: Tensor) -> Tensor:
    """Their product, in float32."""
    place = torch.empty(len(left), right.shape[1], dtype=torch.float32, device=left.device)
    return gradients.multiply(left, right, place)


def _fold(logits: Tensor, targets: Tensor, known: Known) -> list[Tensor | None]:
    """The logarithm of the sum of each row, and what PER_TOKEN names."""
    tokens, words = logits.shape
    largest, before = (logits.new_full((tokens,), -torch.inf, dtype=torch.float32) for _ in range(2))
    total, weighed, squared, plain, right = (logits.new_zeros(tokens, dtype=torch.float32) for _ in range(5))
    sums = largest, total, weighed, squared, plain, before, right
    fold = _kernel(logits, chunked_logprob._forward_kernel, chunked_logprob._forward_tile, (tokens,))
    fold(logits, logits.stride(0), targets, *sums, 0, words, **known.flags, **known.limits)
    log_z = largest + total.log()
    told = {
        "log_probs": right - log_z,
        "entropy": log_z - weighed / total,
        "log_sum_sq_probs": squared.log() - 2 * total.log(),
        "mean_logits": plain / words,
        "is_top1": (right >= largest) & (right > before),
    }
    return [log_z, *(told[name] if name in ("log_probs", *known.outputs) else None for name in PER_TOKEN)]


def _slopes(
    logits: Tensor,
    targets: Tensor,
    log_z: Tensor,
    entropy: Tensor,
    to_log_probs: Tensor | None,
    to_entropy: Tensor | None,
    known: Known,
) -> Tensor:
    """The gradient of the logits, in their place."""
    tokens, words = logits.shape
    blocks = -(-words // chunked_logprob._BLOCK_SIZE)
    fold = _kernel(logits, chunked_logprob._backward_kernel, chunked_logprob._backward_tile, (tokens, blocks))
    slopes = (log_z if each is None else each.float().contiguous() for each in (to_log_probs, to_entropy))
    has = {"HAS_LOGPROB_GRAD": to_log_probs is not None, "HAS_ENTROPY_GRAD": to_entropy is not None}
    fold(logits, logits.stride(0), targets, log_z, entropy, *slopes, 0, words, **has, **known.limits)
    increment_version(logits)  # a second way back is refused
    return logits


def _kernel(logits: Tensor, kernel: Any, plain: Any, grid: tuple[int, ...]) -> Any:
    return kernel[grid] if chunked_logprob._use_triton(logits.device) else plain
