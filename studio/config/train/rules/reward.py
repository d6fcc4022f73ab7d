"""What is wrong between the options of rewards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from studio.config.train.method import ONLINE
from studio.config.train.reward import REWARDS
from studio.errors import Problem

if TYPE_CHECKING:
    from studio.config.train import TrainConfig


CODE = re.compile(r"(?P<file>[\w./-]+\.py):(?P<function>[A-Za-z_]\w*)")


def _online(config: TrainConfig) -> bool:
    return config.stage in ONLINE


def _some_reward(config: TrainConfig) -> Problem | None:
    if not _online(config) or config.reward_funcs:
        return None
    return Problem("reward_funcs", f"{config.stage} learns from rewards: name at least one of {', '.join(REWARDS)}")


def _known_rewards(config: TrainConfig) -> Problem | None:
    unknown = [name for name in config.reward_funcs if name not in REWARDS and not CODE.fullmatch(name)]
    if not _online(config) or not unknown:
        return None
    return Problem(
        "reward_funcs", f"{', '.join(unknown)} is none of {', '.join(REWARDS)}, nor FILE.py:FUNCTION below data/rewards"
    )


def _trusted_rewards(config: TrainConfig) -> Problem | None:
    code = [name for name in config.reward_funcs if CODE.fullmatch(name)]
    if not _online(config) or not code or config.trust_reward_code:
        return None
    return Problem(
        "trust_reward_code", f"{', '.join(code)} is Python code that would be run: read it, then set this to true"
    )


def _weight_for_each(config: TrainConfig) -> Problem | None:
    weights, names = config.reward_weights, config.reward_funcs
    if not _online(config) or not weights or len(weights) == len(names):
        return None
    return Problem("reward_weights", f"give one for each of the {len(names)} rewards, or none (got {len(weights)})")


def _pattern_to_match(config: TrainConfig) -> Problem | None:
    if not _online(config) or "format_match" not in config.reward_funcs:
        return None
    if not config.reward_pattern:
        return Problem("reward_pattern", "format_match needs it: a regular expression such as <answer>.*</answer>")
    try:
        re.compile(config.reward_pattern)
    except re.error as error:
        return Problem("reward_pattern", f"is no regular expression: {error}")
    return None


def _model_that_rates(config: TrainConfig) -> Problem | None:
    if not _online(config) or ("reward_model" in config.reward_funcs) == bool(config.reward_model):
        return None
    if config.reward_model:
        return Problem("reward_model", "is not asked: add reward_model to reward_funcs, or leave it empty")
    return Problem("reward_model", "say which model rates the answers: an rm run or its folder")


def _whole_groups(config: TrainConfig) -> Problem | None:
    batch = config.per_device_train_batch_size * config.gradient_accumulation_steps
    if not _online(config) or batch % config.num_generations == 0:
        return None
    return Problem(
        "num_generations",
        f"the {batch} answers of a step (per_device_train_batch_size x gradient_accumulation_steps) are no whole "
        f"groups of {config.num_generations}: set a number that divides {batch}",
    )


RULES = (
    _some_reward,
    _known_rewards,
    _trusted_rewards,
    _weight_for_each,
    _pattern_to_match,
    _model_that_rates,
    _whole_groups,
)
