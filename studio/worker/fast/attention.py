"""Attention over rows laid end to end, each computed by its own length: there is no mask of all tokens by all tokens,
and nothing is computed only to be hidden by it.

A flat batch says where its rows begin, under the names that Transformers' models hand on to their attention. Without
them (padded batches, generation) everything is computed by sdpa, with its mask.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.planning.ways import ATTENDING, WIDEST_HEAD
from studio.worker.fast import FAULTS, Path, first_line

NAME = "varlen"
PART = "attention"
FLAT = (NAME, "flash_attention_2", "flash_attention_3")
HALF = (torch.bfloat16, torch.float16)
# the kernel shares keys between heads in torch 2.11 as well, where nothing asks for a word on it
SHARING = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}
PROBED = (37, 91, 64)  # tokens of the rows of a probe
TOLERANCE = 0.03  # of the length of a probe's result: bfloat16 alone gives 0.006, a window off by one 0.075


def register() -> None:
    """Have models know this attention by `NAME`."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def row_keys(lengths: Sequence[int], device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a batch of rows of `lengths` tokens, laid end to end, tells the model beside their tokens."""
    starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
    return keys_of(starts, max(lengths))


def keys_of(starts: torch.Tensor, longest: int) -> dict[str, Any]:
    """The same from where each row begins and the last one ends [rows + 1], int32; none is longer than `longest`."""
    return {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": longest, "max_length_k": longest}


def is_flat(model: PreTrainedModel) -> bool:
    """Whether `model` computes by the lengths of rows, so that batches should tell them."""
    return model.config._attn_implementation in FLAT


def path(model: PreTrainedModel) -> Path:
    """How attention is computed in `model`, and why not by lengths where `settle` was told so."""
    told: Path | None = getattr(model, "attention_path", None)
    return told or Path(PART, model.config._attn_implementation)


def settle(model: PreTrainedModel, chosen: Path) -> None:
    """Have `model`, loaded with the attention that was `chosen`, build no masks for flat batches."""
    model.attention_path = chosen
    skip_masks(model)


def skip_masks(model: PreTrainedModel) -> None:
    """Have `model` build no masks for flat batches while it computes by `NAME`: to see from positions that there are
    rows it would wait for the device, and then make a mask of all tokens by all tokens."""
    model.base_model.register_forward_pre_hook(_without_mask, with_kwargs=True)


def _without_mask(module: PreTrainedModel, args: Any, keys: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    starts = keys.get("cu_seq_lens_q")
    if starts is None or module.config._attn_implementation != NAME:
        return None
    # whatever has four dimensions is taken for a mask that is made already; `attend` does not look at it
    return args, {**keys, "attention_mask": starts[None, None, None]}


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """An attention of Transformers: [rows, heads, tokens, width] in, [rows, tokens, heads, width] out.

    Where a batch tells lengths it is one row, of all its rows; a token sees those before it in its own, as far back as
    the window goes.
    """
    if cu_seq_lens_q is None:
        plain: torch.Tensor
        plain, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **others)
        return plain, None
    computed_in = _computed_in(query)
    if query.is_cuda and computed_in in HALF:
        # squeezed, not picked: the way back of picking copies into zeros
        queries, keys, values = (part.squeeze(0).transpose(0, 1).to(computed_in) for part in (query, key, value))
        flat = _by_length(queries, keys, values, cu_seq_lens_q, max_length_q, scaling, sliding_window)
        return flat[None], None
    lengths = cu_seq_lens_q.diff().tolist()
    return _one_by_one(query, key, value, lengths, scaling, sliding_window, dropout), None


def _computed_in(query: torch.Tensor) -> torch.dtype:
    """As sdpa is by autocast, which does not know of the kernel; rotated queries are wider than it."""
    device = query.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else query.dtype


def _by_length(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """[tokens, heads, width] in and out; the host does not need to know where rows begin."""
    reach = (window - 1 if window else -1, 0)  # a window counts the token itself, the kernel those before it
    sharing = SHARING if query.shape[1] != key.shape[1] else {}
    attended: torch.Tensor = varlen_attn(
        query, key, value, starts, starts, longest, longest, scale=scaling, window_size=reach, **sharing
    )
    return attended


def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: Sequence[int],
    scaling: float | None,
    window: int | None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """[1, heads, tokens, width] in, [1, tokens, heads, width] out: each row as sdpa computes it alone."""
    attended = [
        scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=(seen := _seen(queries.shape[2], window, query.device)),
            dropout_p=dropout,
            is_causal=seen is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        ).transpose(1, 2)
        for queries, keys, values in zip(*(part.split(lengths, 2) for part in (query, key, value)), strict=True)
    ]
    return torch.cat(attended, 1)


def _seen(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    if not window or length <= window:
        return None
    return torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - window)


def choose(config: TrainConfig, model_config: PreTrainedConfig, precision: torch.dtype, device: torch.device) -> Path:
    """`NAME` where the model of `model_config` can be computed by it on `device`, else sdpa and why.

    Raises:
        ModelError: `NAME` was asked for and cannot be had.
    """
    register()
    why = _obstacle(config, model_config, precision, device)
    if not why and device.type == "cuda":
        why = _fault(model_config, precision, device)
    if why and config.flash_attn == NAME:
        raise ModelError(f"flash_attn: {NAME} cannot be used, {why}: set it to auto, which takes what there is")
    return Path(PART, "sdpa", why) if why else Path(PART, NAME)


def _obstacle(config: TrainConfig, model_config: PreTrainedConfig, precision: torch.dtype, device: torch.device) -> str:
    """Why a model cannot be computed by lengths, as far as its configuration tells; empty if it can."""
    brings_code = config.trust_remote_code and hasattr(model_config, "auto_map")
    if model_config.model_type not in ATTENDING or brings_code:
        return f"a {model_config.model_type} model is not known to hand lengths on to its attention"
    is_cuda, width = device.type == "cuda", head_width(model_config)
    reasons = {
        "attention_dropout is not in its kernel": bool(getattr(model_config, "attention_dropout", 0)),
        "output_attentions is not in its kernel": bool(model_config.output_attentions),
        "its kernel does not compute float32": is_cuda and precision not in HALF,
        f"its kernel does not take heads of width {width}": is_cuda and (width > WIDEST_HEAD or width % 8 != 0),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def head_width(model_config: PreTrainedConfig) -> int:
    """Elements of a head of queries."""
    told = getattr(model_config, "head_dim", None)
    return int(told or model_config.hidden_size // model_config.num_attention_heads)


def _fault(model_config: PreTrainedConfig, precision: torch.dtype, device: torch.device) -> str:
    """What the kernel of `device` does wrong on a few rows with the model's heads; empty if nothing."""
    heads = model_config.num_attention_heads
    shared = getattr(model_config, "num_key_value_heads", None) or heads
    shape = (heads, shared, head_width(model_config))
    window = getattr(model_config, "sliding_window", None) and PROBED[0]
    try:
        errors = [_error(shape, reach, precision, device) for reach in {None, window}]
    except FAULTS as fault:
        return f"its kernel does not run here ({first_line(fault)})"
    return "" if all(error < TOLERANCE for error in errors) else f"its kernel is off by {max(errors):.1%} here"


def _error(shape: tuple[int, int, int], window: int | None, precision: torch.dtype, device: torch.device) -> float:
    """How far the kernel and its way back are from sdpa in float32, as a share of the latter's length.

    `shape` is (heads of queries, heads of keys, width).
    """
    heads, shared, width = shape
    chance = torch.Generator(device).manual_seed(0)
    states = [
        torch.randn(1, count, sum(PROBED), width, device=device, generator=chance).to(precision).requires_grad_()
        for count in (heads, shared, shared)
    ]
    starts = row_keys(PROBED, device)["cu_seq_lens_q"]
    query, key, value = (part[0].transpose(0, 1) for part in states)
    quick = _by_length(query, key, value, starts, max(PROBED), None, window)
    query, key, value = (part.float() for part in states)
    plain = _one_by_one(query, key, value, PROBED, None, window)[0]
    slopes = [torch.autograd.grad(result.float().square().sum(), states) for result in (quick, plain)]
    pairs = zip((quick.detach(), *slopes[0]), (plain.detach(), *slopes[1]), strict=True)
    return float(
        torch.stack([(one.float() - other.float()).norm() / other.float().norm() for one, other in pairs]).max()
    )
