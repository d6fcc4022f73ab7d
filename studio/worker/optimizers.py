"""Optimizers by their names, over the weights that are trained."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from studio.config.train import TrainConfig


def build(config: TrainConfig, model: Any, total_steps: int) -> torch.optim.Optimizer:
    """The optimizer of a training over the weights of `model` that are free to move.

    `total_steps` are those of the whole training, for what is scheduled by them.
    """
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    free = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for name, weight in free if name in decayed], "weight_decay": config.weight_decay},
        {"params": [weight for name, weight in free if name not in decayed], "weight_decay": 0.0},
    ]
    arguments = TrainingArguments("unused", optim=config.optim, learning_rate=config.learning_rate, report_to="none")
    kind, keys = Trainer.get_optimizer_cls_and_kwargs(arguments)
    return kind(groups, **keys)
