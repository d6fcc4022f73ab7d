"""Every kind of adapter, merged, answers as base and adapter do together: largest difference of any logit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from studio.worker.merging.work import Share
from tests.worker.merging.bases import adapted, load, logits, merged, untouched

TOLERANCE = 2e-5
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SOME = ["q_proj", "down_proj"]
STACKED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("untied", {"target_modules": ALL}),
    "linear tied": ("tied", {"target_modules": ALL}),
    "rank pattern": ("untied", {"target_modules": ALL, "rank_pattern": {"q_proj": 3, r"layers\.1\.mlp\.up_proj": 7}}),
    "alpha pattern rslora": ("untied", {"target_modules": ALL, "alpha_pattern": {"v_proj": 64}, "use_rslora": True}),
    "layers": ("untied", {"target_modules": ALL, "layers_to_transform": [1], "layers_pattern": "layers"}),
    "dora": ("untied", {"target_modules": ALL, "use_dora": True}),
    "dora rslora": ("tied", {"target_modules": ALL, "use_dora": True, "use_rslora": True}),
    "gemma": ("gemma", {"target_modules": ALL}),
    "gemma embedding": ("gemma", {"target_modules": ["embed_tokens", "q_proj"]}),
    "neox": ("neox", {"target_modules": ["query_key_value", "dense", "embed_in", "lm_head"]}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"]}),
    "gpt2 dora": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "use_dora": True}),
    "gpt2 head": ("gpt2", {"target_modules": ["c_attn", "c_proj", "lm_head"]}),
    "gpt2 positions": ("gpt2", {"target_modules": ["c_attn", "wpe", "wte"]}),
    "head untied": ("untied", {"target_modules": [*SOME, "lm_head"]}),
    "head tied": ("tied", {"target_modules": [*SOME, "lm_head"]}),
    "head dora tied": ("tied", {"target_modules": [*SOME, "lm_head"], "use_dora": True}),
    "embedding untied": ("untied", {"target_modules": [*SOME, "embed_tokens"]}),
    "embedding tied": ("tied", {"target_modules": [*SOME, "embed_tokens"]}),
    "embedding dora": ("untied", {"target_modules": [*SOME, "embed_tokens"], "use_dora": True}),
    "embedding and head tied": ("tied", {"target_modules": [*SOME, "embed_tokens", "lm_head"]}),
    "embedding kept tied": ("tied", {"target_modules": [*SOME, "embed_tokens"], "ensure_weight_tying": True}),
    "mamba embedding": ("mamba", {"target_modules": ["embeddings"]}),
    "mamba head": ("mamba", {"target_modules": ["x_proj"], "modules_to_save": ["lm_head"]}),
    "rwkv embedding": ("rwkv", {"target_modules": ["key"], "modules_to_save": ["embeddings"]}),
    "rwkv head": ("rwkv", {"target_modules": ["head"]}),
    "ctrl embedding": ("ctrl", {"target_modules": ["w"]}),
    "openai embedding": ("openai", {"target_modules": ["tokens_embed"]}),
    "biogpt embedding": ("biogpt", {"target_modules": ["embed_tokens"]}),
    "biogpt head": ("biogpt", {"target_modules": ["output_projection", "q_proj"]}),
    "whole head untied": ("untied", {"target_modules": SOME, "modules_to_save": ["lm_head"]}),
    "whole head tied": ("tied", {"target_modules": SOME, "modules_to_save": ["lm_head"]}),
    "whole embedding tied": ("tied", {"target_modules": SOME, "modules_to_save": ["embed_tokens"]}),
    "whole both tied": ("tied", {"target_modules": SOME, "modules_to_save": ["embed_tokens", "lm_head"]}),
    "whole both untied": ("untied", {"target_modules": SOME, "modules_to_save": ["embed_tokens", "lm_head"]}),
    "whole kept tied": (
        "tied",
        {"target_modules": SOME, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
    ),
    "whole head by its last letters": ("tied", {"target_modules": SOME, "modules_to_save": ["head"]}),
    "whole embedding by its last letters": ("tied", {"target_modules": SOME, "modules_to_save": ["tokens"]}),
    "whole norms": ("untied", {"target_modules": SOME, "modules_to_save": ["norm", "input_layernorm"]}),
    "whole block": ("untied", {"target_modules": ["q_proj"], "modules_to_save": ["layers.1.mlp"]}),
    "tokens tied": ("tied", {"target_modules": SOME, "trainable_token_indices": [3, 90, 7]}),
    "tokens untied": ("untied", {"target_modules": SOME, "trainable_token_indices": [3, 90, 7]}),
    "tokens of both": (
        "untied",
        {"target_modules": SOME, "trainable_token_indices": {"embed_tokens": [3, 4], "lm_head": [5, 3, 90]}},
    ),
    "tokens of the head tied": ("tied", {"target_modules": SOME, "trainable_token_indices": {"lm_head": [5, 3]}}),
    "tokens and the head tied": (
        "tied",
        {"target_modules": [*SOME, "lm_head"], "trainable_token_indices": {"embed_tokens": [5, 6]}},
    ),
    "tokens of both tied": (
        "tied",
        {"target_modules": SOME, "trainable_token_indices": {"embed_tokens": [3, 4], "lm_head": [5, 3, 90]}},
    ),
    "pissa embedding tied": ("tied", {"target_modules": [*SOME, "embed_tokens"], "init_lora_weights": "pissa"}),
    "lora bias": ("qwen", {"target_modules": ["q_proj", "k_proj", "v_proj"], "lora_bias": True}),
    "lora bias without base bias": ("untied", {"target_modules": ["q_proj", "down_proj"], "lora_bias": True}),
    "all biases": ("qwen", {"target_modules": ALL, "bias": "all"}),
    "adapted biases": ("gpt2", {"target_modules": ["c_attn"], "bias": "lora_only", "lora_bias": True}),
    "experts": ("experts", {"target_modules": ["q_proj"], "target_parameters": STACKED}),
    "experts down": ("experts", {"target_modules": ["q_proj"], "target_parameters": STACKED[1:]}),
    "experts as layers": ("experts", {"target_modules": ALL}),
    "experts router": ("experts", {"target_modules": ["q_proj"], "target_parameters": ["mlp.gate.weight"]}),
    "mixtral experts": ("mixtral", {"target_modules": ["q_proj"], "target_parameters": STACKED, "use_rslora": True}),
    "mixtral all linear": ("mixtral", {"target_modules": "all-linear"}),
    "experts stored stacked": ("oss", {"target_modules": ["q_proj"], "target_parameters": STACKED}),
    "a layer's parameter": ("untied", {"target_modules": [], "target_parameters": ["mlp.gate_proj.weight"]}),
    "pissa": ("untied", {"target_modules": ALL, "init_lora_weights": "pissa"}),
    "pissa gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "init_lora_weights": "pissa"}),
    "olora": ("untied", {"target_modules": ALL, "init_lora_weights": "olora"}),
    "orthogonal": ("untied", {"target_modules": ALL, "init_lora_weights": "orthogonal"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_merge_answers_as_base_and_adapter_do(bases: dict[str, Path], tmp_path: Path, case: str) -> None:
    kind, options = CASES[case]
    base = bases[kind]
    tuned = adapted(base, **options)
    tuned.save_pretrained(tmp_path / "adapter")
    merged(base, [Share(tmp_path / "adapter")], tmp_path / "merged")
    wanted, got = logits(tuned), logits(load(tmp_path / "merged"))
    moved = (wanted - untouched(base)).abs().max()
    print(f"CASE | {case} | {(wanted - got).abs().max():.1e} | {moved:.1e} |")
    assert moved > 100 * TOLERANCE  # else this case proves nothing
    torch.testing.assert_close(got, wanted, atol=TOLERANCE, rtol=0)
