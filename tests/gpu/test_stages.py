"""Every stage on a CUDA device in bfloat16: it begins where it must and learns."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worker.stages.conftest import StageTrain, sets_dir, stage

__all__ = ["sets_dir", "stage"]
pytestmark = pytest.mark.gpu
FEW = {"max_steps": 10, "per_device_train_batch_size": 12}
CASES: dict[str, tuple[str, str, dict[str, Any], float | None]] = {
    "pt": ("pt", "texts", {}, None),
    "z-loss": ("sft", "talks", {"z_loss_coef": 1e-4}, None),
    "rm": ("rm", "pairs", {}, None),
    "dpo": ("dpo", "pairs", {}, 0.6931),
    "orpo": ("dpo", "pairs", {"pref_loss": "orpo"}, None),
    "simpo": ("dpo", "pairs", {"pref_loss": "simpo"}, None),
    "kto": ("kto", "judged", {}, 0.5),
}


@pytest.mark.parametrize("method", ["lora", "full", "freeze"])
@pytest.mark.parametrize("name", CASES)
def test_every_stage_learns(stage: StageTrain, name: str, method: str) -> None:
    kind, dataset, keys, start = CASES[name]
    rate = {"lora": 1e-2, "full": 1e-3, "freeze": 3e-3}[method]
    run = stage(kind, dataset, finetuning_type=method, learning_rate=rate, **FEW, **keys)
    assert run.losses[10] < run.losses[1]
    assert start is None or run.losses[1] == pytest.approx(start, abs=1e-3)
