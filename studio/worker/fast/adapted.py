"""Adapted layers that compute the adapter with the layer, and together with others that read the same input."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import nn

from studio.worker.fast.product import Part, Product

Sources = tuple[tuple[nn.Linear, torch.Tensor, int], ...]  # what holds a weight, the weight and its version


class Copy(NamedTuple):
    """The adapters of layers that are computed together, in the type of the computation."""

    a: torch.Tensor  # [sum of ranks, in]: the A of all layers below each other
    each: tuple[tuple[torch.Tensor, torch.Tensor], ...]  # A [rank, in] and B [out, rank] of each layer
    sources: Sources  # in that order

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
            self._made[dtype] = [_room(group, self.adapter, dtype) for group in self._groups]
            made = self._made[dtype]
            with torch.no_grad():
                torch._foreach_copy_(
                    [weight for copy in made for pair in copy.each for weight in pair],
                    [weight for copy in made for _, weight, _ in copy.sources],
                )
        return self._made[dtype][number]


def _room(group: Sequence[Any], adapter: str, dtype: torch.dtype) -> Copy:
    """Copies of a group that are still to be filled."""
    first, second = ([getattr(layer, part)[adapter] for layer in group] for part in ("lora_A", "lora_B"))
    ranks = [each.out_features for each in first]
    a = first[0].weight.new_empty(sum(ranks), first[0].in_features, dtype=dtype)
    b = [torch.empty_like(each.weight, dtype=dtype, requires_grad=False) for each in second]
    held = chain(*zip(first, second, strict=True))
    sources = tuple((each, each.weight, each.weight._version) for each in held)
    return Copy(a, tuple(zip(a.split(ranks), b, strict=True)), sources)


class Waiting(NamedTuple):
    """Outputs that layers have not asked for yet, and what they are outputs of."""

    x: torch.Tensor
    version: int  # of x
    copy: Copy
    has_gradient: bool
    outputs: dict[int, torch.Tensor]  # by the layer's place in its group

    def take(self, place: int, x: torch.Tensor, copy: Copy) -> torch.Tensor | None:
        """The output of the layer in that place, once."""
        is_same = self.x is x and self.version == x._version and self.copy is copy
        return self.outputs.pop(place, None) if is_same and self.has_gradient == torch.is_grad_enabled() else None


class Siblings:
    """Layers that read the very same tensor, computed when the first of them is called.

    The others find their outputs waiting if they are called with that tensor, unaltered, and once; in every other
    case a layer is computed alone.
    """

    def __init__(self, copies: Copies, number: int, layers: Sequence[Any]) -> None:
        self.copies, self.number, self.layers = copies, number, layers
        self._waiting: Waiting | None = None

    def output(self, layer: Any, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """What `layer` makes of `x`, computed in `dtype`."""
        place = next(place for place, each in enumerate(self.layers) if each is layer)
        copy = self.copies.of(self.number, dtype)
        if place and self._waiting:
            y = self._waiting.take(place, x, copy)
            if y is None or not self._waiting.outputs:
                self._waiting = None
            if y is not None:
                return y
        if place or any(each.computed_in(x) != dtype for each in self.layers[1:]):
            return self._product(x, dtype, copy, [place])[0]
        y, *others = self._product(x, dtype, copy, range(len(self.layers)))
        waiting = Waiting(x, x._version, copy, torch.is_grad_enabled(), dict(enumerate(others, 1)))
        self._waiting = waiting if others else None
        return y

    def _product(
        self, x: torch.Tensor, dtype: torch.dtype, copy: Copy, places: Sequence[int]
    ) -> tuple[torch.Tensor, ...]:
        a = copy.a if len(places) == len(self.layers) else copy.each[places[0]][0]
        parts = tuple(self.layers[place].part(copy.each[place][1]) for place in places)
        weights = [copy.sources[2 * place + side][1] for place in places for side in (0, 1)]
        return Product.apply(x.to(dtype), a, parts, *weights)  # type: ignore[no-any-return]


class Adapted(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Goes before PEFT's class of an adapted linear layer, and leaves to it whatever is not the plain case."""

    siblings: Siblings

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        dtype = None if args or kwargs else self.computed_in(x)
        if dtype is None:
            return super().forward(x, *args, **kwargs)
        return self.siblings.output(self, x, dtype)

    def computed_in(self, x: torch.Tensor) -> torch.dtype | None:
        """The type that the layer and its adapter are computed in together; None where PEFT is to do it."""
        kind, base = x.device.type, self.base_layer
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        is_plain = (
            not self._disable_adapters
            and not self.merged_adapters
            and self.active_adapters == [self.siblings.copies.adapter]
            and not base.weight.requires_grad
            and (base.bias is None or (base.bias.dtype is dtype and not base.bias.requires_grad))
            and x.numel() > 0
            and not x.is_inference()
        )
        return dtype if is_plain and self._holds(dtype, x) and self._is_own() else None

    def part(self, b: torch.Tensor) -> Part:
        """The layer, with a copy of its B."""
        base = self.base_layer
        state = getattr(base.weight, "quant_state", None)
        return Part(base.weight, state, base.bias, b, self.scaling[self.siblings.copies.adapter])

    def _holds(self, dtype: torch.dtype, x: torch.Tensor) -> bool:
        """Whether the weight is in that type, or unpacked to it. Without a gradient, bitsandbytes has faster ways."""
        base = self.base_layer
        if type(base) is nn.Linear:
            return bool(base.weight.dtype is dtype)
        state = getattr(base.weight, "quant_state", None)
        is_usable = state is not None and not getattr(state, "packing_format_for_cpu", False)
        return bool(is_usable and base.compute_dtype is dtype is x.dtype and torch.is_grad_enabled())

    def _is_own(self) -> bool:
        """Not a copy of a layer that was put in its place, and none of its parts has hooks that wait for a call."""
        parts = (self.base_layer, *self.lora_A.values(), *self.lora_B.values())
        hooked = any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in parts)
        return not hooked and any(each is self for each in self.siblings.layers)
