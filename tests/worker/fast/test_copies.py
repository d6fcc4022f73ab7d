"""Copies of weights are what the weights are, whoever changed these, also for a pass that is played and looks not."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from studio.worker import optimizers
from studio.worker.fast import adamw, dense
from studio.worker.fast.copies import Copies
from studio.worker.stages.supervised import SupervisedTrainer
from tests.worker.conftest import Train
from tests.worker.fast.test_lora import curve
from tests.worker.test_checkpoints import hand_over

FULL = {"finetuning_type": "full", "bf16": True, "learning_rate": 1e-2}


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))


def go(model: nn.Sequential) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        y = model(torch.ones(3, 8))
    y.float().square().sum().backward()


def kept(model: nn.Sequential) -> tuple[Copies, adamw.AdamW]:
    """Copies of a model that has gone through a pass, kept by ours."""
    copies = dense.join([[each] for each in model])
    model.register_forward_pre_hook(copies.forget)
    optimizer = adamw.AdamW(model.parameters(), lr=0.1, fused=True)
    adamw.keep(optimizer, copies)
    go(model)
    return copies, optimizer


def are_true(copies: Copies, model: nn.Sequential) -> bool:
    pairs = zip(copies._places, model, strict=True)
    return all(torch.equal(place, layer.weight.detach().bfloat16()) for place, layer in pairs)


def step(model: nn.Sequential, optimizer: Any) -> None:
    optimizer.step()


def load(model: nn.Sequential, _: Any) -> None:
    model.load_state_dict({name: each + 1 for name, each in model.state_dict().items()})


def move(model: nn.Sequential, _: Any) -> None:
    model[0].weight.data = model[0].weight.data + 1


def replace(model: nn.Sequential, _: Any) -> None:
    model[1].weight = nn.Parameter(model[1].weight.detach() + 1)


def alter(model: nn.Sequential, _: Any) -> None:
    with torch.no_grad():
        model[1].weight.mul_(2)


@pytest.mark.parametrize("change", [step, load, move, replace, alter])
def test_what_changes_a_weight_is_seen_before_a_pass_is_played(change: Callable[..., None]) -> None:
    model = layers()
    copies, optimizer = kept(model)
    assert copies.holds()
    places = [each.data_ptr() for each in copies._places]
    change(model, optimizer)
    assert not are_true(copies, model)
    assert not copies.holds()
    copies.renew()
    assert are_true(copies, model)
    assert copies.holds()
    assert [each.data_ptr() for each in copies._places] == places  # where recordings look for them


def test_a_step_that_writes_them_is_vouched_for() -> None:
    model = layers()
    copies, _ = kept(model)
    written = copies.to_write()
    with torch.no_grad():
        for each in model:
            each.weight.mul_(2)
            written[id(each.weight)].copy_(each.weight)
    copies.vouch({id(model[0].weight)})
    assert not copies.holds()  # not for the other
    copies.vouch({id(each.weight) for each in model})
    assert copies.holds()
    go(model)
    assert are_true(copies, model)


def test_an_optimizer_that_counts_nothing_up_keeps_none() -> None:
    model = layers()
    copies, _ = kept(model)
    theirs = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    versions = [each._version for each in model.parameters()]
    adamw.keep(theirs, copies)
    assert not copies.to_write()
    theirs.step()
    assert versions == [each._version for each in model.parameters()]  # else this were no test
    go(model)
    assert not copies.is_kept
    before = deepcopy(copies._places)
    theirs.step()
    go(model)
    assert not torch.equal(before[0], copies._places[0])


def test_no_copy_is_made_while_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    model = layers()
    copies, _ = kept(model)
    make, made = Copies._make, []
    monkeypatch.setattr(Copies, "_make", lambda self, dtype: (made.append(dtype), make(self, dtype)))
    for _ in range(3):
        copies.renew()
        go(model)
    assert not made
    copies.is_kept = False
    go(model)
    assert made == [torch.bfloat16]


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU alone is for, done here: our layers, and our optimizer, which makes torch's steps."""
    monkeypatch.setattr(dense, "_obstacle", lambda *_: "")
    monkeypatch.setattr(adamw, "_obstacle", lambda _: "")
    monkeypatch.setattr(optimizers, "_fuses", lambda _: True)


@pytest.fixture
def blind(on_a_cpu: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[bool]]:
    """Has each pass, from when it is called on, take the copies that are there, as one that is played; what it returns
    comes to say of each pass whether they are kept."""
    go_through, of = SupervisedTrainer.go_through, Copies.of
    told: list[bool] = []

    def there(copies: Copies, number: int, dtype: torch.dtype) -> torch.Tensor:
        return copies._places[number] if copies._places else of(copies, number, dtype)

    def played(self: SupervisedTrainer, *given: Any) -> Any:
        self.renew()
        with monkeypatch.context() as patch:
            patch.setattr(Copies, "of", there)
            told.append(bool(self._copies and self._copies.is_kept))
            return go_through(self, *given)

    def begin() -> list[bool]:
        monkeypatch.setattr(SupervisedTrainer, "go_through", played)
        return told

    return begin


def test_a_training_whose_passes_look_at_no_weight_takes_the_same_course(
    train: Train, blind: Callable[[], list[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {**FULL, "val_size": 4, "eval_steps": 2, "load_best_model_at_end": True}
    seeing = train("seeing", **keys)
    told = blind()
    played = train("played", **keys)
    assert set(told) == {True}
    assert seeing.json("result.json")["paths"]["trained layers"] == "with float32 gradients"
    assert curve(played) == pytest.approx(curve(seeing), abs=1e-6)
    monkeypatch.setattr(Copies, "renew", lambda _: None)
    assert curve(train("stale", **keys)) != pytest.approx(curve(seeing), rel=1e-3)  # else this were no test


def test_a_training_that_goes_on_takes_the_same_course(train: Train, blind: Callable[[], list[bool]]) -> None:
    whole = train("whole", **FULL)
    blind()
    hand_over(whole, "resumed", 4)
    resumed = train("resumed", **FULL, resume_from_checkpoint="checkpoints/checkpoint-4")
    assert curve(resumed)[-2:] == pytest.approx(curve(whole)[-2:], abs=1e-6)


def test_weights_that_are_loaded_between_steps_are_taken_up(
    train: Train, blind: Callable[[], list[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loading(monkeypatch)
    seeing = train("seeing", **FULL)
    blind()
    loading(monkeypatch)
    assert curve(train("played", **FULL)) == pytest.approx(curve(seeing), abs=1e-6)


def loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has weights loaded before the sixth pass of a training."""
    go_through = SupervisedTrainer.go_through

    def loaded(self: Any, *given: Any) -> Any:
        self.begun = getattr(self, "begun", 0) + 1
        if self.begun == 6:
            self.model.load_state_dict({name: 0.9 * each for name, each in self.model.state_dict().items()})
        return go_through(self, *given)

    monkeypatch.setattr(SupervisedTrainer, "go_through", loaded)
