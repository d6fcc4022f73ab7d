"""Which weights a freeze leaves free, exactly; and that no others move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.worker import methods
from tests.worker.conftest import Train, make_model


@pytest.fixture(scope="module")
def deep_model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A tiny model of six layers and a head of its own."""
    return make_model(tmp_path_factory.mktemp("deep"), tokenizer_dir, num_hidden_layers=6, tie_word_embeddings=False)


def free(folder: Path, **keys: Any) -> set[str]:
    """Names of the weights that are trained."""
    config = parse(TrainConfig, {"dataset": ["demo"], "finetuning_type": "freeze", **keys})
    model, adapter = methods.attach(config, AutoModelForCausalLM.from_pretrained(folder), Path())
    assert adapter is None
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    return set(trained)


def layers(names: set[str]) -> set[int]:
    return {int(name.split(".")[2]) for name in names if ".layers." in name}


def test_layers_are_counted_from_either_end(deep_model: Path) -> None:
    assert layers(free(deep_model)) == {4, 5}
    assert layers(free(deep_model, freeze_trainable_layers=-3)) == {0, 1, 2}
    assert layers(free(deep_model, freeze_trainable_layers=6)) == set(range(6))
    assert len(free(deep_model, freeze_trainable_layers=1)) == 9  # seven matrices and two norms


def test_blocks_of_an_expansion_are_spread_evenly(deep_model: Path) -> None:
    assert layers(free(deep_model, freeze_trainable_layers=2, use_llama_pro=True)) == {2, 5}
    assert layers(free(deep_model, freeze_trainable_layers=3, use_llama_pro=True)) == {1, 3, 5}


def test_modules_are_named_within_the_layers_and_outside(deep_model: Path) -> None:
    keys = {"freeze_trainable_layers": 1, "freeze_trainable_modules": "mlp,q_proj", "freeze_extra_modules": "norm"}
    assert free(deep_model, **keys) == {
        *(f"model.layers.5.mlp.{name}_proj.weight" for name in ("gate", "up", "down")),
        "model.layers.5.self_attn.q_proj.weight",
        "model.norm.weight",
    }


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"freeze_trainable_layers": 7}, r"the model has 6 layers \(got 7\)"),
        ({"freeze_trainable_layers": 4, "use_llama_pro": True}, "6 layers cannot be divided by .* 4"),
        (
            {"freeze_trainable_modules": "attention"},
            "freeze_trainable_modules: the model has no attention; it has all, down_proj",
        ),
        ({"freeze_extra_modules": "embeddings"}, "the model has no embeddings; it has embed_tokens, lm_head, norm"),
    ],
)
def test_what_the_model_does_not_have_is_refused(deep_model: Path, keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        free(deep_model, **keys)


def test_only_what_is_free_moves(train: Train, deep_model: Path) -> None:
    keys = {"freeze_trainable_layers": 1, "freeze_trainable_modules": "mlp", "freeze_extra_modules": "lm_head"}
    run = train(model_name_or_path=str(deep_model), finetuning_type="freeze", learning_rate=1e-2, **keys)
    assert run.losses[6] < run.losses[1]
    before, after = (load_file(folder / "model.safetensors") for folder in (deep_model, run.run_dir / "model"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"lm_head.weight", *(f"model.layers.5.mlp.{name}_proj.weight" for name in ("gate", "up", "down"))}
