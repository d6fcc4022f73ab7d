"""What a training run can be asked for. Keys are LLaMA-Factory's; bounds, texts and defaults stand here only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from studio.config.train.data import DataOptions
from studio.config.train.evaluation import EvaluationOptions
from studio.config.train.lora import LoraOptions
from studio.config.train.method import MethodOptions
from studio.config.train.model import ModelOptions
from studio.config.train.optimisation import OptimisationOptions
from studio.config.train.optimizer import OptimizerOptions
from studio.config.train.parallel import ParallelOptions
from studio.config.train.precision import PrecisionOptions
from studio.config.train.preference import PreferenceOptions
from studio.config.train.quantisation import QuantisationOptions
from studio.config.train.reward import RewardOptions
from studio.config.train.rules import RULES, deepspeed_problems, misplaced
from studio.config.train.saving import SavingOptions
from studio.errors import Problem


class TrainConfig(
    SavingOptions,
    ParallelOptions,
    EvaluationOptions,
    PrecisionOptions,
    OptimizerOptions,
    OptimisationOptions,
    DataOptions,
    RewardOptions,
    PreferenceOptions,
    LoraOptions,
    QuantisationOptions,
    MethodOptions,
    ModelOptions,
):
    """Fine-tuning of one model on one or more datasets. The options of the last base come first."""

    kind: Literal["train"] = "train"

    @property
    def title(self) -> str:
        """What the run is called where no name was given."""
        return self.run_name or "+".join(self.dataset)

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        yield from misplaced(self)
        yield from deepspeed_problems(self)
        for rule in RULES:
            if problem := rule(self):
                yield problem
