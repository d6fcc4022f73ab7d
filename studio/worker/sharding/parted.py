"""The trainer's side of a model in parts: its checkpoints."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import torch
from peft import PeftModel
from torch import nn
from transformers import Trainer
from transformers.trainer import SCHEDULER_NAME

STATES = "optimizer"  # a folder in a checkpoint


class Parted(Trainer):  # type: ignore[misc]  # transformers is untyped
    """A trainer whose model may be in parts, which then writes and reads its checkpoints as parts.py says."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if not self.is_fsdp_enabled:
            super().save_model(output_dir, _internal_call)
            return
        weights = self._parts.collected(self.model, trained_only=isinstance(self.model, PeftModel))
        if self.args.should_save:
            self._save(output_dir, state_dict=weights)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        self._parts.save_states(self.model, self.optimizer, Path(output_dir))
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER_NAME))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            self._parts.load_weights(self.model, Path(resume_from_checkpoint))
        elif self._is_plain:
            self._load_plain(resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled:
            self._parts.load_weights(self.model, Path(self.state.best_model_checkpoint))
        elif self._is_plain:
            self._load_plain(self.state.best_model_checkpoint)
        else:
            super()._load_best_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not (self.is_fsdp_enabled or Path(checkpoint, STATES).is_dir()):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        self._parts.load_states(self.model, self.optimizer, Path(checkpoint))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER_NAME), weights_only=True))

    @property
    def _is_plain(self) -> bool:
        return not (self.is_deepspeed_enabled or isinstance(self.model, PeftModel))

    def _load_plain(self, folder: str) -> None:
        # Trainer passes over what files call by another name, such as experts
        self.model.load_state_dict(self._parts.stored(self.model, Path(folder)), strict=False)

    @property
    def _parts(self) -> ModuleType:
        from studio.worker.sharding import parts  # most of a second, for few trainings

        return parts
