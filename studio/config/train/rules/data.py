"""What is wrong between the options of the data."""

from __future__ import annotations

from math import isclose
from typing import TYPE_CHECKING

from studio.config.train.method import LANGUAGE, ONLINE
from studio.errors import Problem

if TYPE_CHECKING:
    from studio.config.train import TrainConfig


def _needs_data(config: TrainConfig) -> Problem | None:
    if config.dataset:
        return None
    return Problem("dataset", "choose at least one dataset; `python -m studio data list` names them")


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


def _packed_stage(config: TrainConfig) -> Problem | None:
    if not config.packing or config.stage in LANGUAGE:
        return None
    return Problem("packing", f"rows are packed in the stages {' and '.join(LANGUAGE)} only: set packing: false")


def _streamed_stage(config: TrainConfig) -> Problem | None:
    if not config.streaming or config.stage not in ONLINE:
        return None
    return Problem("streaming", f"{config.stage} draws from the whole dataset again and again: set streaming: false")


def _masks_of_answers(config: TrainConfig) -> Problem | None:
    masks = [key for key in ("train_on_prompt", "mask_history") if getattr(config, key)]
    if config.stage == "sft" or not masks:
        return None
    return Problem(masks[0], f"what counts is given in the stage {config.stage}: leave it out, or set stage: sft")


def _masked_history(config: TrainConfig) -> Problem | None:
    if not (config.mask_history and config.train_on_prompt):
        return None
    return Problem("mask_history", "the last answer only, and the prompts too, exclude each other: keep one of them")


RULES = (
    _needs_data,
    _shares_of_interleaving,
    _share_for_each,
    _streamed_to_an_end,
    _streamed_validation,
    _packed_stage,
    _streamed_stage,
    _masks_of_answers,
    _masked_history,
)
