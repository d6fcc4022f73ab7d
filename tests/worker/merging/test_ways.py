"""The ways of merging that a run can ask for, from its configuration to a proven model."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoHaConfig, get_peft_model

from tests.worker.conftest import Start
from tests.worker.merging.bases import load, logits, make_adapter


def test_a_run_that_rounds_its_base_is_proven(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", tiny_model, target_modules=["q_proj", "up_proj", "lm_head"])
    worker = start("merge", adapter_name_or_path=[str(adapter)], dequantize_base="nf4", export_dtype="float32")
    assert worker.wait() == 0, worker.log
    assert "rounded to nf4" in (worker.run_dir / "report.md").read_text()
    assert worker.json("result.json")["max_difference"] < 1e-3
    assert worker.json("result.json")["adapter_sha256"] is None  # not what a server may take for base and adapter


def test_a_kind_that_only_peft_merges(start: Start, tiny_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = get_peft_model(load(tiny_model), LoHaConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight) * weight.requires_grad
    model.save_pretrained(tmp_path / "adapter")
    keys = {"adapter_name_or_path": [str(tmp_path / "adapter")], "merge_method": "full_memory"}
    worker = start("merge", **keys, export_dtype="float32", verify=False)
    assert worker.wait() == 0, worker.log
    wanted = logits(model)
    torch.testing.assert_close(logits(load(worker.run_dir / "model")), wanted, atol=2e-5, rtol=0)
    assert "merge_method: full_memory" in (worker.run_dir / "report.md").read_text()
