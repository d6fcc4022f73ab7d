"""Tiny models of several kinds, adapters on them, and what the merge of both has to answer.

The reference of every case is the same: base and adapter live in PEFT, whole in memory, in float32.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from studio.worker.merging import stream
from studio.worker.merging.plan import plan
from studio.worker.merging.quantised import Rounding
from studio.worker.merging.work import Plan, Share

IDS = torch.arange(24).reshape(2, 12) * 7 % 96
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
MIXTURE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "tied": ("llama", {**SIZES, "tie_word_embeddings": True}),
    "untied": ("llama", {**SIZES, "tie_word_embeddings": False}),
    "gpt2": ("gpt2", {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "neox": ("gpt_neox", {**SIZES, "num_key_value_heads": None}),
    "qwen": ("qwen2", {**SIZES, "tie_word_embeddings": True}),
    "gemma": ("gemma", {**SIZES, "head_dim": 8}),
    "experts": ("qwen3_moe", {**SIZES, **MIXTURE, "tie_word_embeddings": False}),
    "mixtral": ("mixtral", {**SIZES, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "oss": ("gpt_oss", {**SIZES, "intermediate_size": 32, "num_local_experts": 4, "head_dim": 8}),
    "mamba": ("mamba", {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
    "rwkv": ("rwkv", {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "tie_word_embeddings": True}),
    "ctrl": ("ctrl", {"vocab_size": 96, "n_embd": 32, "dff": 48, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "openai": ("openai-gpt", {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "biogpt": ("biogpt", SIZES),
}


def make_base(folder: Path, kind: str, dtype: torch.dtype = torch.float32) -> Path:
    """A model folder with random weights; biases and lengths are not left at their zeros and ones."""
    from transformers import AutoConfig

    torch.manual_seed(0)
    name, keys = KINDS[kind]
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **keys)).to(dtype)
    for weight in model.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


def make_adapter(folder: Path, base: Path, seed: int = 1, **options: Any) -> Path:
    """The folder of an adapter as `adapted` makes it."""
    adapted(base, seed, **options).save_pretrained(folder)
    return folder


def adapted(base: Path, seed: int = 1, **options: Any) -> PeftModel:
    """Base and adapter, live; all weights of the adapter are far enough from where they start to be missed."""
    torch.manual_seed(seed)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", **options})
    model = get_peft_model(copy.deepcopy(_kept(base)), config)
    for name, weight in model.named_parameters():
        if weight.requires_grad or "lora_" in name:
            weight.data += (0.05 if weight.dim() > 1 else 0.2) * torch.randn_like(weight)
    return model


def merged(
    base: Path, adapters: Sequence[Share], target: Path, dtype: str = "auto", rounding: Rounding | None = None
) -> Plan:
    """Merge into `target` as the worker does, without its proof."""
    target.mkdir()
    made = plan(base, adapters, dtype, rounding)
    stream.write(made, target, 10**9, lambda done, total: None)
    config = json.loads((base / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **made.config_changes}))
    return made


def load(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model


@cache
def _kept(base: Path) -> PreTrainedModel:
    return load(base)


@cache
def untouched(base: Path) -> torch.Tensor:
    """What the base alone answers."""
    return logits(_kept(base))


def live(base: Path, adapter: Path) -> torch.Tensor:
    return logits(PeftModel.from_pretrained(load(base), str(adapter)))


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found
