"""Preferences without padding on a CUDA device in bfloat16: as with it, but for the rounding."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worker.stages.conftest import StageTrain, sets_dir, stage

__all__ = ["sets_dir", "stage"]
pytestmark = pytest.mark.gpu
KEYS: dict[str, Any] = {"max_steps": 6, "learning_rate": 1e-3, "val_size": 4, "eval_steps": 3}
REWARDS = ("rewards/chosen", "rewards/rejected", "rewards/margins")


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_flat_pairs_teach_what_padded_ones_do(stage: StageTrain, kind: str, method: str) -> None:
    padded, flat, dealt = (
        stage(kind, "uneven", name, finetuning_type=method, **KEYS, **more)
        for name, more in {
            "padded": {"flash_attn": "sdpa"},
            "flat": {"flash_attn": "varlen"},
            "dealt": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        }.items()
    )
    for run in (flat, dealt) if kind == "dpo" else (flat,):
        assert run.json("result.json")["paths"]["rows"] == "flat"
        assert run.json("result.json")["tokens"] < padded.json("result.json")["tokens"]
        assert list(run.losses.values()) == pytest.approx(list(padded.losses.values()), abs=0.02)
        for ours, theirs in zip(run.events("eval"), padded.events("eval"), strict=True):
            for name in REWARDS:
                assert ours["metrics"][name] == pytest.approx(theirs["metrics"][name], abs=0.03)
