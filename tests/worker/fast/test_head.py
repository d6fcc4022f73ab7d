"""The head over the tokens that count: TRL's figures and gradients, of logits that are computed once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from trl.kernels import ChunkedLogProbFunction, chunked_logprob
from trl.trainer.utils import add_fused_lm_head

from studio.worker.fast import dense, head
from studio.worker.fast.gradients import overwriting
from studio.worker.fast.head import Kept, Known
from tests.worker.fast.test_lora import assert_same, base

ALL = chunked_logprob.OPTIONAL_OUTPUTS
PLAIN = Known(1.0, None, 1.0, ("entropy", "is_top1"))
LIMITED = Known(0.7, 3.0, 0.5, ALL)


def both(known: Known, kind: torch.dtype, has_bias: bool, device: str = "cpu") -> list[list[torch.Tensor]]:
    """Figures and gradients, ours and TRL's."""
    found = []
    for ours in (True, False):
        draw = torch.Generator().manual_seed(0)
        states, weight, bias = (
            (torch.randn(shape, generator=draw) / shape[-1] ** 0.5).to(device, kind).requires_grad_()
            for shape in ((13, 24), (50, 24), (50,))
        )
        leaves, targets = [states, weight, bias] if has_bias else [states, weight], torch.arange(13, device=device)
        plain = [states, weight, bias if has_bias else None]
        if ours:
            told = Kept.apply(*plain, None, targets, known)
        else:
            told = ChunkedLogProbFunction.apply(
                *plain, targets, known.temperature, 32768, known.softcapping, known.scale, known.outputs
            )
        (told[0].square().sum() + told[1].sum()).backward()
        found.append([*(each.detach().float() for each in told if each is not None), *(each.grad for each in leaves)])
    return found


@pytest.mark.parametrize("has_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("known", [PLAIN, LIMITED], ids=["plain", "limited"])
def test_figures_and_gradients_are_trls(known: Known, kind: torch.dtype, has_bias: bool) -> None:
    ours, theirs = both(known, kind, has_bias)
    assert len(ours) == 1 + len(known.outputs) + 2 + has_bias
    assert [each.dtype for each in ours] == [each.dtype for each in theirs]
    assert_same(
        [each.float() for each in ours], [each.float() for each in theirs], 1e-6 if kind.itemsize == 4 else 0.02
    )


def test_a_second_way_back_is_refused() -> None:
    states, weight = torch.randn(3, 8, requires_grad=True), torch.randn(9, 8, requires_grad=True)
    told = Kept.apply(states, weight, None, None, torch.arange(3), PLAIN)
    told[0].sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        told[0].sum().backward()


def picked(**changes: Any) -> Any:
    """A model whose head and layers are ours, and what it would have been handed to."""
    model = base(**changes).train()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    head.pick(model)
    return model


def passed(model: Any, as_told: bool = True) -> list[torch.Tensor]:
    """Log-probabilities of all but the first token, and the gradients of a pass there and back."""
    device = model.device
    ids = torch.arange(24, device=device)[None] % 96
    told = {"counted": torch.arange(23, device=device), "targets": ids[0, 1:]} if as_told else {"labels": ids}
    with torch.autocast(device.type, torch.bfloat16):
        outputs = model(input_ids=ids, use_cache=False, fused_lm_head=True, **told)
    outputs.log_probs.float().sum().backward()
    return [outputs.log_probs.detach().float().flatten(), *(each.grad.float() for each in model.parameters())]


def ours(model: Any) -> Any:
    groups, why = dense._groups(model, torch.bfloat16)
    assert not why
    model.register_forward_pre_hook(dense.join(groups).forget)
    return model


def test_a_head_that_is_asked_for_by_targets_is_one_of_the_trained_layers() -> None:
    model = ours(picked())
    assert type(model.lm_head) is dense.Dense
    mine, theirs = passed(model), passed(picked())
    assert_same(mine, theirs, 0.03)
    slope = model.lm_head.weight.grad
    assert not torch.equal(slope.bfloat16().float(), slope)
    assert type(ours(base().train()).lm_head) is nn.Linear


@pytest.mark.parametrize("tokens", [4, 4096], ids=["tiles", "one tile"])
@pytest.mark.parametrize("as_told", [True, False], ids=["by targets", "by labels"])
def test_gradients_that_are_written_over_hold_one_pass(
    as_told: bool, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_logprob, "TOKEN_CHUNK_SIZE", tokens)
    model = ours(picked())
    expected = [each.clone() for each in passed(model, as_told)]
    for weight in model.parameters():
        weight.grad.fill_(7)
    with overwriting(list(model.parameters())):
        found = passed(model, as_told)
    assert_same(found, expected, 1e-6)


def test_a_head_that_somebody_watches_learns_by_autograd() -> None:
    model, seen = ours(picked()), []
    expected = [each.clone() for each in passed(model)]
    model.lm_head.weight.register_hook(lambda slope: seen.append(slope.shape))
    with overwriting(list(model.parameters())):
        found = passed(model)
    assert seen == [model.lm_head.weight.shape]
    assert_same(found, expected, 0.03)


def test_where_nothing_counts_nothing_is_learnt() -> None:
    model = ours(picked())
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, 7)
    none = torch.arange(0)
    with overwriting(list(model.parameters())), torch.autocast("cpu", torch.bfloat16):
        outputs = model(input_ids=torch.arange(24)[None], use_cache=False, counted=none, targets=none)
        outputs.log_probs.sum().backward()
    assert outputs.log_probs.shape == (0,)
    assert not any(weight.grad.any() for weight in model.parameters())


def test_a_tied_head_learns_beside_the_embedding() -> None:
    tied = {"tie_word_embeddings": True}
    model = ours(picked(**tied))
    assert type(model.lm_head) is nn.Linear
    assert_same(passed(model), passed(picked(**tied)), 0.03)
