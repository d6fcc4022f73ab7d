"""What is done with the list of trained weights is, bit for bit, what torch does with all weights of the model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from studio.worker.stages.trained import Trained


def model() -> nn.Module:
    """Three layers, the middle one frozen, of two types; the last has no gradient."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(7, 5), nn.Dropout(), nn.Linear(5, 5).bfloat16(), nn.Linear(5, 3).bfloat16())
    layers[2].requires_grad_(False)
    for weight in layers[0].parameters():
        weight.grad = torch.randn_like(weight)
    layers[3].weight.grad = torch.randn_like(layers[3].weight)
    return layers


def gradients(of: nn.Module) -> list[torch.Tensor | None]:
    return [each.grad for each in of.parameters()]


@pytest.mark.parametrize("longest", [0.5, 1e6], ids=["too long", "short"])
def test_gradients_are_clipped_as_torch_does(longest: float) -> None:
    ours, theirs = model(), model()
    length = Trained(ours).clip(longest)
    assert torch.equal(length, nn.utils.clip_grad_norm_(theirs.parameters(), longest))
    for own, other in zip(gradients(ours), gradients(theirs), strict=True):
        assert (own is None and other is None) or torch.equal(own, other)


def test_a_model_in_an_epoch_forgets_its_gradients_and_learns_as_ever() -> None:
    net = model().eval()
    plain = set(vars(net))
    with Trained(net).at_hand():
        assert all(each.training for each in net.modules())
        net.eval()
        assert not any(each.training for each in net.modules())
        assert net.train() is net
        assert all(each.training for each in net.modules())
        net.zero_grad(set_to_none=False)
        assert not net[0].weight.grad.any()
        net.zero_grad()
        assert gradients(net) == [None] * 6
    assert set(vars(net)) == plain
    assert copy.deepcopy(net).train(False).training is False
