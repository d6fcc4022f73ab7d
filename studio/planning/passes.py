"""How the rows of a step go through the model: how many tokens at once, and how much of it is computed twice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Passes:
    """`tokens` that go through the model at once, None for the rows of one batch whatever their length; `recomputed`
    are the first so many layers, whose activations are computed a second time on the way back."""

    tokens: int | None = None
    recomputed: int = 0
