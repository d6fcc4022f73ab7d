"""Trainings on rewards on a CUDA device: in bfloat16 the reward rises, and samples and validations go along."""

from __future__ import annotations

import pytest

from tests.worker.conftest import Train
from tests.worker.test_online import FORMAT, SHORT, SUMS, mean, rewards_of

pytestmark = pytest.mark.gpu
WATCHED = {"val_size": 4, "eval_steps": 6, "sample_prompts": "What is 3 plus one?"}


@pytest.mark.parametrize(
    "keys",
    [
        {"stage": "rloo", **SUMS},
        {"stage": "grpo", "kl_coef": 0.01, "num_iterations": 2, **FORMAT},
        {"stage": "grpo", **FORMAT, "finetuning_type": "freeze"},
        {"stage": "rloo", **SUMS, "quantization_bit": 4, "gradient_checkpointing": True},
    ],
    ids=["adapter", "full", "freeze", "4-bit, checkpointed"],
)
def test_the_reward_rises(train: Train, keys: dict[str, object]) -> None:
    run = train(**{**SHORT, **keys, **WATCHED})
    rewards = rewards_of(run)
    assert mean(rewards[-4:]) > mean(rewards[:4])
    assert run.events("eval")[-1]["metrics"]["reward"] >= 0
    assert {event["step"] for event in run.events("sample")} >= {0, 6, 12}
