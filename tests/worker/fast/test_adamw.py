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


@pytest.mark.skipif(not find_spec("triton"), reason="no Triton")
def test_its_steps_are_torchs() -> None:
    environment = {"TRITON_INTERPRET": "1", "PYTHONPATH": ":".join(sys.path)}
    told = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert told.stdout.strip() == f"the same {adamw.STEPS}", told.stderr


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


def test_a_wrong_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(adamw.AdamW):
        def step(self, closure: None = None) -> None:
            super().step()
            with torch.no_grad():
                self.param_groups[0]["params"][0].mul_(1.001)

    assert "of their way off" in adamw._difference(torch.device("cpu"), Wrong)
