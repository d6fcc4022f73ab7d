"""What the marks of base plus adapter see, weight by weight."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from studio.worker.merging import probes
from tests.worker.merging.bases import MIXTURE, SIZES

EXPERTS = 128
PARTS = ("gate_up_proj", "down_proj")


@pytest.mark.parametrize("adapted", PARTS)
def test_one_wrong_expert_of_many_is_seen_whether_adapted_or_not(adapted: str) -> None:
    torch.manual_seed(0)
    sizes = {**SIZES, **MIXTURE, "num_experts": EXPERTS, "num_hidden_layers": 1}
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3_moe", **sizes)).float()
    options = LoraConfig(r=2, target_modules=[], target_parameters=[f"mlp.experts.{adapted}"], init_lora_weights=False)
    tuned = get_peft_model(base, options)
    with torch.inference_mode():
        marks = [mark for mark in probes.take(tuned) if ".experts" in mark.name]
        merged = copy.deepcopy(tuned).merge_and_unload()
        experts = merged.model.layers[0].mlp.experts

        def worst() -> float:
            return max(probes.deviation(mark, merged, "F32", torch.float32) for mark in marks)

        assert worst() <= 1
        for part in PARTS:
            for expert in getattr(experts, part):
                expert *= 1.1
                assert worst() > 1
                expert /= 1.1
