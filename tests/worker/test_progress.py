"""What of the trainer's words becomes a figure of the run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from studio.config.train import TrainConfig
from studio.worker.door import Clock, Desk
from studio.worker.progress import Progress, metrics_of
from studio.worker.report import Reporter
from studio.worker.stop import Requests
from tests.worker.conftest import Finished


def test_metrics_are_the_figures_without_a_place_of_their_own() -> None:
    logs = {
        "loss": 1.0,
        "grad_norm": 2.0,
        "learning_rate": 1e-4,
        "epoch": 0.5,
        "num_tokens": 99,
        "mean_token_accuracy": 0.25,
        "rewards/margins": -1,
        "kl": math.nan,
        "reward": None,
        "step_time": 1.0,
    }
    assert metrics_of(logs) == {"token_accuracy": 0.25, "rewards/margins": -1.0}


def logged(folder: Path, logs: dict[str, float], datasets: tuple[str, ...] = (), **keys: object) -> Finished:
    config = TrainConfig.model_construct(**{**TrainConfig(dataset="demo").model_dump(), **keys})
    desk = Desk(folder, Reporter(folder), Requests(folder, lambda: None), Clock())
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True)
    progress = Progress(desk, config, 0, datasets)
    progress.on_log(arguments, TrainerState(global_step=4), TrainerControl(), logs)
    desk.reporter.close()
    return Finished(folder)


def test_a_validation_has_its_metrics_and_the_perplexity_of_its_loss(tmp_path: Path) -> None:
    logs = {"eval_loss": 2.0, "eval_aux_loss": 0.1, "eval_mean_token_accuracy": 0.5, "eval_runtime": 3.0, "epoch": 1.0}
    [event] = logged(tmp_path, logs).events("eval")
    assert (event["step"], event["eval_loss"], event["dataset"]) == (4, 2.0, "")
    assert event["metrics"] == {"aux_loss": 0.1, "token_accuracy": 0.5, "perplexity": pytest.approx(math.exp(2))}


def test_a_dataset_that_is_validated_by_itself_is_named(tmp_path: Path) -> None:
    logs = {
        "eval_my_news_loss": 1.0,
        "eval_entropy": 0.5,
        "eval_my_news_runtime": 3.0,
        "eval_my_news_steps_per_second": 1,
    }
    [event] = logged(tmp_path, logs, datasets=("news", "my_news")).events("eval")
    assert event["dataset"] == "my_news"
    assert event["metrics"] == {"entropy": 0.5, "perplexity": pytest.approx(math.e)}


@pytest.mark.parametrize(
    "keys", [{"stage": "dpo"}, {"use_dft_loss": True}, {"label_smoothing_factor": 0.1}, {"z_loss_coef": 1e-4}]
)
def test_only_a_likelihood_has_a_perplexity(tmp_path: Path, keys: dict[str, object]) -> None:
    [event] = logged(tmp_path, {"eval_loss": 1.0}, **keys).events("eval")
    assert event["metrics"] == {}


def test_a_loss_beyond_all_perplexity_is_no_error(tmp_path: Path) -> None:
    [event] = logged(tmp_path, {"eval_loss": 1e4}).events("eval")
    assert event["metrics"] == {}
