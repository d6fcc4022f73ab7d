"""Learning to prefer the better of two answers, held to a reference model (DPO and its kin)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from trl import DPOConfig, DPOTrainer

from studio.config.train import TrainConfig
from studio.worker.fast.passes import Row
from studio.worker.stages.dealt import Dealt
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.reference import Referenced, reference
from studio.worker.stages.setting import Setting, arguments

PART = "part"
RANKED = ("aot", "aot_unpaired")  # losses that compare the pairs of a batch with each other


@dataclass(frozen=True)
class Part:
    """What share of a step's `pairs` a pass has, and of its better answers' `tokens`."""

    pairs: float
    tokens: float
    is_first: bool


class PreferenceTrainer(Dealt, Referenced, DPOTrainer):  # type: ignore[misc]  # trl is untyped
    """Direct preference optimisation. The loss of a step is the mean over its pairs, however they lie in passes."""

    loss_weights: list[float]

    def recorded(self, setting: Setting) -> Self:
        trainer = super().recorded(setting)
        # TRL gathers the rewards of each batch from all processes, which must have as many
        is_alone = setting.desk.rank.world == 1
        self.deals = self.is_flat and bool(setting.passes.tokens) and is_alone and not {*RANKED} & {*self.loss_types}
        return trainer

    def tokens_in(self, row: Row) -> int:
        return 2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"])

    def passed(self, batch: dict[str, Any], rows: list[Row], step: list[Row]) -> dict[str, Any]:
        learnt, all_learnt = (sum(map(_learnt, each)) for each in (rows, step))
        return {**batch, PART: Part(len(rows) / len(step), learnt / all_learnt, rows[0] is step[0])}

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        part = inputs.pop(PART, None)
        if part is None:
            return super()._compute_loss(model, inputs, return_outputs)
        weights = self.loss_weights
        spread = {"sft": part.tokens / part.pairs}  # a mean over tokens
        self.loss_weights = [
            weight * spread.get(kind, 1) for kind, weight in zip(self.loss_types, weights, strict=True)
        ]
        loss: torch.Tensor = super()._compute_loss(model, inputs, return_outputs)
        self.loss_weights = weights
        self._add_figures(part)
        return loss * part.pairs * self.current_gradient_accumulation_steps  # by which Trainer divides

    def _add_figures(self, part: Part) -> None:
        """What TRL has appended for a pass is added to what it had for the others of the step."""
        for name, values in self._metrics["train"].items():
            if name == "num_tokens":  # so far
                continue
            share = part.pairs * values.pop()
            if part.is_first:
                values.append(share)
            else:
                values[-1] += share


def _learnt(row: Row) -> int:
    """Tokens of the better answer, less the first of a row, which nothing is before."""
    return len(row["chosen_ids"]) - (not row["prompt_ids"])


def build(setting: Setting) -> Recorded:
    """The trainer of a preference training. Raises ModelError for a reference model that cannot be had."""
    config = setting.config
    losses = weighted_losses(config)
    args = DPOConfig(
        **arguments(setting),
        loss_type=list(losses),
        loss_weights=list(losses.values()),
        label_smoothing=config.dpo_label_smoothing,
        beta=config.pref_beta,
        ld_alpha=config.ld_alpha,
        disable_dropout=not config.lora_dropout,
        max_length=None,  # rows are cut already
    )
    return PreferenceTrainer(args=args, ref_model=reference(setting), **setting.parts).recorded(setting)


def weighted_losses(config: TrainConfig) -> dict[str, float]:
    """The losses of TRL that make up the one that is wanted, each with its weight."""
    losses: dict[str, float] = {config.pref_loss: 1.0}
    if config.pref_loss == "sigmoid" and config.dpo_label_smoothing:
        # TRL's own sigmoid knows no smoothing e. With a and b the losses of a pair and of the same pair turned round,
        # robust is ((1 - e) a - e b) / (1 - 2e), and (1 - e) a + e b is wanted
        share = config.dpo_label_smoothing
        losses = {"sigmoid": 2 * (1 - share), "robust": 2 * share - 1}
    if config.pref_ftx:
        losses["sft"] = config.pref_ftx
    return losses
