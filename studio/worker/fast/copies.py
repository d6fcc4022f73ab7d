"""Trained weights in a narrower type, which passes are computed with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Source(NamedTuple):
    """What a copy was made of."""

    weight: Tensor
    version: int
    place: int

    def is_of(self, layer: nn.Module) -> bool:
        """Whether the weight of `layer` is what it was, as far as its version tells."""
        weight = layer._parameters["weight"]
        return weight is self.weight and weight._version == self.version and weight.data_ptr() == self.place


class Copies:
    """The weights of `layers` in the type of the computation, all at once, in the same place.

    They are made anew for each pass, for not every optimizer counts up the version of what it changes. Where they
    are kept, the optimizer is one that does and writes them with the weights: they are made anew where a version is
    not what it was, and a pass that is recorded has no part in it.
    """

    is_kept = False

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = layers
        self._dtype: torch.dtype | None = None  # of those that are there
        self._places: list[Tensor] = []
        self._sources: list[Source] = []
        self._written: dict[int, Tensor] = {}
        self._is_fresh = False
        self.edition = object()  # another one for each pass and whenever copies change

    def forget(self, *_: Any) -> None:
        """Hook: a new pass begins."""
        self.edition = object()
        self._is_fresh = self.is_kept and self.holds()

    def renew(self) -> None:
        """Before a recorded pass, which makes none where they are kept: make them anew where they are stale."""
        if self.is_kept and self._dtype and not self.holds():
            self._make(self._dtype)

    def holds(self) -> bool:
        """Whether they are there, and all weights what they were then."""
        return self._is_fresh and all(map(Source.is_of, self._sources, self._layers))

    def of(self, number: int, dtype: torch.dtype) -> Tensor:
        """That of the layer of this number [out, in]."""
        if not self._is_fresh or self._dtype is not dtype or not self._sources[number].is_of(self._layers[number]):
            self._make(dtype)
        return self._places[number]

    def to_write(self) -> dict[int, Tensor]:
        """Where the optimizer that keeps them is to write them in bfloat16, by the weight's id; none before they were
        made, or in another type."""
        is_there = self.is_kept and self._dtype is torch.bfloat16
        return self._written if is_there and self._sources[0].weight.device == self._places[0].device else {}

    def vouch(self, moved: Collection[int]) -> None:
        """The optimizer has written those of the weights with these ids, whose versions are final."""
        self.edition = object()
        self._sources = [_source(each.weight) if id(each.weight) in moved else each for each in self._sources]

    def _make(self, dtype: torch.dtype) -> None:
        weights: list[Any] = [layer.weight for layer in self._layers]
        if self._dtype is not dtype or self._places[0].device != weights[0].device:
            self._places = [torch.empty_like(weight, dtype=dtype, requires_grad=False) for weight in weights]
            self._dtype = dtype
        with torch.no_grad():
            torch._foreach_copy_(self._places, weights)
        self._sources = [_source(weight) for weight in weights]
        self._written = {id(weight): place for weight, place in zip(weights, self._places, strict=True)}
        self._is_fresh, self.edition = True, object()


def _source(weight: Tensor) -> Source:
    return Source(weight, weight._version, weight.data_ptr())
