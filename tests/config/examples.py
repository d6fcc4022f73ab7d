"""LLaMA-Factory's example configurations of its train command: which run here, and what the others are refused by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from studio.settings import ROOT

FILE = ROOT.parent / "shared/data/llamafactory/example_configs.json"
IMAGES = ("image_max_pixels", "video_max_pixels")
# the keys that need what this project does not have, by example
REFUSALS: dict[str, tuple[str, ...]] = {
    "extras/adam_mini/qwen2_full_sft.yaml": ("use_adam_mini",),
    "extras/fp8/llama3_fp8_deepspeed_sft.yaml": ("fp8",),
    "extras/fp8/llama3_fp8_fsdp_sft.yaml": ("fp8",),
    "extras/mod/llama3_full_sft.yaml": ("mixture_of_depths",),
    "extras/oft/qwen2_5vl_oft_sft.yaml": (*IMAGES, "finetuning_type"),
    "extras/qoft/llama3_oft_sft_awq.yaml": ("finetuning_type",),
    "extras/qoft/llama3_oft_sft_bnb_npu.yaml": ("finetuning_type",),
    "ktransformers/train_lora/deepseek_v2_lora_sft_kt.yaml": ("use_kt",),
    "ktransformers/train_lora/deepseek_v3_int8_lora_sft_kt.yaml": ("use_kt",),
    "ktransformers/train_lora/qwen3moe_lora_sft_kt.yaml": ("use_kt",),
    "train_full/qwen3vl_full_sft.yaml": (*IMAGES, "freeze_vision_tower", "freeze_multi_modal_projector"),
    "train_lora/qwen3_preprocess.yaml": ("tokenized_path",),
    "train_lora/qwen3vl_lora_sft.yaml": IMAGES,
}


@dataclass(frozen=True)
class Example:
    """One file of theirs; `refused_by` is empty where it runs here."""

    name: str
    values: dict[str, Any]

    @property
    def refused_by(self) -> tuple[str, ...]:
        return REFUSALS.get(self.name, ())

    def __str__(self) -> str:
        return self.name


def _examples() -> list[Example]:
    if not FILE.exists():
        return []
    read = json.loads(FILE.read_text())
    # other folders hold DeepSpeed files, and files of other commands and of another program
    return [Example(name, keys) for name, keys in read.items() if keys.get("stage") and not name.startswith("v1/")]


TRAINING = [example for example in _examples() if not example.refused_by]
REFUSED = [example for example in _examples() if example.refused_by]


def or_skipped(examples: list[Example]) -> list[Any]:
    """`examples`, or one that says why there are none."""
    skipped = pytest.mark.skip(reason="LLaMA-Factory's example configurations are not on this machine")
    return [*examples] or [pytest.param(None, marks=skipped)]
