"""Arithmetic on changes of low rank, B @ A, mostly without ever multiplying them out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

OVERSAMPLE, ITERATIONS = 32, 4  # with these the randomised SVD errs like the full one, in a fortieth of its time
SEED = 0


@dataclass(frozen=True)
class Factors:
    """A change b @ a of one weight: b [out, rank], a [rank, in], float32 or float64."""

    b: torch.Tensor
    a: torch.Tensor

    @property
    def rank(self) -> int:
        return len(self.a)

    def norm(self) -> float:
        """The Frobenius norm of b @ a."""
        core, _, _ = _core(self)
        return float(core.norm())


def of_matrix(change: torch.Tensor, rank: int) -> Factors:
    """The nearest change of that rank to `change` [out, in], split evenly between the two factors."""
    wanted = min(rank, *change.shape)
    generator = torch.Generator().manual_seed(SEED)
    start = torch.randn(change.shape[1], min(wanted + OVERSAMPLE, *change.shape), generator=generator)
    basis = _orthonormal(change @ start)
    for _ in range(ITERATIONS):
        basis = _orthonormal(change @ _orthonormal(change.T @ basis))
    u, s, vh = torch.linalg.svd(basis.T @ change, full_matrices=False)
    root = s[:wanted].sqrt()
    return Factors(basis @ (u[:, :wanted] * root), root[:, None] * vh[:wanted])


def stacked(parts: list[Factors]) -> Factors:
    """The sum of changes, exactly: its rank is the sum of theirs."""
    return Factors(torch.cat([part.b for part in parts], dim=1), torch.cat([part.a for part in parts]))


def difference(one: Factors, other: Factors) -> Factors:
    """one - other."""
    return stacked([one, Factors(-other.b, other.a)])


def reduced(change: Factors, rank: int) -> Factors:
    """The nearest change of that rank; `change` itself where it has no more."""
    if change.rank <= rank:
        return change
    core, left, right = _core(change)
    u, s, vh = torch.linalg.svd(core, full_matrices=False)
    root = s[:rank].sqrt()
    return Factors(left @ (u[:, :rank] * root), (root[:, None] * vh[:rank]) @ right.T)


def _orthonormal(columns: torch.Tensor) -> torch.Tensor:
    basis: torch.Tensor = torch.linalg.qr(columns)[0]
    return basis


def _core(change: Factors) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """b @ a as left @ core @ right.T, where left and right turn without stretching: core has all singular values."""
    left, r_left = torch.linalg.qr(change.b.double())
    right, r_right = torch.linalg.qr(change.a.double().T)
    return r_left @ r_right.T, left, right
