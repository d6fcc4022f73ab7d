"""All that a trainer is made from, and the arguments that every trainer shares."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from studio import trackers
from studio.config.train import TrainConfig
from studio.config.train.optimisation import scheduler_options
from studio.errors import ConfigError
from studio.models import ModelInfo
from studio.planning.passes import Passes
from studio.worker.door import Desk
from studio.worker.fast import chance
from studio.worker.mixing import Rows
from studio.worker.sharding import Sharding


@dataclass(frozen=True)
class Setting:
    """One training before its trainer is made. `adapter` is a new one to be put on the model; None for none."""

    desk: Desk
    config: TrainConfig
    info: ModelInfo
    model: PreTrainedModel
    adapter: PeftConfig | None
    tokenizer: PreTrainedTokenizerBase
    data: Rows
    precision: torch.dtype
    sharding: Sharding
    passes: Passes

    def autocast(self) -> torch.autocast:
        """The model in here computes as it does in the trainer, its weights of several types included."""
        return torch.autocast(self.sharding.device.type, self.precision, enabled=self.precision != torch.float32)

    @property
    def parts(self) -> dict[str, Any]:
        """What every trainer of TRL takes beside its arguments."""
        return {
            "model": self.model,
            "train_dataset": self.data.train,
            "eval_dataset": self.data.validation,
            "processing_class": self.tokenizer,
            "peft_config": self.adapter,
        }


def arguments(setting: Setting) -> dict[str, Any]:
    """What the configuration of every trainer of TRL is told."""
    config, cuda = setting.config, torch.cuda.is_available()
    validation = ("steps" if config.eval_steps else "epoch") if setting.data.validation is not None else "no"
    return {
        "output_dir": str(setting.desk.run_dir / "tmp"),
        "num_train_epochs": config.num_train_epochs,
        "max_steps": config.max_steps,
        "per_device_train_batch_size": config.per_device_train_batch_size,
        "per_device_eval_batch_size": config.per_device_eval_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "gradient_checkpointing": setting.passes.recomputed > 0,
        "gradient_checkpointing_kwargs": _recomputation(setting),
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler_type,
        "lr_scheduler_kwargs": scheduler_options(config.lr_scheduler_kwargs),
        "neftune_noise_alpha": config.neftune_noise_alpha,
        "warmup_steps": config.warmup_steps or config.warmup_ratio,  # below one it is a share of all steps
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "seed": config.seed,
        "bf16": setting.precision == torch.bfloat16 and not config.pure_bf16,
        "fp16": setting.precision == torch.float16,
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "eval_strategy": validation,
        "eval_steps": config.eval_steps,
        "save_strategy": _save_strategy(config),
        "save_steps": config.save_steps or 1,
        "save_only_model": config.save_only_model,
        "logging_steps": config.logging_steps,
        "logging_nan_inf_filter": False,  # the filter would show the last good loss in place of a NaN
        "disable_tqdm": True,
        "report_to": _trackers(setting),
        "run_name": setting.desk.run_dir.name,
        "ddp_find_unused_parameters": _is_mixture(setting.model),  # of its experts some may see no token
        **setting.sharding.arguments(),
    }


def _recomputation(setting: Setting) -> dict[str, Any]:
    return {
        # layers of 8 bits keep their inputs where only the reentrant kind lets go of them
        "use_reentrant": setting.config.quantization_bit == 8,
        # asking for the state of chance waits for the device
        "preserve_rng_state": chance.is_in(setting.config, setting.model),
    }


def _is_mixture(model: PreTrainedModel) -> bool:
    return bool(getattr(model.config.get_text_config(), "num_experts_per_tok", None))


def _save_strategy(config: TrainConfig) -> str:
    return config.save_strategy if config.save_steps or config.save_strategy == "epoch" else "no"


def _trackers(setting: Setting) -> list[str]:
    """The integrations of transformers that are to be told, set to write into the run's folder."""
    names, run_dir = setting.config.report_to, setting.desk.run_dir
    if missing := list(trackers.problems(names, os.environ)):
        raise ConfigError(missing)
    for key, value in trackers.variables(names, run_dir).items():
        os.environ.setdefault(key, value)
    if chosen := trackers.wanted(names):
        (run_dir / trackers.FOLDER).mkdir(exist_ok=True)
        return list(chosen)
    return [trackers.NONE]
