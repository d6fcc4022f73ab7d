"""What Seedbed adds to vLLM, inside vLLM's own processes (API server, engine, workers).

vLLM finds `register` through the entry point in the dist-info folder beside this file, once this folder is on
PYTHONPATH: nothing is installed. Four things, each by itself:

- every process dies with the one that started it; vLLM's engine otherwise outlives a killed server for ever;
- `RequireKey` guards every path but /health: vLLM's own check leaves full inference and adapter loading open;
- on a CPU, LoRA products skip rows without an adapter. vLLM 0.32 indexes its weights with -1 for "none", which
  Python reads as "the last", so in a mixed batch the base model answers like an adapter;
- on a CPU, the engine is forked, which spares one of three imports of vLLM.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import inspect
import logging
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import torch

PR_SET_PDEATHSIG = 1
logger = logging.getLogger("vllm.seedbed")  # below "vllm", so that it prints by vLLM's own handler

Rows = Any  # slice or torch.Tensor: what indexes the first dimension


def register() -> None:
    """Called by vLLM in each of its processes, possibly more than once."""
    die_with_parent()
    os.register_at_fork(after_in_child=die_with_parent)
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        replace_operators()
        fork_engine()


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def fork_engine() -> None:
    """Start the engine by fork, as vLLM does by itself on a GPU: one import of vLLM less, a third of the start.

    On a CPU vLLM always spawns, because workers read their OpenMP settings when they start. They still do: only
    the engine, which computes nothing, is forked.
    """
    import vllm.v1.engine.utils as module

    # Intel's OpenMP leaves a forked child on one core
    os.register_at_fork(after_in_child=partial(os.sched_setaffinity, 0, os.sched_getaffinity(0)))
    module.get_mp_context = lambda: multiprocessing.get_context("fork")


class RequireKey:
    """ASGI middleware: without the server's key only /health answers."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app
        self.digest = _digest(os.environ["VLLM_API_KEY"].encode())

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or scope.get("path") == "/health" or self._has_key(scope):
            await self.app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"error":"Unauthorized"}'})

    def _has_key(self, scope: dict[str, Any]) -> bool:
        scheme, _, key = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(_digest(key), self.digest)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def replace_operators() -> None:
    """Put the operators below in the place of vLLM's, unless vLLM's have changed their parameters."""
    import vllm.lora.ops.torch_ops as package
    import vllm.lora.ops.torch_ops.lora_ops as module
    import vllm.lora.punica_wrapper.punica_cpu as wrapper

    if changed := [new.__name__ for new in OPERATORS if not _same_parameters(new, module)]:
        logger.warning("Seedbed left vLLM's LoRA operators alone: %s differ in this version", ", ".join(changed))
        return
    for new in OPERATORS:
        for place in (module, package, wrapper):
            setattr(place, new.__name__, new)
    logger.info("Seedbed replaced vLLM's LoRA operators: rows without an adapter are skipped")


def _same_parameters(new: Callable[..., None], module: Any) -> bool:
    old = getattr(module, new.__name__, None)
    return old is not None and list(inspect.signature(old).parameters) == list(inspect.signature(new).parameters)


# Shapes: inputs [rows, in]; weights [slots, (1,) out, in]; output [rows, >= out]; indices [rows] or [1], where a
# row's index is the slot of its adapter and -1 means none. Prefill ("sgmv") gives one index per sequence.


def bgmv_shrink(
    inputs: torch.Tensor,
    lora_b_weights: torch.Tensor,
    output_tensor: torch.Tensor,
    lora_indices_tensor: torch.Tensor,
    scaling: float = 1.0,
) -> None:
    """output[:, :out] = scaling * inputs @ weights[slot].T"""
    for rows, product in _products(inputs, lora_b_weights, lora_indices_tensor, output_tensor.dtype):
        output_tensor[rows, : product.shape[1]] = product * scaling


