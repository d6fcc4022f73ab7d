"""What of a model is trained and how its weights are held: the model before the training, and what is left after it.

A training calls, in this order: `find`, `prepare` (from here on the model folder is an ordinary one, whatever was asked
to be changed of it), `load`, `attach`, the trainer, `save`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from studio.config.train import TrainConfig
from studio.models import ModelInfo
from studio.worker import outputs
from studio.worker.methods import adapters
from studio.worker.methods.base import STORED, find
from studio.worker.methods.loading import load, precision

__all__ = ["attach", "find", "load", "precision", "prepare", "save"]


def prepare(config: TrainConfig, info: ModelInfo, run_dir: Path) -> ModelInfo:
    """The model to train from, before its rows are encoded: `info` as it is, or as changed (adapters merged in, the
    vocabulary grown, positions stretched), written below `run_dir`.

    Raises:
        ModelError: what is asked cannot be done with this model.
    """
    return info


def attach(config: TrainConfig, model: PreTrainedModel) -> tuple[Any, PeftConfig | None]:
    """`model` with what is trained of it set free, and the adapter that the trainer is to put on it.

    No adapter is told of for full and freeze, and where the model that comes back has one already.

    Raises:
        ModelError: modules are named that the model does not have.
    """
    return model, adapters.lora(config, model) if config.finetuning_type == "lora" else None


def save(config: TrainConfig, model: Any, run_dir: Path, info: ModelInfo, tokenizer: PreTrainedTokenizerBase) -> str:
    """Leave the trained adapter or model, with its tokenizer, in `run_dir`; returns the folder's name.

    `info` is what `prepare` gave. What a plain adapter cannot hold (merged adapters, new tokens, modules trained whole)
    goes into a model folder base/ beside it, which the adapter then belongs to.
    """
    name = "adapter" if config.finetuning_type == "lora" else "model"
    with outputs.draft(run_dir, name) as draft:
        if name == "adapter":
            model.save_pretrained(draft, save_embedding_layers=False)
            (draft / "README.md").unlink(missing_ok=True)
            outputs.write_base(draft, config.model_name_or_path, info.path)
        else:
            model.to(STORED.get(info.dtype, torch.float32)).save_pretrained(draft)
        outputs.copy_tokenizer(info.path, draft, tokenizer.chat_template)
    return name
