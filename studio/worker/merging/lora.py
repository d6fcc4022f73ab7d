"""The arithmetic of LoRA on linear, convolutional and embedding layers, with DoRA's lengths and LoRA's biases.

Shapes: A is [rank, in] and B [out, rank], with the kernel's dimensions behind for convolutions. Most weights are
[out, in, ...]; embeddings and the linear layers of GPT-2 are [in, out], called transposed here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from studio.worker.merging.work import Read, Source


@dataclass(frozen=True)
class LowRank:
    """The weight plus `scale` B A; with DoRA's `magnitude` [out], each output's weights are then that long."""

    a: Source
    b: Source
    scale: float
    transposed: bool
    magnitude: Source | None = None

    @property
    def whole(self) -> bool:
        return self.transposed and self.magnitude is not None  # lengths are then taken down the lines

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.a, self.b, *([self.magnitude] if self.magnitude else []))

    def apply(self, weight: torch.Tensor, read: Read, rows: slice) -> torch.Tensor:
        a, b = read(self.a).flatten(1), read(self.b).flatten(1)
        left, right = (a.T[rows], b.T) if self.transposed else (b[rows], a)
        flat = weight.view(weight.shape[0], -1)
        flat.addmm_(left.float(), right.float(), alpha=self.scale)
        if self.magnitude is not None:
            lengths = read(self.magnitude).float().flatten()
            if self.transposed:
                flat *= lengths / flat.norm(dim=0)
            else:
                flat *= (lengths[rows] / flat.norm(dim=1))[:, None]
        return weight


@dataclass(frozen=True)
class Bias:
    """The bias [out] plus `scale` times the bias of B."""

    bias: Source
    scale: float
    whole: bool = False

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.bias,)

    def apply(self, weight: torch.Tensor, read: Read, rows: slice) -> torch.Tensor:
        return weight.add_(read(self.bias)[rows].float(), alpha=self.scale)


@dataclass(frozen=True)
class Rows:
    """Some rows of an embedding or head, trained one by one: `values` [n, hidden] take the places `numbers`."""

    numbers: tuple[int, ...]
    values: Source
    whole: bool = False

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.values,)

    def apply(self, weight: torch.Tensor, read: Read, rows: slice) -> torch.Tensor:
        values = read(self.values)
        for place, number in enumerate(self.numbers):
            if rows.start <= number < rows.stop:
                weight[number - rows.start] = values[place].float()
        return weight


@dataclass(frozen=True)
class Remainder:
    """What a start by PiSSA or OLoRA left of the weight: its strongest directions are in the adapter instead.

    Both can be computed again from the weight: the first `rank` singular directions, or columns of Q with rows of R.
    """

    start: str
    rank: int
    scale: float
    transposed: bool
    whole: bool = True
    sources: tuple[Source, ...] = ()

    def apply(self, weight: torch.Tensor, read: Read, rows: slice) -> torch.Tensor:
        seen = weight.T if self.transposed else weight
        if self.start == "pissa":
            u, s, v = torch.linalg.svd(seen, full_matrices=False)
            seen -= (u[:, : self.rank] * s[: self.rank]) @ v[: self.rank]
        else:
            q, r = torch.linalg.qr(seen)
            seen -= self.scale * q[:, : self.rank] @ r[: self.rank]
        return weight
