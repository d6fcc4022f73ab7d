"""The weights that a training moves, found once: a model of a thousand modules is long to walk through, and a step asks
for them several times while its device waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from studio.worker.fast import graphs

CLOSE = 1e-6  # torch's, which keeps what is zero from being divided by


class Trained:
    """The weights of `model` that are trained, where one process holds it all.

    What is done here has the results of what torch does with all weights: bit for bit but for the length of gradients
    that lie in one stretch, which is summed in another order.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._weights = [each for each in model.parameters() if each.requires_grad]
        self._kinds = len({(each.dtype, each.device, each.layout) for each in self._weights})

    def length(self) -> Tensor:
        """How long the gradients are together."""
        slopes = self._slopes()
        if not self._are_alike:
            return torch.nn.utils.get_total_norm(slopes)
        if (whole := graphs.stretch(slopes)) is not None:
            return torch.linalg.vector_norm(whole)
        # the same sums, without sorting the gradients by type and device
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(slopes, 2.0)), 2.0)

    def clip(self, longest: float) -> Tensor:
        """Scale the gradients so that they are together no longer than `longest`; how long they were."""
        if not self._are_alike:
            return torch.nn.utils.clip_grad_norm_(self._weights, longest)
        length = self.length()
        torch._foreach_mul_(self._slopes(), torch.clamp(longest / (length + CLOSE), max=1.0))
        return length

    def _slopes(self) -> list[Tensor]:
        return [slope for each in self._weights if (slope := each.grad) is not None]

    @property
    def _are_alike(self) -> bool:
        return self._kinds == 1 and self._weights[0].grad is not None

    def forget_gradients(self, set_to_none: bool = True) -> None:
        """As Module.zero_grad."""
        if set_to_none:
            for each in self._weights:
                each.grad = None
        else:
            type(self._model).zero_grad(self._model, set_to_none=False)

    def learn(self, mode: bool = True) -> nn.Module:
        """As Module.train, for a model whose parts are all in the mode that the whole is in."""
        if not (mode and self._model.training):
            type(self._model).train(self._model, mode)
        return self._model

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """The model in here does those two as it is done here."""
        own: dict[str, Any] = {"zero_grad": self.forget_gradients, "train": self.learn}
        self._model.train()
        vars(self._model).update(own)
        try:
            yield
        finally:
            for name in own:
                del vars(self._model)[name]
