"""Which way an adapter gets to answer, told from its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.models import AdapterInfo
from studio.serving.kinds import Way, kind

CASES: dict[str, tuple[dict[str, Any], Way, str]] = {
    "plain": ({}, Way.ADAPTER, ""),
    "rslora and patterns": ({"use_rslora": True, "rank_pattern": {"q": 4}, "bias": "none"}, Way.ADAPTER, ""),
    "gaussian": ({"init_lora_weights": "gaussian"}, Way.ADAPTER, ""),
    "dora": ({"use_dora": True}, Way.MERGED, "DoRA"),
    "trained whole": ({"modules_to_save": ["lm_head"]}, Way.MERGED, "modules_to_save"),
    "two reasons": ({"use_dora": True, "modules_to_save": ["norm"]}, Way.MERGED, "DoRA and modules"),
    "new tokens": ({"trainable_token_indices": {"embed_tokens": [1]}}, Way.MERGED, "trainable_token_indices"),
    "bias": ({"bias": "all"}, Way.MERGED, "bias"),
    "bias of LoRA": ({"lora_bias": True}, Way.STAND_IN, "bias"),
    "experts": ({"target_parameters": ["mlp.experts.down_proj"]}, Way.MERGED, "target_parameters"),
    "pissa": ({"init_lora_weights": "pissa"}, Way.MERGED, "pissa"),
    "pissa by chance": ({"init_lora_weights": "pissa_niter_4"}, Way.STAND_IN, "pissa_niter_4"),
    "what a merge would lose": ({"use_dora": True, "layer_replication": [[0, 2]]}, Way.STAND_IN, "replicated"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_way_follows_from_the_configuration(name: str) -> None:
    config, way, why = CASES[name]
    found = kind(AdapterInfo(Path("a"), 8, "b", config=config))
    assert found.way is way
    assert why in found.why


def test_other_methods_than_lora_are_for_transformers() -> None:
    found = kind(AdapterInfo(Path("a"), 0, "b", kind="IA3"))
    assert (found.way, found.why) == (Way.STAND_IN, "vLLM serves LoRA only, and this is IA3")


def test_a_rank_beyond_all_of_vllms_is_merged() -> None:
    assert kind(AdapterInfo(Path("a"), 512, "b")).way is Way.ADAPTER
    assert kind(AdapterInfo(Path("a"), 513, "b")).way is Way.MERGED