def bgmv_expand(
    inputs: torch.Tensor,
    lora_b_weights: torch.Tensor,
    output_tensor: torch.Tensor,
    lora_indices_tensor: torch.Tensor,
    add_inputs: bool = True,
) -> None:
    """output[:, :out] (+)= inputs @ weights[slot].T; model and adapter may pad the output differently."""
    width = min(lora_b_weights.shape[-2], output_tensor.shape[1])
    bgmv_expand_slice(inputs, lora_b_weights, output_tensor, lora_indices_tensor, 0, width, add_inputs)


def bgmv_expand_slice(
    inputs: torch.Tensor,
    lora_b_weights: torch.Tensor,
    output_tensor: torch.Tensor,
    lora_indices_tensor: torch.Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """output[:, offset:offset + size] (+)= (inputs @ weights[slot].T)[:, :size]"""
    columns = slice(slice_offset, slice_offset + slice_size)
    for rows, product in _products(inputs, lora_b_weights, lora_indices_tensor, output_tensor.dtype):
        if add_inputs:
            output_tensor[rows, columns] += product[:, :slice_size]
        else:
            output_tensor[rows, columns] = product[:, :slice_size]


def sgmv_shrink(
    inputs: torch.Tensor,
    lora_a_weights: torch.Tensor,
    output_tensor: torch.Tensor,
    b_seq_start_loc: torch.Tensor,
    seq_len_tensor: torch.Tensor,
    lora_indices_tensor: torch.Tensor,
    batches: int,
    max_seq_length: int,
    token_nums: int,
    scaling: float,
) -> None:
    """`bgmv_shrink` with one index per sequence."""
    indices = torch.repeat_interleave(lora_indices_tensor, seq_len_tensor)
    bgmv_shrink(inputs, lora_a_weights, output_tensor, indices, scaling)


def sgmv_expand(
    inputs: torch.Tensor,
    lora_b_weights: torch.Tensor,
    output_tensor: torch.Tensor,
    b_seq_start_loc: torch.Tensor,
    seq_len_tensor: torch.Tensor,
    lora_indices_tensor: torch.Tensor,
    batches: int,
    max_seq_length: int,
    token_nums: int,
    add_inputs: bool = False,
) -> None:
    """`bgmv_expand` with one index per sequence."""
    indices = torch.repeat_interleave(lora_indices_tensor, seq_len_tensor)
    bgmv_expand(inputs, lora_b_weights, output_tensor, indices, add_inputs)


def sgmv_expand_slice(
    inputs: torch.Tensor,
    lora_b_weights: torch.Tensor,
    output_tensor: torch.Tensor,
    b_seq_start_loc: torch.Tensor,
    seq_len_tensor: torch.Tensor,
    lora_indices_tensor: torch.Tensor,
    batches: int,
    max_seq_length: int,
    token_nums: int,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = False,
) -> None:
    """`bgmv_expand_slice` with one index per sequence."""
    indices = torch.repeat_interleave(lora_indices_tensor, seq_len_tensor)
    bgmv_expand_slice(inputs, lora_b_weights, output_tensor, indices, slice_offset, slice_size, add_inputs)


OPERATORS = (bgmv_shrink, bgmv_expand, bgmv_expand_slice, sgmv_shrink, sgmv_expand, sgmv_expand_slice)


def _products(
    inputs: torch.Tensor, weights: torch.Tensor, indices: torch.Tensor, dtype: torch.dtype
) -> Iterator[tuple[Rows, torch.Tensor]]:
    """One matrix product per adapter in the batch, with the rows it is for. vLLM copies weights for each row."""
    for slot, rows in _rows_by_slot(indices):
        matrix = weights[slot].flatten(end_dim=-2) if weights.dim() == 4 else weights[slot]
        yield rows, inputs[rows].to(dtype) @ matrix.to(dtype).t()


def _rows_by_slot(indices: torch.Tensor) -> Iterator[tuple[int, Rows]]:
    slots = indices.tolist()
    for slot in sorted(set(slots) - {-1}):
        first, last = slots.index(slot), len(slots) - slots[::-1].index(slot)
        if len(slots) == 1:  # one index for all rows
            yield slot, slice(None)
        elif slots.count(slot) == last - first:  # neighbours, as in most batches: a view costs a fifth of a gather
            yield slot, slice(first, last)
        else:
            yield slot, (indices == slot).nonzero(as_tuple=True)[0]
