"""What every trainer is told does what it says: the learning rate's course and the noise on embeddings."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from studio.config.train.optimisation import SCHEDULER_SETTINGS
from tests.worker.stages.conftest import StageTrain
from tests.worker.test_training import hand_over

# learning rates of 4 steps, in thousandths
COURSES = {
    "linear": (None, [1, 0.75, 0.5, 0.25]),
    "cosine": ("num_cycles=1", [1, 0.5, 0, 0.5]),
    "constant": (None, [1, 1, 1, 1]),
    "constant_with_warmup": (None, [1, 1, 1, 1]),
    "cosine_with_restarts": ("num_cycles=2", [1, 0.5, 1, 0.5]),
    "cosine_with_min_lr": ("min_lr_rate=0.1", [1, 0.868, 0.55, 0.232]),
    "cosine_warmup_with_min_lr": ("min_lr=0.0001", [0.868, 0.55, 0.232, 0.1]),  # a step ahead of the other
    "polynomial": ("power=2,lr_end=0", [1, 0.5625, 0.25, 0.0625]),
    "inverse_sqrt": ("timescale=1", [1, 0.707, 0.577, 0.5]),
    "warmup_stable_decay": ('{"num_decay_steps": 2, "decay_type": "linear"}', [1, 1, 1, 0.5]),
}


@pytest.mark.parametrize("name", COURSES)
def test_the_learning_rate_takes_its_course(stage: StageTrain, name: str) -> None:
    settings, course = COURSES[name]
    keys = {"learning_rate": 1e-3, "lr_scheduler_type": name, "lr_scheduler_kwargs": settings}
    run = stage("sft", "talks", max_steps=4, **keys)
    assert [1000 * event["learning_rate"] for event in run.events("step")] == pytest.approx(course, abs=1e-3)


def test_the_learning_rate_falls_where_the_validation_stands_still(stage: StageTrain) -> None:
    keys = {"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": "factor=0.5,patience=0,threshold=9"}
    run = stage("sft", "talks", max_steps=6, learning_rate=1e-3, val_size=2, eval_steps=1, **keys)
    rates = [event["learning_rate"] for event in run.events("step")]
    assert rates[0] == 1e-3 > rates[-1]


def test_all_schedules_were_looked_at() -> None:
    assert set(SCHEDULER_SETTINGS) <= {*COURSES, "reduce_lr_on_plateau"}


def test_noise_on_embeddings_changes_the_training_and_resumes_exactly(stage: StageTrain) -> None:
    steps = {"max_steps": 4, "save_steps": 2, "save_total_limit": 9}
    plain = stage("sft", "talks", "plain", **steps)
    whole = stage("sft", "talks", "whole", neftune_noise_alpha=5, **steps)
    assert whole.losses[1] != plain.losses[1]
    hand_over(whole, 2)
    keys = {**steps, "neftune_noise_alpha": 5, "resume_from_checkpoint": "checkpoints/checkpoint-2"}
    resumed = stage("sft", "talks", "resumed", **keys)
    assert resumed.losses == {step: loss for step, loss in whole.losses.items() if step > 2}
    ours, theirs = (load_file(run.run_dir / "adapter/adapter_model.safetensors") for run in (resumed, whole))
    assert all(ours[name].equal(theirs[name]) for name in theirs)
