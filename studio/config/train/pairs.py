"""The stages and methods of the field by the names that people know, each as the options that make it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.errors import ConfigError, Problem

Keys = Mapping[str, Any]

STAGES: dict[str, Keys] = {
    "pt": {"stage": "pt"},
    "sft": {"stage": "sft"},
    "rm": {"stage": "rm"},
    "dpo sigmoid": {"stage": "dpo", "pref_loss": "sigmoid"},
    "dpo hinge": {"stage": "dpo", "pref_loss": "hinge"},
    "dpo ipo": {"stage": "dpo", "pref_loss": "ipo"},
    "orpo": {"stage": "dpo", "pref_loss": "orpo"},
    "simpo": {"stage": "dpo", "pref_loss": "simpo"},
    "kto": {"stage": "kto"},
    "grpo": {"stage": "grpo", "reward_funcs": "length"},
    "rloo": {"stage": "rloo", "reward_funcs": "length"},
}
METHODS: dict[str, Keys] = {
    "full": {"finetuning_type": "full"},
    "freeze": {"finetuning_type": "freeze"},
    "lora": {"finetuning_type": "lora"},
    "dora": {"finetuning_type": "lora", "use_dora": True},
    "pissa": {"finetuning_type": "lora", "pissa_init": True},
    "adalora": {"finetuning_type": "lora", "use_adalora": True},
    "qlora4": {"finetuning_type": "lora", "quantization_bit": 4},
    "qlora8": {"finetuning_type": "lora", "quantization_bit": 8},
}


def refusals(stage: str, method: str) -> tuple[Problem, ...]:
    """Why a method cannot be had in a stage; empty where it can."""
    try:
        parse(TrainConfig, {"dataset": "any", **STAGES[stage], **METHODS[method]})
    except ConfigError as error:
        return tuple(error.problems)
    return ()
