"""Adapters computed with the layers below them on a CUDA device: PEFT's numbers, and no more memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.worker.conftest import Train
from tests.worker.fast.test_lora import adapted, assert_same, base, both, curve, off_in_bfloat16, passed
from tests.worker.methods.test_quantised import load
from tests.worker.stages.conftest import StageTrain, sets_dir, stage

__all__ = ["sets_dir", "stage"]
pytestmark = pytest.mark.gpu
FOUR = {"quantization_bit": 4, "double_quantization": True}


@pytest.mark.parametrize("rank", [1, 8, 64])
def test_in_float32_results_are_those_of_peft(rank: int) -> None:
    plain, fused = both(adapted(base(attention_bias=True).to("cuda"), r=rank))
    assert_same(passed(fused), passed(plain), 1e-4)
    fused.gradient_checkpointing_enable({"use_reentrant": False})
    assert_same(passed(fused), passed(plain), 1e-4)


@pytest.mark.parametrize("rank", [1, 8, 64])
def test_in_bfloat16_results_are_as_near_to_the_truth_as_those_of_peft(rank: int) -> None:
    ours, theirs = off_in_bfloat16(
        adapted(base(torch.bfloat16).to("cuda"), r=rank), adapted(base(torch.bfloat16).to("cuda").float(), r=rank)
    )
    assert all(mine < 1.1 * other for mine, other in zip(ours, theirs, strict=True))


def test_layers_of_4_bits_too(tiny_model: Path) -> None:
    narrow, wide = (adapted(load(tiny_model, **FOUR, bf16=bf16)) for bf16 in (True, False))
    ours, theirs = off_in_bfloat16(narrow, wide, **FOUR)
    assert all(mine < 1.1 * other for mine, other in zip(ours, theirs, strict=True))


def peak(model: Any, ids: torch.Tensor) -> int:
    """Bytes that a pass takes beside what is there before."""
    passed(model, ids)
    model.zero_grad()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    with torch.autocast("cuda", torch.bfloat16):
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return torch.cuda.max_memory_allocated() - held


@pytest.mark.parametrize("again", [False, True], ids=["kept", "computed twice"])
def test_it_takes_no_more_memory_than_peft(again: bool) -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "max_position_embeddings": 4096}
    plain, fused = both(adapted(base(torch.bfloat16, **sizes).to("cuda")), bf16=True)
    if again:
        for model in (plain, fused):
            model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.randint(0, 96, (1, 4096), device="cuda")
    assert peak(fused, ids) <= peak(plain, ids)


@pytest.mark.parametrize("keys", [{}, FOUR, {"gradient_checkpointing": "on"}], ids=["LoRA", "QLoRA", "computed twice"])
def test_a_training_takes_the_same_course(train: Train, keys: dict[str, Any]) -> None:
    keys = {**keys, "learning_rate": 1e-2}
    plain, fused = (train(f"fused-{fused}", fused_lora=fused, **keys) for fused in (False, True))
    assert curve(fused) == pytest.approx(curve(plain), rel=0.01)
    assert curve(fused)[-1] < curve(fused)[0]
    assert "together with their layers" in fused.json("result.json")["paths"]["adapters"]


def test_a_preference_training_begins_where_it_must(stage: StageTrain) -> None:
    run = stage("dpo", "pairs", fused_lora=True, learning_rate=1e-2, max_steps=10, per_device_train_batch_size=12)
    assert run.losses[1] == pytest.approx(0.6931, abs=1e-3)
    assert run.losses[10] < run.losses[1]
