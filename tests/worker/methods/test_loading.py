"""In which type and with which attention a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralConfig, MixtralForCausalLM

from studio import models
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.worker import methods, sharding
from studio.worker.ranks import Rank
from tests.worker.conftest import Train


def load(folder: Path, head: Any = "causal", **keys: Any) -> Any:
    config = parse(TrainConfig, {"dataset": ["demo"], **keys})
    tokenizer, alone = AutoTokenizer.from_pretrained(folder), sharding.of(config, Rank(), folder)
    return methods.load(config, models.check(folder), tokenizer, head, alone)


@pytest.mark.parametrize(
    ("keys", "wide"),
    [
        ({"finetuning_type": "full", "bf16": True}, True),
        ({"finetuning_type": "full", "pure_bf16": True}, False),
        ({"finetuning_type": "lora", "bf16": True}, False),
        ({"finetuning_type": "lora", "bf16": False}, True),
        ({"finetuning_type": "freeze", "bf16": True}, False),
    ],
)
def test_weights_are_as_wide_as_their_training_needs(tiny_model: Path, keys: dict[str, Any], wide: bool) -> None:
    assert {weight.dtype for weight in load(tiny_model, **keys).parameters()} == {
        torch.float32 if wide else torch.bfloat16
    }


def test_a_training_in_pure_bfloat16_holds_nothing_wider(train: Train) -> None:
    run = train(finetuning_type="full", pure_bf16=True, max_steps=4, save_steps=4, learning_rate=1e-2)
    assert run.losses[4] < run.losses[1]
    state = torch.load(run.run_dir / "checkpoints/checkpoint-4/optimizer.pt", weights_only=True)["state"]
    assert {moments["exp_avg"].dtype for moments in state.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("asked", "used"), [("auto", "varlen"), ("varlen", "varlen"), ("sdpa", "sdpa"), ("disabled", "eager")]
)
def test_attention_is_the_one_that_was_asked_for(tiny_model: Path, asked: str, used: str) -> None:
    assert load(tiny_model, flash_attn=asked).config._attn_implementation == used


@pytest.mark.parametrize(("asked", "package"), [("fa2", "flash-attn"), ("fa3", "flash-attn-interface")])
def test_a_flash_attention_that_is_missing_is_refused(tiny_model: Path, asked: str, package: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine may have it")
    with pytest.raises(ModelError, match=f"{asked} needs a GPU, .*the package {package}: set flash_attn to auto"):
        load(tiny_model, flash_attn=asked)


def test_a_reward_head_gives_one_number(tiny_model: Path) -> None:
    model = load(tiny_model, head="reward")
    assert model(torch.tensor([[5, 6, 7]])).logits.shape == (1, 1)
    assert model.config.pad_token_id == 0
    assert torch.equal(model.score.weight, load(tiny_model, head="reward").score.weight)


def test_experts_are_balanced_as_much_as_asked(tiny_model: Path, train: Train, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="moe_aux_loss_coef: a llama model has no experts"):
        load(tiny_model, moe_aux_loss_coef=0.1)
    sizes = {"vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 4, "pad_token_id": 0}
    MixtralForCausalLM(MixtralConfig(**sizes, **heads)).save_pretrained(tmp_path / "experts")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "experts")
    steps = {
        "model_name_or_path": str(tmp_path / "experts"),
        "max_steps": 1,
        "save_steps": 0,
        "finetuning_type": "full",
    }
    light, heavy = (train(f"run-{weight}", moe_aux_loss_coef=weight, **steps) for weight in (0.0, 10.0))
    assert heavy.losses[1] > light.losses[1] + 5


def test_a_folder_that_makes_no_model_is_told_so(tiny_model: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"llama"', '"unheard-of"'))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(tmp_path)
