"""Figures of a step that a device computes, copied to the host without waiting for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

LATE_ON = ("cuda",)  # devices that compute while the host goes on


@dataclass(frozen=True)
class Figures:
    """Figures on their way, by name."""

    names: tuple[str, ...]
    values: torch.Tensor
    arrival: torch.cuda.Event | None

    def read(self) -> dict[str, float]:
        """The figures, as soon as they are there."""
        if self.arrival:
            self.arrival.synchronize()
        return dict(zip(self.names, self.values.tolist(), strict=True))


def are_late(device: torch.device) -> bool:
    """Whether reading a figure that `device` computes keeps the host from queueing more work for it."""
    return device.type in LATE_ON


def send(figures: Mapping[str, torch.Tensor]) -> Figures:
    """`figures`, each a single number on the same device, begin their way; they may change thereafter."""
    values = torch.stack([each.detach().double() for each in figures.values()])
    if values.device.type != "cuda":
        return Figures(tuple(figures), values, None)
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    arrival = torch.cuda.Event()
    arrival.record()
    return Figures(tuple(figures), host, arrival)
