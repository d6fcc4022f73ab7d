"""AdamW in one launch: torch's steps, by Triton's interpreter where there is no GPU."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from studio.worker.fast import adamw

INTERPRETED = """
import torch
from studio.worker.fast import adamw

class Here(adamw.AdamW):
    kinds = ("cpu",)

launch, launched = adamw._launch, []
adamw._launch = lambda *told: (launched.append(told), launch(*told))
print(adamw._difference(torch.device("cpu"), Here) or "the same", len(launched))
"""
KEEPING = """
import torch
from studio.worker.fast import adamw
from studio.worker.fast.copies import Copies

class Here(adamw.AdamW):
    kinds = ("cpu",)

torch.manual_seed(0)
layers = [torch.nn.Linear(33, 70), torch.nn.Linear(70, 5)]
weights = [weight for layer in layers for weight in layer.parameters()]
copies, optimizer = Copies(layers), Here(weights, lr=0.1, fused=True)
copies.is_kept, optimizer.copies = True, copies
narrow = [copies.of(number, torch.bfloat16) for number in range(2)]
make, made = Copies._make, []
Copies._make = lambda self, dtype: (made.append(dtype), make(self, dtype))
for number in range(3):
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    if number == 2:
        layers[0].weight.grad = None  # it stays as it is, and so does its copy
    optimizer.step()
    copies.forget()
    copies.renew()
    narrow = [copies.of(number, torch.bfloat16) for number in range(2)]
    for copy, layer in zip(narrow, layers):
        assert torch.allclose(copy.float(), layer.weight.detach(), rtol=adamw.LAST_BIT, atol=0)
        assert not torch.equal(copy.float(), layer.weight)
print("made anew", len(made))
with torch.no_grad():
    layers[1].weight.add_(1)
copies.renew()
print("made anew", len(made))
"""


def interpreted(program: str) -> str:
    """What it prints, with Triton's kernels run by Python."""
    environment = {"TRITON_INTERPRET": "1", "PYTHONPATH": ":".join(sys.path)}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    return told.stdout.strip() or told.stderr


@pytest.mark.skipif(not find_spec("triton"), reason="no Triton")
def test_its_steps_are_torchs() -> None:
    assert interpreted(INTERPRETED) == f"the same {adamw.STEPS}"


@pytest.mark.skipif(not find_spec("triton"), reason="no Triton")
def test_copies_are_written_with_the_weights() -> None:
    assert interpreted(KEEPING).splitlines() == ["made anew 0", "made anew 1"]


def test_where_it_does_not_apply_torchs_own_step_is_made() -> None:
    assert adamw._difference(torch.device("cpu")) == ""


def test_hooks_are_called_once() -> None:
    weights, called = [nn.Parameter(torch.randn(5))], []
    weights[0].grad = torch.ones(5)
    torch.optim.AdamW(weights, fused=True).step()
    before = weights[0].detach().clone()
    ours = adamw.AdamW(weights, fused=True)
    ours.register_step_pre_hook(lambda *_: called.append("before"))
    ours.register_step_post_hook(lambda *_: called.append("after"))
    ours.step()
    assert called == ["before", "after"]
    assert not torch.equal(before, weights[0])


def test_what_torchs_optimizer_kept_is_taken_up() -> None:
    weights = [nn.Parameter(torch.randn(5))]
    weights[0].grad = torch.ones(5)
    plain, ours = torch.optim.AdamW(weights, fused=True), adamw.AdamW(weights, fused=True)
    plain.step()
    ours.load_state_dict(plain.state_dict())
    plain.load_state_dict(ours.state_dict())
    assert ours.state[weights[0]].keys() == plain.state[weights[0]].keys() == {"step", "exp_avg", "exp_avg_sq"}


def test_it_is_for_one_gpu() -> None:
    kind, path = adamw.pick([nn.Parameter(torch.randn(5))])
    assert kind is torch.optim.AdamW
    assert str(path) == "optimizer: torch's AdamW (the other is for float32 on one GPU)"


def test_versions_are_counted_up_whichever_step_is_made() -> None:
    weights = [nn.Parameter(torch.randn(5))]
    weights[0].grad = torch.ones(5)
    before = weights[0]._version
    adamw.AdamW(weights, fused=True).step()
    assert weights[0]._version > before


def test_copies_that_are_not_what_they_are_said_to_be_are_found() -> None:
    class Forgetful(adamw.AdamW):
        def step(self, closure: None = None) -> None:
            super().step()
            assert self.copies
            self.copies.vouch(self.copies.to_write().keys())

    assert "copies of weights were not what they are" in adamw._difference(torch.device("cpu"), Forgetful)


def test_a_wrong_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(adamw.AdamW):
        def step(self, closure: None = None) -> None:
            super().step()
            with torch.no_grad():
                self.param_groups[0]["params"][0].mul_(1.001)

    assert "of their way off" in adamw._difference(torch.device("cpu"), Wrong)
