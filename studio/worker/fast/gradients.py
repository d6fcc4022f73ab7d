"""Gradients of trained weights in float32, which layers write themselves: straight from the product that makes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial

import torch
from torch import Tensor, nn

from studio.worker.fast import FAULTS

LARGE = 1 << 18  # elements
BLANK = "is_blank"  # of a weight that is ours: what its gradient holds does not count


def own(weight: nn.Parameter) -> None:
    """From here on, `learn` writes the gradient of `weight`; where autograd is to do it, `leave` comes before."""
    setattr(weight, BLANK, False)


def is_own(weight: nn.Parameter) -> bool:
    """Whether `own` was called for it."""
    return hasattr(weight, BLANK)


def leave(weight: nn.Parameter) -> None:
    """Before a pass whose gradient autograd adds: to what is there, whether that counts or not."""
    if torch.is_grad_enabled() and getattr(weight, BLANK, False):
        setattr(weight, BLANK, False)
        if weight.grad is not None:
            weight.grad.zero_()


@contextmanager
def overwriting(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """In here, gradients of `weights`, which are all there, count as zero until a pass adds to them. No time is taken
    to make them zero: what is added first is written over them."""
    ours = [each for each in weights if is_own(each)]
    for each in ours:
        setattr(each, BLANK, True)
    try:
        with _taken([each for each in weights if not is_own(each)]):
            yield
        if untouched := [each.grad for each in ours if getattr(each, BLANK)]:
            torch._foreach_zero_(untouched)
    finally:
        for each in ours:
            setattr(each, BLANK, False)


@contextmanager
def _taken(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Autograd takes as gradients of `weights` in here what it is given, without adding it to anything, and that is
    copied into those they had: of what is large at once, that its memory is free again."""
    places = [each.grad for each in weights]
    large = [pair for pair in zip(weights, places, strict=True) if pair[0].numel() >= LARGE]
    hooks = [each.register_post_accumulate_grad_hook(partial(_put, place=place)) for each, place in large]
    for each in weights:
        each.grad = None
    try:
        yield
        pairs = [pair for pair in zip(weights, places, strict=True) if pair[0].grad is not pair[1]]
        if came := [pair for pair in pairs if pair[0].grad is not None]:
            torch._foreach_copy_([place for _, place in came], [each.grad for each, _ in came])
        if missing := [place for each, place in pairs if each.grad is None]:
            torch._foreach_zero_(missing)
    finally:
        for hook in hooks:
            hook.remove()
        for each, place in zip(weights, places, strict=True):
            each.grad = place


def _put(weight: nn.Parameter, place: Tensor) -> None:
    """Hook: have `place`, which holds nothing yet, be the gradient."""
    if weight.grad is not place:
        place.copy_(weight.grad)
        weight.grad = place


def learn(weight: nn.Parameter, slopes: Tensor, rows: Tensor) -> None:
    """Add `slopes` [out, tokens] by `rows` [tokens, in] to the gradient of `weight`."""
    if weight.grad is None:
        weight.grad = torch.empty_like(weight, requires_grad=False)
        setattr(weight, BLANK, True)
    if getattr(weight, BLANK):
        multiply(slopes, rows, weight.grad)
        setattr(weight, BLANK, False)
    elif _adds(weight.device):
        torch.addmm(weight.grad, slopes, rows, out_dtype=torch.float32, out=weight.grad)
    else:
        weight.grad.add_(multiply(slopes, rows, torch.empty_like(weight.grad)))


def multiply(slopes: Tensor, rows: Tensor, place: Tensor) -> Tensor:
    """Their product, in float32, in `place`."""
    if place.is_cuda and rows.dtype != torch.float32:
        return torch.mm(slopes, rows, out_dtype=torch.float32, out=place)
    return torch.mm(slopes.float(), rows.float(), out=place)  # a CPU knows no other way


@cache
def _adds(device: torch.device) -> bool:
    """Whether a product can be added to float32 as it is made. The trial asks first, before anything is recorded."""
    if device.type != "cuda":
        return False
    total, narrow = (torch.ones(16, 16, dtype=dtype, device=device) for dtype in (torch.float32, torch.bfloat16))
    try:
        torch.addmm(total, narrow, narrow, out_dtype=torch.float32, out=total)
    except FAULTS:
        return False
    return bool((total == 17).all())
