"""Gradient checkpointing of some layers: the same numbers, with as much memory as layers that are computed twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest

from studio.planning.passes import Passes
from studio.worker import needs
from studio.worker.fast import recompute
from tests.worker.conftest import Train, make_model

LAYERS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), tokenizer_dir, num_hidden_layers=LAYERS)


@pytest.fixture(params=["full", "lora"])
def model(request: pytest.FixtureRequest, folder: Path) -> Any:
    """In training, all of it or adapters on frozen matrices."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(1)
    adapter = LoraConfig(target_modules="all-linear", init_lora_weights=False)
    return (plain if request.param == "full" else get_peft_model(plain, adapter)).train()


def checkpointed(model: Any) -> list[bool]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [each.gradient_checkpointing for each in model.modules() if isinstance(each, GradientCheckpointingLayer)]


def passed(model: Any) -> Iterator[Any]:
    """The loss of a pass, and the gradients that it leaves."""
    import torch

    ids = torch.arange(2, 66)[None]
    model.zero_grad()
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    yield loss
    yield from (weight.grad.clone() for weight in model.parameters() if weight.requires_grad)


@pytest.mark.parametrize("reentrant", [False, True])
def test_losses_and_gradients_are_the_same_to_the_bit(model: Any, reentrant: bool) -> None:
    import torch

    once = list(passed(model))
    for layers in range(1, LAYERS + 1):
        recompute.keep(model, layers)
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        assert checkpointed(model) == [True] * layers + [False] * (LAYERS - layers)
        assert all(map(torch.equal, passed(model), once))


class Held:
    """A tensor that autograd keeps, as long as it does."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor


def kept_bytes(model: Any) -> int:
    """What autograd keeps of the way forth, weights left out."""
    import torch

    known = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    held: WeakSet[Held] = WeakSet()

    def keep(tensor: Any) -> Held:
        held.add(one := Held(tensor))
        return one

    ids = torch.arange(2, 66)[None]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one.tensor):
        out = model(input_ids=ids, labels=ids, use_cache=False)
    assert out.loss.requires_grad
    storages = [each.tensor.untyped_storage() for each in held]
    return sum({each.data_ptr(): each.nbytes() for each in storages if each.data_ptr() not in known}.values())


def test_each_layer_that_is_computed_twice_saves_as_many_bytes(model: Any) -> None:
    kept = [kept_bytes(model)]
    for layers in range(1, LAYERS + 1):
        recompute.keep(model, layers)
        model.gradient_checkpointing_enable({"use_reentrant": False})
        kept.append(kept_bytes(model))
    saved = [more - less for more, less in pairwise(kept)]
    # the first one's input is kept anew for it, and with the last one what all share is gone
    assert 0 < saved[0] <= saved[1] == saved[2] < saved[3] < 1.05 * saved[2]


def test_off_and_on_again_as_around_a_reference(model: Any) -> None:
    from trl.models.utils import disable_gradient_checkpointing

    recompute.keep(model, 2)
    model.gradient_checkpointing_enable()
    with disable_gradient_checkpointing(model, {"use_reentrant": False}):
        assert not any(checkpointed(model))
    assert checkpointed(model) == [True, True, False, False]


def test_a_copy_of_the_model_switches_its_own_layers(model: Any) -> None:
    recompute.keep(model, 1)
    copy = deepcopy(model)
    copy.gradient_checkpointing_enable()
    assert checkpointed(copy) == [True, False, False, False]
    assert not any(checkpointed(model))


@pytest.mark.parametrize("keys", [{}, {"finetuning_type": "full"}, {"stage": "dpo"}], ids=["lora", "full", "dpo"])
def test_a_training_recomputes_some_layers_without_a_difference(
    train: Train, data_dir: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any]
) -> None:
    if "stage" in keys:
        columns = {"prompt": "instruction", "chosen": "output", "rejected": "instruction"}
        entry = {"file_name": "demo.json", "ranking": True, "columns": columns}
        (data_dir / "dataset_info.json").write_text(json.dumps({"demo": entry}))
    once = train("once", max_steps=2, save_steps=0, **keys)
    found = needs.course
    monkeypatch.setattr(needs, "course", lambda *words: replace(found(*words), passes=Passes(None, 1)))
    twice = train("twice", max_steps=2, save_steps=0, **keys)
    assert twice.losses == once.losses
