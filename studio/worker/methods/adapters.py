"""Adapters: a new one as configured."""

from __future__ import annotations

import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from studio.config.train import TrainConfig
from studio.errors import ModelError


def lora(config: TrainConfig, model: PreTrainedModel) -> LoraConfig:
    """The adapter as configured.

    Raises:
        ModelError: a target module that the model does not have, or its output head.
    """
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha or 2 * config.lora_rank,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear" if config.lora_target == ("all",) else _targets(config, model),
        use_rslora=config.use_rslora,
        task_type="CAUSAL_LM" if model.get_output_embeddings() else "SEQ_CLS",
    )


def _targets(config: TrainConfig, model: PreTrainedModel) -> list[str]:
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    head = next((name for name, module in model.named_modules() if module is model.get_output_embeddings()), "")
    known = sorted({name.rpartition(".")[2] for name in linear - {head}})
    unknown = [target for target in config.lora_target if target not in known]
    if unknown:
        raise ModelError(
            f"lora_target: the model has no trainable linear layer {', '.join(unknown)}; it has {', '.join(known)} "
            "(or all)"
        )
    return list(config.lora_target)
