"""What is done with the list of trained weights is, bit for bit, what torch does with all weights of the model; the
length of gradients in one stretch is but for rounding."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from studio.worker.fast import graphs
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.trained import Trained
from tests.worker.stages.conftest import StageTrain


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
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16], ids=["of two types", "float32", "bfloat16"])
def test_gradients_are_clipped_as_torch_does(longest: float, dtype: torch.dtype | None) -> None:
    ours, theirs = model(), model()
    if dtype:
        ours, theirs = ours.to(dtype), theirs.to(dtype)
    length = Trained(ours).clip(longest)
    assert torch.equal(length, nn.utils.clip_grad_norm_(theirs.parameters(), longest))
    for own, other in zip(gradients(ours), gradients(theirs), strict=True):
        assert (own is None and other is None) or torch.equal(own, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gradients_in_one_stretch_are_as_long_as_they_are(dtype: torch.dtype) -> None:
    """Where recorded passes leave them; another tensor among them, or one that is missing, is seen."""
    layers = nn.Sequential(nn.Linear(7, 5), nn.Linear(5, 3)).to(dtype)
    weights = list(layers.parameters())
    slopes = graphs._like(weights)
    for weight, slope in zip(weights, slopes, strict=True):
        weight.grad = slope.copy_(torch.randn_like(slope))
    length = nn.utils.get_total_norm(slopes)
    assert graphs.stretch(slopes) is slopes[0]._base
    torch.testing.assert_close(Trained(layers).length(), length)
    assert graphs.stretch(slopes[:-1]) is None
    assert graphs.stretch([*slopes[:-1], slopes[-1].clone()]) is None
    assert graphs.stretch([each.clone() for each in slopes]) is None
    weights[0].grad = slopes[0] * 2
    assert torch.equal(Trained(layers).length(), nn.utils.get_total_norm([each.grad for each in weights]))


def test_without_a_gradient_there_is_nothing_to_clip() -> None:
    assert Trained(nn.Linear(2, 2)).clip(1.0) == 0
    assert Trained(nn.Linear(2, 2).requires_grad_(False)).clip(1.0) == 0


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


@pytest.mark.parametrize("stage_name", ["sft", "dpo"])
def test_a_training_is_the_same_as_with_the_trainer_of_transformers(
    stage: StageTrain, monkeypatch: pytest.MonkeyPatch, stage_name: str
) -> None:
    """Through three epochs with validations within them, after which dropout is to be there again."""
    keys = {"lora_dropout": 0.3, "val_size": 3, "eval_steps": 2, "max_steps": 7, "max_grad_norm": 0.01, "bf16": False}
    data = {"sft": "talks", "dpo": "pairs"}[stage_name]
    ours = stage(stage_name, data, "ours", **keys)
    monkeypatch.setattr(Recorded, "_is_whole", lambda *_: False)
    theirs = stage(stage_name, data, "theirs", **keys)
    figures = [
        [(step["loss"], step["grad_norm"], step["metrics"]) for step in run.events("step")] for run in (ours, theirs)
    ]
    assert figures[0] == figures[1]
    own, other = (load_file(run.run_dir / "adapter/adapter_model.safetensors") for run in (ours, theirs))
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in own)
