"""What is wrong between options that are each right alone."""

from __future__ import annotations

from collections.abc import Callable
from math import isclose
from typing import TYPE_CHECKING

from studio.errors import Problem

if TYPE_CHECKING:
    from studio.config.train import TrainConfig


def _needs_data(config: TrainConfig) -> Problem | None:
    if config.dataset:
        return None
    return Problem("dataset", "choose at least one dataset; `python -m studio data list` names them")


def _one_precision(config: TrainConfig) -> Problem | None:
    if not (config.bf16 and config.fp16):
        return None
    return Problem("fp16", "bf16 and fp16 exclude each other: keep bf16 unless the GPU lacks it")


def _rows_to_validate(config: TrainConfig) -> Problem | None:
    if config.eval_steps is None or config.val_size > 0 or config.eval_dataset:
        return None
    return Problem("eval_steps", "there is nothing to validate on: set val_size, for example 0.1, or eval_dataset")


def _one_validation(config: TrainConfig) -> Problem | None:
    if not (config.val_size and config.eval_dataset):
        return None
    return Problem("val_size", "rows are held out or a dataset of their own is given: set val_size or eval_dataset")


def _shares_of_interleaving(config: TrainConfig) -> Problem | None:
    if not config.interleave_probs or config.mix_strategy != "concat":
        return None
    return Problem("interleave_probs", "concat takes every row once: set mix_strategy to interleave_under or _over")


def _share_for_each(config: TrainConfig) -> Problem | None:
    shares = config.interleave_probs
    if not shares or (len(shares) == len(config.dataset) and min(shares) > 0 and isclose(sum(shares), 1, abs_tol=1e-6)):
        return None
    what = f"give one share above 0 for each of the {len(config.dataset)} datasets, 1 in all"
    return Problem("interleave_probs", f"{what} (got {', '.join(map(str, shares))})")


def _streamed_to_an_end(config: TrainConfig) -> Problem | None:
    if not config.streaming or config.max_steps > 0:
        return None
    return Problem(
        "max_steps", "a streamed training does not know how long an epoch is: say after how many steps it ends"
    )


def _streamed_validation(config: TrainConfig) -> Problem | None:
    if (
        not config.streaming
        or config.val_size == 0
        or (config.val_size >= 1 and config.val_size == int(config.val_size))
    ):
        return None
    return Problem("val_size", "of a stream nobody knows a share: give the number of rows to hold out")


def _one_warmup(config: TrainConfig) -> Problem | None:
    if not (config.warmup_steps and config.warmup_ratio):
        return None
    return Problem("warmup_ratio", "set either warmup_steps or warmup_ratio, not both")


def _some_steps(config: TrainConfig) -> Problem | None:
    return (
        Problem("max_steps", "0 steps would train nothing: use -1 or a positive number")
        if config.max_steps == 0
        else None
    )


RULES: tuple[Callable[[TrainConfig], Problem | None], ...] = (
    _needs_data,
    _one_precision,
    _rows_to_validate,
    _one_validation,
    _shares_of_interleaving,
    _share_for_each,
    _streamed_to_an_end,
    _streamed_validation,
    _one_warmup,
    _some_steps,
)
