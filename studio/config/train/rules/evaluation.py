"""What is wrong between the options of validation, of the best checkpoint and of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.config.train.method import LANGUAGE
from studio.errors import Problem

if TYPE_CHECKING:
    from studio.config.train import TrainConfig


TOKEN_FIGURES = ("perplexity", "token_accuracy")


def _rows_to_validate(config: TrainConfig) -> Problem | None:
    if config.eval_steps is None or config.val_size > 0 or config.eval_dataset:
        return None
    return Problem("eval_steps", "there is nothing to validate on: set val_size, for example 0.1, or eval_dataset")


def _one_validation(config: TrainConfig) -> Problem | None:
    if not (config.val_size and config.eval_dataset):
        return None
    return Problem("val_size", "rows are held out or a dataset of their own is given: set val_size or eval_dataset")


def _validates(config: TrainConfig) -> bool:
    return config.val_size > 0 or bool(config.eval_dataset)


def _best_of_something(config: TrainConfig) -> Problem | None:
    if not config.load_best_model_at_end or _validates(config):
        return None
    return Problem(
        "load_best_model_at_end",
        "without a validation none is the best: set val_size, for example 0.1, or eval_dataset",
    )


def _stopping_needs_validation(config: TrainConfig) -> Problem | None:
    if config.early_stopping_steps is None or _validates(config):
        return None
    return Problem(
        "early_stopping_steps",
        "it counts validations: set val_size, for example 0.1, or eval_dataset, or leave it empty",
    )


def _plateau_needs_validation(config: TrainConfig) -> Problem | None:
    if config.lr_scheduler_type != "reduce_lr_on_plateau" or _validates(config):
        return None
    return Problem("lr_scheduler_type", "reduce_lr_on_plateau follows the validation: set val_size or eval_dataset")


def _plateau_of_one(config: TrainConfig) -> Problem | None:
    apart = config.eval_on_each_dataset and config.eval_dataset
    if config.lr_scheduler_type != "reduce_lr_on_plateau" or not apart:
        return None
    return Problem("lr_scheduler_type", "reduce_lr_on_plateau follows one validation: set eval_on_each_dataset: false")


def _one_best(config: TrainConfig) -> Problem | None:
    chooses = config.load_best_model_at_end or config.early_stopping_steps is not None
    named = config.metric_for_best_model.removeprefix("eval_").startswith(
        tuple(f"{name}_" for name in config.eval_dataset)
    )
    if not (chooses and config.eval_on_each_dataset) or named:
        return None
    first = config.eval_dataset[0] if config.eval_dataset else "NAME"
    return Problem(
        "metric_for_best_model",
        f"with a validation on each dataset say which decides, for example {first}_loss, or set "
        "eval_on_each_dataset: false",
    )


def _figure_of_stage(config: TrainConfig) -> Problem | None:
    figure = config.metric_for_best_model.removeprefix("eval_")
    if figure in TOKEN_FIGURES and config.stage not in LANGUAGE:
        return Problem("metric_for_best_model", f"{figure} is measured in the stages pt and sft only: use loss")
    if figure.startswith("rewards/") and config.stage in LANGUAGE:
        return Problem("metric_for_best_model", f"{config.stage} has no {figure}: use loss")
    return None


def _samples_of_a_writer(config: TrainConfig) -> Problem | None:
    if config.stage != "rm" or not config.sample_prompts:
        return None
    return Problem("sample_prompts", "a reward model rates answers and writes none: leave it empty")


RULES = (
    _rows_to_validate,
    _one_validation,
    _best_of_something,
    _stopping_needs_validation,
    _plateau_needs_validation,
    _plateau_of_one,
    _one_best,
    _figure_of_stage,
    _samples_of_a_writer,
)
