"""Adapted layers that compute the adapter with the layer, and together with others that read the same input."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from studio.worker.fast.product import Part, Product
from studio.worker.fast.siblings import Outputs, Siblings

Sources = tuple[tuple[nn.Linear, torch.Tensor, int], ...]  # what holds a weight, the weight and its version


class Copy(NamedTuple):
    """The adapters of layers that are computed together, in the type of the computation."""

    a: torch.Tensor  # [sum of ranks, in]: the A of all layers below each other
    each_a: list[torch.Tensor]  # [rank, in]
    each_b: list[torch.Tensor]  # [out, rank]
    sources: Sources  # all A, then all B

    @property
    def is_stale(self) -> bool:
        """Whether the weights are others by now, as far as their versions tell."""
        return any(held.weight is not weight or weight._version != version for held, weight, version in self.sources)


class Copies:
    """Copies of an adapter's weights for `groups` of layers, all made at once.

    They are made anew for each pass through the model, since not every optimizer counts up the version of what it
    changes, and never altered: a pass that is still to be gone back through keeps its own.
    """

    def __init__(self, adapter: str, groups: Sequence[Sequence[Any]]) -> None:
        self.adapter = adapter
        self._groups = groups
        self._made: dict[torch.dtype, list[Copy]] = {}

    def forget(self, *_: Any) -> None:
        """Hook: a new pass begins."""
        self._made = {}

    def of(self, number: int, dtype: torch.dtype) -> Copy:
        """Those of the group of this number."""
        if dtype not in self._made or self._made[dtype][number].is_stale:
            self._made[dtype] = self._make(dtype)
        return self._made[dtype][number]

    def _make(self, dtype: torch.dtype) -> list[Copy]:
        held = [[layer.lora_A[self.adapter] for layer in group] for group in self._groups]
        for group, own in zip(self._groups, held, strict=True):
            own += [layer.lora_B[self.adapter] for layer in group]
        weights = [each.weight for each in chain(*held)]
        with torch.no_grad():
            copies = iter(_unflatten_dense_tensors(_flatten_dense_tensors(weights).to(dtype), weights))
        return [_copy(own, list(islice(copies, len(own)))) for own in held]


def _copy(held: list[nn.Linear], copies: list[torch.Tensor]) -> Copy:
    """Of one group, from the A of all its layers and then the B, in one stretch of memory."""
    count = len(copies) // 2
    a, b = copies[:count], copies[count:]
    ranks, width = sum(each.shape[0] for each in a), a[0].shape[1]
    sources = tuple((each, each.weight, each.weight._version) for each in held)
    return Copy(a[0].as_strided((ranks, width), (width, 1)) if count > 1 else a[0], a, b, sources)


class Adapters(Siblings):
    """Adapted layers that read the very same tensor, whose weights are of one type."""

    def __init__(self, copies: Copies, number: int, layers: Sequence[Any]) -> None:
        super().__init__(layers)
        self.copies, self.number = copies, number

    def output(self, layer: Any, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """What `layer` makes of `x`, computed in `dtype`."""
        copy = self.copies.of(self.number, dtype)
        return self.asked(layer, x, copy, lambda places: self._product(x, dtype, copy, places))

    def _product(self, x: torch.Tensor, dtype: torch.dtype, copy: Copy, places: Sequence[int]) -> Outputs:
        count = len(self.layers)
        a = copy.a if len(places) == count else copy.each_a[places[0]]
        parts = tuple(self.layers[place].part(copy.each_b[place]) for place in places)
        weights = [copy.sources[number][1] for place in places for number in (place, count + place)]
        return Product.apply(x.to(dtype), a, parts, *weights)  # type: ignore[no-any-return]


class Adapted(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Goes before PEFT's class of an adapted linear layer, and leaves to it whatever is not the plain case."""

    siblings: Adapters

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        dtype = None if args or kwargs else self.computed_in(x)
        if dtype is None:
            return super().forward(x, *args, **kwargs)
        return self.siblings.output(self, x, dtype)

    def computed_in(self, x: torch.Tensor) -> torch.dtype | None:
        """The type that the layer and its adapter are computed in together; None where PEFT is to do it."""
        kind, adapter = x.device.type, self.siblings.copies.adapter
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        is_plain = (
            not self._disable_adapters
            and not self.merged_adapters
            and self.active_adapters == [adapter]
            and x.numel() > 0
            and not x.is_inference()
        )
        return dtype if is_plain and self._holds(dtype, x) and not self._is_watched(adapter) else None

    def part(self, b: torch.Tensor) -> Part:
        """The layer, with a copy of its B."""
        base = self.base_layer
        state = getattr(base.weight, "quant_state", None)
        return Part(base.weight, state, base.bias, b, self.scaling[self.siblings.copies.adapter])

    def _holds(self, dtype: torch.dtype, x: torch.Tensor) -> bool:
        """Whether the layer is frozen, in that type or unpacked to it. Without gradients bitsandbytes is faster."""
        base = self.base_layer
        weight, bias = base.weight, base.bias
        if weight.requires_grad or (bias is not None and (bias.requires_grad or bias.dtype is not dtype)):
            return False
        if type(base) is nn.Linear:
            return bool(weight.dtype is dtype)
        state = getattr(weight, "quant_state", None)
        is_usable = state is not None and not getattr(state, "packing_format_for_cpu", False)
        return bool(is_usable and base.compute_dtype is dtype is x.dtype and torch.is_grad_enabled())

    def _is_watched(self, adapter: str) -> bool:
        """Whether a part has hooks that wait for its own call, or this is a shallow copy of the layer."""
        parts = (self.base_layer, self.lora_A[adapter], self.lora_B[adapter])
        hooked = any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in parts)
        return hooked or all(each is not self for each in self.siblings.layers)
