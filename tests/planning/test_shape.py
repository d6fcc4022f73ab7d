"""Shapes of models that are stored in other ways than ours."""

from __future__ import annotations

from typing import Any

import pytest

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.planning import memory, parameters, shape
from studio.planning.batch import Batch

CONFIG = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "intermediate_size": 96,
    "vocab_size": 10,
}


def stored(*sizes: int, dtype: str = "BF16", width: int = 2) -> dict[str, Any]:
    elements = 1
    for size in sizes:
        elements *= size
    return {"shape": sizes, "dtype": dtype, "data_offsets": (0, elements * width)}


def test_a_quantised_model_counts_what_its_matrices_stand_for() -> None:
    packed = {
        "model.embed_tokens.weight": stored(10, 64),
        "model.layers.0.self_attn.q_proj.qweight": stored(8, 64, dtype="I32", width=4),
        "model.layers.0.self_attn.q_proj.scales": stored(1, 64),
        "model.layers.0.mlp.down_proj.qweight": stored(12, 64, dtype="I32", width=4),
    }
    found = shape.of(CONFIG, packed)
    assert found.packed
    assert found.parameters == 10 * 64 + 64 * 64 + 96 * 64
    config = parse(TrainConfig, {"dataset": "a", "lora_rank": 2, "bf16": False})
    trained = parameters.of(config, found)
    assert trained.trainable == 2 * (64 + 64) + 2 * (96 + 64)
    work = memory.work_of(config, found, Batch(1, 1, masked=False), on_gpu=True)
    assert memory.weights(work) == 10 * 64 * 2 + 8 * 64 * 4 + 64 * 2 + 12 * 64 * 4 + trained.trainable * 4


def test_of_routed_experts_one_token_uses_a_few() -> None:
    experts = {**CONFIG, "num_experts_per_tok": 4, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 32}
    names = (f"model.layers.0.mlp.experts.{number}.up_proj.weight" for number in range(8))
    found = shape.of(experts, {name: stored(24, 64) for name in names})
    assert found.intermediate == 4 * 24 + 32
    assert found.linear == ()
    assert found.parameters == 8 * 24 * 64


def test_the_language_model_inside_another_is_meant() -> None:
    assert shape.of({"text_config": CONFIG}, {}).hidden == 64


def test_other_names_of_the_same_sizes() -> None:
    found = shape.of({"n_embd": 32, "n_head": 2, "n_layer": 3, "vocab_size": 5}, {})
    assert (found.hidden, found.layers, found.intermediate, found.gated) == (32, 3, 128, False)


def test_what_is_no_decoder_is_refused() -> None:
    with pytest.raises(ModelError, match=r"sizes of a language model \('hidden_size'\)"):
        shape.of({"vocab_size": 5}, {})
