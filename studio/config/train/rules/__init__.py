"""What is wrong between options that are each right alone, family by family."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from studio.config.train.rules import data, evaluation, method, optimisation, parallel, preference, reward
from studio.config.train.rules.method import misplaced, needs_reference
from studio.config.train.rules.parallel import deepspeed_problems
from studio.errors import Problem

if TYPE_CHECKING:
    from studio.config.train import TrainConfig

__all__ = ["RULES", "deepspeed_problems", "misplaced", "needs_reference"]

RULES: tuple[Callable[[TrainConfig], Problem | None], ...] = (
    *data.RULES,
    *method.RULES,
    *preference.RULES,
    *reward.RULES,
    *optimisation.RULES,
    *evaluation.RULES,
    *parallel.RULES,
)
