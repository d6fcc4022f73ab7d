"""The head over the tokens that count on a CUDA device, where TRL's kernels are Triton's."""

from __future__ import annotations

import gc

import pytest
import torch

from studio.worker.fast import dense
from studio.worker.fast.head import Known
from tests.worker.fast.test_head import LIMITED, PLAIN, both, ours, passed, picked
from tests.worker.fast.test_lora import assert_same

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("has_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("known", [PLAIN, LIMITED], ids=["plain", "limited"])
def test_figures_and_gradients_are_trls(known: Known, kind: torch.dtype, has_bias: bool) -> None:
    mine, theirs = both(known, kind, has_bias, "cuda")
    assert [each.dtype for each in mine] == [each.dtype for each in theirs]
    assert_same(
        [each.float() for each in mine], [each.float() for each in theirs], 1e-4 if kind.itemsize == 4 else 0.02
    )


def test_a_head_that_is_one_of_the_trained_layers_learns_what_it_would() -> None:
    mine, theirs = ours(picked().cuda()), picked().cuda()
    assert type(mine.lm_head) is dense.Dense
    assert_same(passed(mine), passed(theirs), 0.03)
    slope = mine.lm_head.weight.grad
    assert not torch.equal(slope.bfloat16().float(), slope)


def peak(is_ours: bool) -> int:
    """Bytes that a pass there and back takes at its fullest moment."""
    model = picked(vocab_size=16384).cuda()
    model = ours(model) if is_ours else model
    passed(model)  # kernels have what they keep from here on
    model.zero_grad()
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    passed(model)
    return torch.cuda.max_memory_allocated() - before


def test_logits_take_no_more_memory_for_being_kept() -> None:
    assert peak(True) <= peak(False)
