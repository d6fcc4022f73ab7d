"""What must not make a difference: how a batch is cut into pieces, and an adapter that has learnt nothing yet."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worker.stages.conftest import StageTrain

EXACT = {"bf16": False, "finetuning_type": "full", "learning_rate": 1e-3, "max_steps": 3}
CUT = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
STAGES = [
    ("pt", "texts", {}),
    ("sft", "talks", {}),
    ("rm", "pairs", {}),
    ("dpo", "pairs", {}),
    ("dpo", "pairs", {"pref_loss": "ipo"}),
    # orpo and pref_ftx take the mean over the tokens of each piece, as TRL does: a difference of 0.05 % here
    ("dpo", "pairs", {"pref_loss": "simpo"}),
]


@pytest.mark.parametrize(("name", "dataset", "keys"), STAGES, ids=str)
def test_batches_that_are_summed_are_one_large_batch(
    stage: StageTrain, name: str, dataset: str, keys: dict[str, Any]
) -> None:
    whole = stage(name, dataset, "whole", **EXACT, **keys, per_device_train_batch_size=4)
    summed = stage(name, dataset, "summed", **EXACT, **keys, **CUT)
    assert summed.losses == pytest.approx(whole.losses, abs=1e-5)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"use_rslora": True},
        {"use_dora": True},
        {"pissa_init": True, "pissa_iter": -1},
        {"loraplus_lr_ratio": 16},
        {"layers_to_transform": "0"},
        {"lora_rank": 64, "lora_alpha": 256},
    ],
    ids=str,
)
def test_an_adapter_begins_as_the_model_below_it(stage: StageTrain, keys: dict[str, Any]) -> None:
    once = {"bf16": False, "max_steps": 1}
    base = stage("sft", "talks", "base", **once, finetuning_type="full")
    adapted = stage("sft", "talks", "adapted", **once, **keys)
    assert adapted.losses[1] == pytest.approx(base.losses[1], abs=1e-5)
