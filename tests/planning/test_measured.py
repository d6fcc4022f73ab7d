"""The memory verdict beside what was measured on a GPU (bench/memory.tsv, of bench/memory.py), without one."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

import pytest

from bench import memory as bench
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.planning import batch, shape
from studio.planning.memory import Memory, estimate
from studio.planning.ways import PLAIN
from studio.settings import ROOT

TOLERANCE = 0.15
UNEXPLAINED = ("8B lora 8-bit 2x1024 checkpointing",)  # its allocator held 5.7 GB that no tensor was in
with open(ROOT / "bench/memory.tsv", encoding="utf-8") as file:
    MEASURED = {row["configuration"]: row for row in csv.DictReader(file, delimiter="\t")}
TRAININGS = {bench.name_of(each): each for each in bench.TRAININGS}


def test_enough_was_measured() -> None:
    assert len(MEASURED) >= 12
    words = {word for name in MEASURED for word in name.split()}
    assert words >= {"0.5B", "8B", "full", "lora", "4-bit", "checkpointing", "16x256", "1x8192"}


@pytest.mark.parametrize("name", MEASURED)
def test_the_plan_is_near_the_peak(name: str) -> None:
    expected, measured = _planned(name), MEASURED[name]
    assert expected.tensors_gb == pytest.approx(float(measured["allocated_gb"]), rel=TOLERANCE)
    if name in UNEXPLAINED:
        return
    with_context = float(measured["reserved_gb"]) + 0.72  # of a process on that device
    assert expected.total_gb == pytest.approx(with_context, rel=TOLERANCE)


def _planned(name: str) -> Memory:
    model, rows, tokens, checkpointing, keys = TRAININGS[name]
    values = {"dataset": "a", "per_device_train_batch_size": rows, "cutoff_len": tokens, "max_steps": bench.STEPS}
    config = parse(TrainConfig, {**values, "gradient_accumulation_steps": 2, **keys})
    fullest = batch.of(config, bench.lengths_of(tokens, keys))
    described = bench.SHAPES[model]
    model = shape.of(described, dict(header(described)))
    # what was measured knew none of the faster ways
    return estimate(config, model, fullest, True, model.layers if checkpointing else 0, by=PLAIN)


def header(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tensors that such a model is stored in."""
    hidden, middle, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    width = config.get("head_dim") or hidden // config["num_attention_heads"]
    query, keys = config["num_attention_heads"] * width, config["num_key_value_heads"] * width
    shapes = {"embed_tokens": (vocabulary, hidden), "norm": (hidden,)}
    for number in range(config["num_hidden_layers"]):
        attention, forward = f"layers.{number}.self_attn", f"layers.{number}.mlp"
        shapes |= {f"{attention}.q_proj": (query, hidden), f"{attention}.o_proj": (hidden, query)}
        shapes |= {f"{attention}.{name}_proj": (keys, hidden) for name in "kv"}
        shapes |= {f"{forward}.{name}_proj": (middle, hidden) for name in ("gate", "up")}
        shapes |= {f"{forward}.down_proj": (hidden, middle)}
        shapes |= {f"layers.{number}.{name}_layernorm": (hidden,) for name in ("input", "post_attention")}
        if config["model_type"] == "qwen3":
            shapes |= {f"{attention}.{name}_norm": (width,) for name in "qk"}
    if not config["tie_word_embeddings"]:
        shapes["lm_head"] = (vocabulary, hidden)
    for name, sizes in shapes.items():
        prefix = "" if name == "lm_head" else "model."
        yield f"{prefix}{name}.weight", {"shape": sizes, "dtype": "BF16", "data_offsets": (0, 2)}
