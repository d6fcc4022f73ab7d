"""When a training is given up: judged on curves, and caused for real where that is quick."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from studio.config.train import TrainConfig
from studio.runs.events import Step
from studio.worker.divergence import Diverged, LossZero, Watch
from tests.worker.conftest import Train


def look(losses: Iterable[float], grad_norm: float = 1.0, **keys: object) -> None:
    watch = Watch(TrainConfig.model_construct(**{**TrainConfig(dataset="demo").model_dump(), **keys}))
    for step, loss in enumerate(losses, 1):
        watch.look(Step(step, loss, 1e-4, grad_norm, 0, 0.0, 0.0, 0.0, 0.0), "checkpoints/checkpoint-1")


@pytest.mark.parametrize(
    "losses",
    [
        [7.5, 6.0, 5.0] * 20,
        [2.0] * 5 + [50.0] * 4 + [2.0] + [50.0] * 4,  # spikes pass
        [0.01] * 5 + [2.9] * 20,  # small losses may be anything below one, three times
        [25.0] * 5 + [70.0] * 9,  # ipo begins at 25
        [0.5, 0.0, 0.0, 0.0, 0.0],  # learnt by heart
        [-0.1, -5.0] * 9,
    ],
)
def test_a_curve_that_may_go_on(losses: list[float]) -> None:
    look(losses)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number(broken: float) -> None:
    with pytest.raises(Diverged, match=r"the loss is not a number at step 3\. The last good checkpoint is") as error:
        look([1.0, 1.0, broken])
    assert error.value.facts["reason"] == "nan"


def test_a_gradient_that_is_no_number_is_only_skipped_in_fp16() -> None:
    with pytest.raises(Diverged, match=r"the gradient is not a number at step 1") as error:
        look([1.0], grad_norm=math.inf)
    assert error.value.facts["reason"] == "gradient"
    look([1.0], grad_norm=math.inf, fp16=True)


def test_a_loss_that_explodes() -> None:
    with pytest.raises(Diverged, match=r"began at 2 and is 9 at step 12\. Checkpoints before step 8") as error:
        look([2.0] * 7 + [9.0] * 5)
    assert (error.value.facts["began"], error.value.facts["since"]) == (2.0, 8)


def test_a_policy_has_no_loss_to_speak_of() -> None:
    for stage in ("grpo", "rloo"):
        look([0.0] * 9 + [99.0] * 9, stage=stage)
    with pytest.raises(Diverged):
        look([math.nan], stage="grpo")


def test_a_loss_of_zero_from_the_beginning() -> None:
    with pytest.raises(LossZero, match=r"exactly zero from the beginning to step 3"):
        look([0.0] * 3)


def test_a_model_that_is_too_sure_of_every_answer_has_a_loss_of_zero(train: Train, tmp_path: Path) -> None:
    learn = {"finetuning_type": "full", "learning_rate": 1e-2, "max_steps": 30, "save_steps": 0, "max_samples": 1}
    learnt = train("learnt", **learn).run_dir / "model"
    sure = shutil.copytree(learnt, tmp_path / "sure")
    weights = load_file(sure / "model.safetensors")
    weights["model.norm.weight"] *= 1000  # so are all logits
    save_file(weights, sure / "model.safetensors", {"format": "pt"})
    with pytest.raises(LossZero, match="nothing is learned") as error:
        train("sure", **learn | {"model_name_or_path": str(sure), "bf16": False})
    assert error.value.facts["loss"] == 0.0
