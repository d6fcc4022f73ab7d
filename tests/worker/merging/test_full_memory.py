"""Merging by PEFT in memory: the kinds that streaming refuses, and what PEFT would merge wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoraConfig, OFTConfig, VeraConfig, get_peft_model

from studio.errors import ModelError
from studio.worker.merging import full_memory
from studio.worker.merging.work import Share
from tests.worker.merging.bases import live, load, logits, make_adapter

TOLERANCE = 2e-5
KINDS: dict[str, Any] = {
    "lora": LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM"),
    "loha": LoHaConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM"),
    "vera": VeraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    "oft": OFTConfig(oft_block_size=4, target_modules=["q_proj"], task_type="CAUSAL_LM"),
}


def merged(base: Path, share: Share, target: Path) -> Path:
    planned = full_memory.plan(base, [share])
    written = full_memory.write(planned, base, [share], target, 20_000)
    assert set(written.outputs) == {path.name for path in target.glob("*.safetensors")}
    assert len(written.outputs) > 1
    config = json.loads((base / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **planned.config_changes}))
    return target


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_adapters_are_merged_by_peft(bases: dict[str, Path], tmp_path: Path, kind: str) -> None:
    base = bases["tied"]
    torch.manual_seed(1)
    model = get_peft_model(load(base), KINDS[kind])
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight) * weight.requires_grad
    model.save_pretrained(tmp_path / "adapter")
    got = logits(load(merged(base, Share(tmp_path / "adapter"), tmp_path / "merged")))
    wanted = live(base, tmp_path / "adapter")
    assert (wanted - logits(load(base))).abs().max() > 100 * TOLERANCE
    torch.testing.assert_close(got, wanted, atol=TOLERANCE, rtol=0)


def test_a_part_of_an_adapter(bases: dict[str, Path], tmp_path: Path) -> None:
    base = bases["untied"]
    adapter = make_adapter(tmp_path / "adapter", base, target_modules=["lm_head"])
    plain, half = (logits(load(merged(base, Share(adapter, weight), tmp_path / str(weight)))) for weight in (1.0, 0.5))
    torch.testing.assert_close(half - logits(load(base)), (plain - half), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    "kind",
    [
        LoraConfig(r=4, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM"),
        LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"], task_type="CAUSAL_LM"),
        OFTConfig(oft_block_size=4, target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM"),
    ],
    ids=["head", "embedding", "head oft"],
)
def test_one_of_two_tied_ends_is_refused(bases: dict[str, Path], tmp_path: Path, kind: Any) -> None:
    adapter = tmp_path / "adapter"
    get_peft_model(load(bases["tied"]), kind).save_pretrained(adapter, save_embedding_layers=False)
    with pytest.raises(ModelError, match="PEFT would change both: choose merge_method: stream"):
        full_memory.plan(bases["tied"], [Share(adapter)])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"init_lora_weights": "lora_ga"}, "began with lora_ga"),
        ({"init_lora_weights": "pissa_niter_16"}, "began with pissa_niter_16"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication: .* no merged model can be stored so"),
    ],
    ids=["gradients", "pissa by chance", "layers replicated"],
)
def test_what_was_trained_on_another_model_is_refused(
    bases: dict[str, Path], tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    """PEFT would put it on this one, and be wrong in the same way when it is asked for proof."""
    adapter = make_adapter(tmp_path / "adapter", bases["untied"], target_modules=["q_proj"])
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **options}))
    with pytest.raises(ModelError, match=told):
        full_memory.plan(bases["untied"], [Share(adapter)])


def test_a_bias_without_a_place_is_refused_in_pefts_words(bases: dict[str, Path], tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", bases["tied"], target_modules=["q_proj"], lora_bias=True)
    planned = full_memory.plan(bases["tied"], [Share(adapter)])
    with pytest.raises(ModelError, match="PEFT cannot merge it: Impossible to merge LoRA with `lora_bias=True`"):
        full_memory.write(planned, bases["tied"], [Share(adapter)], tmp_path / "merged", 10**9)


def test_too_little_memory_is_seen_before_it_is_taken(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(tmp_path / "adapter", bases["tied"], target_modules=["q_proj"])
    free: Any = type("Memory", (), {"available": 1000})
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    with pytest.raises(ModelError, match=r"needs about 0\.0 GB of memory and 0\.0 GB are free: choose stream"):
        full_memory.plan(bases["tied"], [Share(adapter)])
