"""Linear layers that read the same input, with their adapters, as one operation of autograd."""

from __future__ import annotations

from itertools import chain
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable


class Part(NamedTuple):
    """A layer: its weight [out, in], or a packed one of 4 bits with its state, and its adapter's B [out, rank].

    All but a packed weight is in the type of the computation. Weight and bias are not trained.
    """

    weight: torch.Tensor
    state: Any
    bias: torch.Tensor | None
    b: torch.Tensor
    scale: float

    def unpacked(self) -> torch.Tensor:
        """The weight; one of 4 bits is unpacked at each call and kept by nobody."""
        if self.state is None:
            return self.weight
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(self.weight, self.state).to(self.b.dtype)


class Product(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """x [..., in] -> x W^T + bias + scale (x A^T) B^T of each part [..., out].

    `a` [ranks, in] are the A of all parts below each other. It and the parts' b are copies of `adapters`, A and B of
    one part after the other, which the gradients are for. Kept for the way back are x and x A^T.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, a: torch.Tensor, parts: tuple[Part, ...], *adapters: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        rows = x.reshape(-1, x.shape[-1])
        small = rows @ a.T
        ctx.save_for_backward(x, small)
        ctx.a, ctx.parts, ctx.held_in = a, parts, adapters[0].dtype
        ctx.set_materialize_grads(False)
        return tuple(
            _output(part, rows, own, x.shape[:-1]) for part, own in zip(parts, _columns(small, parts), strict=True)
        )

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *slopes: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        x, small = ctx.saved_tensors
        rows, parts = x.reshape(-1, x.shape[-1]), ctx.parts
        heard = [None if slope is None else slope.reshape(-1, slope.shape[-1]) for slope in slopes]
        down = torch.empty_like(small)  # the gradient of x A^T
        to_b: list[torch.Tensor | None] = []
        for part, slope, own, its in zip(parts, heard, _columns(down, parts), _columns(small, parts), strict=True):
            if slope is None:
                own.zero_()
                to_b.append(None)
            else:
                own.addmm_(slope, part.b, beta=0, alpha=part.scale)
                to_b.append(torch.empty_like(part.b).addmm_(slope.T, its, beta=0, alpha=part.scale).to(ctx.held_in))
        to_a = (down.T @ rows).to(ctx.held_in).split_with_sizes([part.b.shape[1] for part in parts])
        to_x = _to_input(ctx.a, parts, heard, down).view(x.shape) if ctx.needs_input_grad[0] else None
        pairs = [(None, None) if b is None else (a, b) for a, b in zip(to_a, to_b, strict=True)]
        return to_x, None, None, *chain(*pairs)


def _output(part: Part, rows: torch.Tensor, small: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """The adapter's part comes first: the large product adds to it as it is written, which saves a pass over memory."""
    weight = part.unpacked()
    y = rows.new_empty(*shape, len(weight))
    flat = y.view(-1, len(weight))  # what is returned is no view, so that others may alter it
    if part.bias is None:
        flat.addmm_(small, part.b.T, beta=0, alpha=part.scale)
    else:
        torch.addmm(part.bias, small, part.b.T, alpha=part.scale, out=flat)
    flat.addmm_(rows, weight.T)
    return y


def _to_input(
    a: torch.Tensor, parts: tuple[Part, ...], slopes: list[torch.Tensor | None], down: torch.Tensor
) -> torch.Tensor:
    """The gradient of the input, in one sum."""
    total = down @ a
    for part, slope in zip(parts, slopes, strict=True):
        if slope is not None:
            total.addmm_(slope, part.unpacked())
    return total


def _columns(small: torch.Tensor, parts: tuple[Part, ...]) -> tuple[torch.Tensor, ...]:
    """Each part's columns of x A^T [rows, ranks]."""
    return small.split_with_sizes([part.b.shape[1] for part in parts], 1)  # type: ignore[no-any-return]
