"""Linear layers that read the very same tensor: which these are, and how they are computed together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from studio.worker.samples import evaluating

TOKENS = 8  # of a trial

Outputs = tuple[Tensor, ...]


class Group(NamedTuple):
    """Layers that were handed the same tensor, or one of which that is not known."""

    x: Tensor | None
    layers: list[Any]


def groups(model: nn.Module, layers: Mapping[str, Any], kind: Callable[[Any], Hashable]) -> list[Group]:
    """Layers of one module and `kind` that are handed the very same tensor, as a pass of a few tokens shows, together;
    each of `layers`, which go by their names in `model`, is in one group."""
    calls: list[tuple[str, Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, args, name=name: calls.extend((name, x) for x in args[:1]))
        for name, layer in layers.items()
    ]
    try:
        with evaluating(model), torch.no_grad():
            model(input_ids=torch.arange(TOKENS, device=model.device)[None], use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    times = Counter(name for name, _ in calls)
    found: dict[Hashable, Group] = {}
    for name, x in calls:
        if times[name] == 1:
            alike = (name.rpartition(".")[0], id(x), kind(layers[name]))
            found.setdefault(alike, Group(x, [])).layers.append(layers[name])
    return [*found.values(), *(Group(None, [layer]) for name, layer in layers.items() if times[name] != 1)]


class Waiting(NamedTuple):
    """Outputs that layers have not asked for yet, and what they are outputs of."""

    x: Tensor
    version: int  # of x
    weights: object  # what was computed with
    has_gradient: bool
    outputs: dict[int, Tensor]  # by the layer's place in its group

    def take(self, place: int, x: Tensor, weights: object) -> Tensor | None:
        """The output of the layer in that place, once."""
        is_same = self.x is x and self.version == x._version and self.weights is weights
        return self.outputs.pop(place, None) if is_same and self.has_gradient == torch.is_grad_enabled() else None


class Siblings:
    """Layers that read the very same tensor, computed when the first of them is called.

    The others find their outputs waiting if they are called with that tensor, unaltered, and once; in every other
    case a layer is computed alone.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self.layers = layers
        self._waiting: Waiting | None = None

    def asked(self, layer: Any, x: Tensor, weights: object, product: Callable[[Sequence[int]], Outputs]) -> Tensor:
        """What `layer` makes of `x` with `weights`, which are other ones once they are changed; `product` computes
        the layers of the places that it is given."""
        place, waiting = self.place(layer), self._waiting
        if place and waiting and (y := waiting.take(place, x, weights)) is not None:
            self._waiting = waiting if waiting.outputs else None
            return y
        self._waiting = None
        if place:
            return product([place])[0]
        y, *others = product(range(len(self.layers)))
        if others:
            self._waiting = Waiting(x, x._version, weights, torch.is_grad_enabled(), dict(enumerate(others, 1)))
        return y

    def place(self, layer: Any) -> int:
        """Which of them `layer` is."""
        return next(place for place, each in enumerate(self.layers) if each is layer)
