"""What of a model is trained and how its weights are held: the model before the training, and what is left after it.

A training calls, in this order: `find`, `prepare` (from here on the model folder is an ordinary one, whatever was asked
to be changed of it), `load`, `attach`, the trainer, `save`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.models import ModelInfo
from studio.worker import outputs
from studio.worker.bases import find
from studio.worker.methods import adapters, freeze, leaving, pissa, quantised, vocabulary
from studio.worker.methods.base import prepare, prepared
from studio.worker.methods.loading import load, precision
from studio.worker.sharding import Weights

__all__ = ["attach", "find", "load", "precision", "prepare", "prepared", "save"]


def attach(config: TrainConfig, model: PreTrainedModel, run_dir: Path) -> tuple[Any, PeftConfig | None]:
    """`model` with what is trained of it set free, and the adapter that the trainer is to put on it.

    No adapter is told of for full and freeze, and where the model that comes back has one already.

    Raises:
        ModelError: modules are named that the model does not have, or the adapter to go on with does not fit it.
    """
    if config.finetuning_type == "full":
        return model, None
    if config.finetuning_type == "freeze":
        freeze.free(config, model)
        return model, None
    if config.adapter_name_or_path and not config.create_new_adapter:
        folder = adapters.find(config.adapter_name_or_path[-1], run_dir.parent)
        return _in_full_width(adapters.resume(folder, model)), None
    adapter = adapters.lora(config, model)
    if not (config.pissa_init or quantised.is_quantised(model) or vocabulary.new_rows(model)):
        return model, adapter
    torch.manual_seed(config.seed)
    try:
        tuned = get_peft_model(model, adapter)
    except (TypeError, ValueError) as error:
        raise ModelError(f"this model takes no such adapter: {error}") from error
    if config.pissa_init:
        pissa.remember(tuned)
    vocabulary.complete(tuned)
    return _in_full_width(tuned), None


def save(
    config: TrainConfig,
    model: Any,
    run_dir: Path,
    info: ModelInfo,
    tokenizer: PreTrainedTokenizerBase,
    weights: Weights | None = None,
) -> str:
    """Leave the trained adapter or model, with its tokenizer, in `run_dir`; returns the folder's name.

    `info` is what `prepare` gave, `weights` are the model's where it holds none itself (`Sharding.collected`). What a
    plain adapter cannot hold (merged adapters, new tokens, modules trained whole) goes into a model folder base/ beside
    it, which the adapter then belongs to.
    """
    name = "adapter" if config.finetuning_type == "lora" else "model"
    with outputs.draft(run_dir, name) as draft:
        if name == "adapter":
            leaving.adapter(config, model, run_dir, draft, info, weights)
        else:
            leaving.model(model, draft, info, weights)
        outputs.copy_tokenizer(info.path, draft, tokenizer)
    return name


def _in_full_width(model: Any) -> Any:
    """TRL rounds adapters above quantised weights to bfloat16, where small steps of the optimizer are lost. It asks
    the outer model for these marks, PEFT and transformers the inner one."""
    model.is_loaded_in_4bit = model.is_loaded_in_8bit = False
    return model
