"""Every optimizer lowers the loss, and a training that is resumed with it goes on as if it had never stopped."""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from studio import packages
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.config.train.optimizer import Optimizer
from studio.errors import ModelError
from studio.worker import imports, optimizers
from tests.worker.conftest import Train
from tests.worker.test_training import hand_over

STEPS = {"max_steps": 4, "save_steps": 2, "save_total_limit": 9, "finetuning_type": "full"}
RATES = {"sgd": 0.3, "schedule_free_sgd": 1.0, "adafactor": 3e-3, "galore_adamw": 3e-3, "apollo_adamw": 3e-3}


def test_every_optimizer_of_the_schema_is_made() -> None:
    assert set(optimizers.OPTIMIZERS) == set(get_args(Optimizer))


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_the_loss_falls_and_a_resumed_training_goes_on_exactly(train: Train, name: str) -> None:
    if problem := packages.missing(name):
        pytest.skip(str(problem))
    schedule = {"lr_scheduler_type": "constant"} if name.startswith("schedule_free") else {}
    # a projection that is made anew while running: what it is made from must be resumed too
    keys = {"optim": name, "galore_update_interval": 3, "apollo_update_interval": 3, "galore_rank": 4, "apollo_rank": 4}
    steps = {**STEPS, **schedule, **keys, "learning_rate": RATES.get(name, 3e-3)}
    whole = train("whole", **steps)
    assert whole.losses[4] < 0.99 * whole.losses[1]
    hand_over(whole, 2)
    resumed = train("resumed", **steps, resume_from_checkpoint="checkpoints/checkpoint-2")
    assert resumed.losses == {step: loss for step, loss in whole.losses.items() if step > 2}
    ours, theirs = (load_file(run.run_dir / "model/model.safetensors") for run in (resumed, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_step_in_one_kernel_is_the_same_and_goes_on_from_the_others_checkpoint(tiny_model: Path) -> None:
    models = [AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32) for _ in range(2)]
    configs = [_config(finetuning_type="full", optim=name) for name in ("adamw_torch", "adamw_torch_fused")]
    made = [optimizers.build(config, model, 10) for config, model in zip(configs, models, strict=True)]
    for number in range(4):
        for model, optimizer in zip(models, made, strict=True):
            torch.manual_seed(number)
            for weight in model.parameters():
                weight.grad = torch.randn_like(weight)
            optimizer.step()
        if number == 1:  # each takes the other's
            states = [deepcopy(optimizer.state_dict()) for optimizer in made]
            for optimizer, state in zip(made, reversed(states), strict=True):
                optimizer.load_state_dict(state)
            assert [optimizer.param_groups[0]["fused"] for optimizer in made] == [None, True]
    for ours, theirs in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_schedule_free_training_is_saved_as_its_average(train: Train) -> None:
    validation = {"val_size": 4, "eval_steps": 2}
    run = train(**STEPS, **validation, optim="schedule_free_adamw", lr_scheduler_type="constant", learning_rate=3e-3)
    first, last = (event["eval_loss"] for event in run.events("eval"))
    assert last < first
    checkpoint = run.run_dir / "checkpoints/checkpoint-4"
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    assert not any(group["train_mode"] for group in state["param_groups"])
    saved, left = (AutoModelForCausalLM.from_pretrained(folder) for folder in (checkpoint, run.run_dir / "model"))
    for weight, other in zip(saved.parameters(), left.parameters(), strict=True):
        assert torch.equal(weight.bfloat16(), other)


def test_lora_plus_has_the_second_matrix_learn_faster(tiny_model: Path) -> None:
    keys = {"loraplus_lr_ratio": 16, "learning_rate": 1e-4, "additional_target": "embed_tokens", "weight_decay": 0.1}
    rates = _rates(tiny_model, **keys)
    assert {rate for name, rate in rates.items() if "lora_B" in name} == {1.6e-3}
    assert {rate for name, rate in rates.items() if "lora_A" in name} == {1e-4}
    assert {rate for name, rate in rates.items() if "embed_tokens" in name} == {1e-6}
    assert set(_rates(tiny_model, learning_rate=1e-4).values()) == {1e-4}


def test_muon_moves_the_inner_matrices_and_adamw_the_rest(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    optimizer = optimizers.build(_config(finetuning_type="full", optim="muon", weight_decay=0.1), model, 10)
    muon, *adamw = optimizer.param_groups
    names = {weight: name for name, weight in model.named_parameters()}
    assert {names[weight].rpartition(".")[0].rpartition(".")[2] for weight in muon["params"]} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    assert {names[weight] for group in adamw for weight in group["params"]} == {
        name for name in names.values() if "norm" in name or "embed" in name
    }
    assert [group["weight_decay"] for group in adamw] == [0.1, 0.0]


@pytest.mark.parametrize(
    ("name", "package", "words"),
    [
        ("adamw_8bit", "bitsandbytes", "pip install bitsandbytes"),
        ("schedule_free_adamw", "schedulefree", "pip install schedulefree"),
        ("galore_adamw", "galore_torch", "pip install galore-torch"),
        ("apollo_adamw", "apollo_torch", "forbids commercial use"),
    ],
)
def test_a_missing_package_is_named(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    config = _config(finetuning_type="full", optim=name, lr_scheduler_type="constant")
    with pytest.raises(ModelError, match=f"optim: {name} needs the package {package}: .*{words}"):
        optimizers.build(config, model, 10)


def test_the_packages_that_a_worker_hides_are_those_of_other_optimizers(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    refused = set()
    for name in optimizers.OPTIMIZERS:
        try:
            optimizers.build(_config(finetuning_type="full", optim=name, lr_scheduler_type="constant"), model, 10)
        except ModelError as error:
            refused |= {name} if "bitsandbytes" in str(error) else set()
    assert refused == set(imports.OF_BITSANDBYTES)


def test_targets_without_a_matrix_are_refused(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    config = _config(finetuning_type="full", optim="galore_adamw", galore_target="query")
    with pytest.raises(ModelError, match="galore_adamw finds no trained matrix in query"):
        optimizers.build(config, model, 10)


def _config(**keys: object) -> TrainConfig:
    return parse(TrainConfig, {"dataset": ["demo"], **keys})


def _rates(folder: Path, **keys: object) -> dict[str, float]:
    """Learning rate of each weight by its name."""
    from peft import get_peft_model

    from studio.worker import methods

    config = _config(**keys)
    model, adapter = methods.attach(config, AutoModelForCausalLM.from_pretrained(folder), Path())
    model = get_peft_model(model, adapter)
    names = {weight: name for name, weight in model.named_parameters()}
    groups = optimizers.build(config, model, 10).param_groups
    return {names[weight]: round(group["lr"], 9) for group in groups for weight in group["params"]}
