"""Judged answers: good ones become likelier than bad ones, measured against answers to other prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.worker.stages.feedback import Mismatched
from tests.worker.stages.conftest import StageTrain


def test_a_prompt_is_given_the_answer_of_another_row() -> None:
    rows = [{"prompt_ids": [1, place], "completion_ids": [9] * place, "label": place == 2} for place in (2, 3, 4)]
    batch = Mismatched(pad_token_id=0)(rows)
    assert batch["KL_input_ids"].tolist() == [[1, 2, 9, 9, 9, 9], [1, 3, 9, 9, 0, 0], [1, 4, 9, 9, 9, 0]]
    assert batch["KL_completion_mask"].tolist() == [[0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 0]]
    assert batch["input_ids"].tolist() == [[1, 2, 9, 9, 0, 0], [1, 3, 9, 9, 9, 0], [1, 4, 9, 9, 9, 9]]
    assert batch["label"].tolist() == [True, False, False]


def test_good_answers_are_told_from_bad_ones(stage: StageTrain) -> None:
    run = stage("kto", "judged", val_size=4, learning_rate=3e-3)
    losses = list(run.losses.values())
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.3
    assert run.losses[1] == pytest.approx(0.5, abs=1e-4)  # nothing is learnt yet
    assert run.events("eval")[-1]["eval_loss"] < 0.45


def test_pairs_serve_as_judged_answers_and_weights_count(stage: StageTrain) -> None:
    run = stage("kto", "pairs", max_steps=1, kto_chosen_weight=3.0, kto_rejected_weight=3.0)
    assert run.losses[1] == pytest.approx(1.5, abs=1e-4)


def test_one_row_at_once_is_made_two_with_half_the_batches(stage: StageTrain) -> None:
    run = stage("kto", "judged", per_device_train_batch_size=1, gradient_accumulation_steps=6, max_steps=4)
    assert "kto compares the rows of a batch: 2 at once instead of 1" in run.notes
    assert run.events("step")[1]["epoch"] == 1  # 6 of 12 rows a step


def test_rows_are_shuffled(stage: StageTrain, other_model: Path) -> None:
    keys = {"max_steps": 1, "finetuning_type": "full", "ref_model": str(other_model), "bf16": False}
    one, other = (stage("kto", "judged", f"seed-{seed}", seed=seed, **keys).losses[1] for seed in (1, 2))
    assert one != pytest.approx(other, rel=1e-4)


def test_without_padding_the_same_is_learnt(stage: StageTrain) -> None:
    keys = {"max_steps": 4, "bf16": False, "learning_rate": 1e-3, "val_size": 4, "eval_steps": 2}
    padded, flat = (stage("kto", "uneven", name, flash_attn=name, **keys) for name in ("sdpa", "auto"))
    assert flat.losses == pytest.approx(padded.losses, abs=1e-5)
    for ours, theirs in zip(flat.events("eval"), padded.events("eval"), strict=True):
        assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], abs=1e-5)
        assert ours["metrics"]["kl"] == pytest.approx(theirs["metrics"]["kl"], abs=1e-4)
    tokens = [run.json("result.json")["tokens"] for run in (flat, padded)]
    assert tokens[0] < tokens[1]
    assert flat.json("result.json")["paths"]["rows"] == "flat"
