"""python make_adapters.py BASE FOLDER: adapters of several kinds, with random weights, one folder each.

narrow and wide (LoRA of ranks 8 and 64), dora, whole (trained norms beside LoRA), ends (a trained embedding beside
it), scaled (IA3), untrained (LoRA before its first step).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from peft import IA3Config, LoraConfig, PeftConfig, get_peft_model
from transformers import AutoModelForCausalLM

TARGETS = ["q_proj", "v_proj", "down_proj"]


def main(base: str, folder: Path) -> None:
    random = {"target_modules": TARGETS, "task_type": "CAUSAL_LM", "init_lora_weights": False}
    _make(base, folder / "narrow", LoraConfig(r=8, lora_alpha=16, **random))
    _make(base, folder / "wide", LoraConfig(r=64, lora_alpha=64, **random))
    _make(base, folder / "dora", LoraConfig(r=8, lora_alpha=8, use_dora=True, **random))
    _make(base, folder / "whole", LoraConfig(r=8, lora_alpha=8, modules_to_save=["norm"], **random))
    _make(base, folder / "ends", LoraConfig(r=8, lora_alpha=8, modules_to_save=["embed_tokens"], **random))
    _make(base, folder / "untrained", LoraConfig(r=8, **(random | {"init_lora_weights": True})))
    ia3 = IA3Config(target_modules=TARGETS, feedforward_modules=["down_proj"], init_ia3_weights=False)
    _make(base, folder / "scaled", ia3)


def _make(base: str, folder: Path, config: PeftConfig) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tuned = get_peft_model(model, config)
    for name, weight in tuned.named_parameters():
        # random as PEFT makes them, the answers would be noise in both servers alike
        if "lora_B" in name:
            weight.data *= 0.3
        if "modules_to_save" in name:
            weight.data *= 1.1
    tuned.save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
