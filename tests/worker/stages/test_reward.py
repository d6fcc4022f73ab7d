"""Reward models: the better answer gets the higher score."""

from __future__ import annotations

from transformers import AutoModelForSequenceClassification

from studio.worker.stages.reward import WholePairs
from tests.worker.stages.conftest import StageTrain


def test_an_answer_is_rated_behind_its_prompt() -> None:
    batch = WholePairs(pad_token_id=0)([{"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5]}])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 0], [1, 2, 4, 5]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_the_better_answer_scores_higher_and_the_head_is_left(stage: StageTrain) -> None:
    run = stage("rm", "pairs", finetuning_type="full", val_size=4, learning_rate=1e-3)
    assert run.losses[20] < 0.2 < run.losses[1]
    assert run.events("eval")[-1]["metrics"]["accuracy"] == 1
    model = AutoModelForSequenceClassification.from_pretrained(run.run_dir / "model")
    assert model.score.weight.shape == (1, 64)
    assert model.score.weight.abs().sum() > 0
