"""Changes of low rank, against the same matrices multiplied out."""

from __future__ import annotations

import pytest
import torch

from studio.worker.adapters import factors
from studio.worker.adapters.factors import Factors


def random_factors(rank: int, seed: int) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((40, rank), (rank, 60))
    b, a = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return Factors(b, a)


@pytest.mark.parametrize("shape", [(300, 120), (120, 300), (20, 7)])
def test_a_matrix_is_approached_as_nearly_as_can_be(shape: tuple[int, int]) -> None:
    change = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = factors.of_matrix(change, 12)
    assert found.rank == min(12, *shape)
    least = float(torch.linalg.svdvals(change)[12:].norm())
    assert float((change - found.b @ found.a).norm()) == pytest.approx(least, rel=2e-3, abs=1e-4)


def test_the_same_matrix_gives_the_same_factors() -> None:
    change = torch.randn(50, 50)
    one, other = factors.of_matrix(change, 5), factors.of_matrix(change, 5)
    assert torch.equal(one.a, other.a)
    assert torch.equal(one.b, other.b)


def test_sums_and_lengths_need_no_product() -> None:
    one, other = random_factors(3, 1), random_factors(5, 2)
    whole = one.b @ one.a - other.b @ other.a
    apart = factors.difference(one, other)
    torch.testing.assert_close(apart.b @ apart.a, whole)
    assert apart.norm() == pytest.approx(float(whole.norm()))


def test_a_cut_keeps_the_largest_values() -> None:
    change = factors.stacked([random_factors(4, 1), random_factors(4, 2)])
    cut = factors.reduced(change, 3)
    values = torch.linalg.svdvals(change.b @ change.a)
    assert cut.rank == 3
    assert factors.difference(change, cut).norm() == pytest.approx(float(values[3:].norm()))
    assert factors.reduced(change, 8) is change
