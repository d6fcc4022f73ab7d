"""What every trainer does the same: it writes whole checkpoints, counts tokens and keeps the run's record."""

from __future__ import annotations

from typing import Any, Self

import torch
from datasets import Dataset, IterableDataset
from peft import PeftModel
from transformers import PrinterCallback

from studio.runs import events
from studio.worker import optimizers
from studio.worker.checkpoints.kept import Kept
from studio.worker.door import Desk
from studio.worker.progress import Progress, memory_gb
from studio.worker.samples import Samples
from studio.worker.stages.setting import Setting


class Recorded(Kept):
    """Mixed into a trainer of TRL, before it: checkpoints appear whole or not at all, and every token is counted.

    Rows come encoded, as the page shows them; no trainer has a part in that.
    """

    samples: Samples

    def recorded(self, setting: Setting) -> Self:
        """This trainer, reporting to the run of `setting`."""
        self.setting, self.desk = setting, setting.desk
        held = setting.data.validation
        datasets = tuple(held) if isinstance(held, dict) else ()
        self.progress = Progress(setting.desk, setting.config, _tokens_so_far(setting.desk), datasets)
        self.samples = Samples(
            setting.desk, setting.config, setting.tokenizer, setting.precision, setting.sharding.device
        )
        self.keep_checkpoints()
        self.add_callback(self.progress)
        self.add_callback(self.samples)
        self.remove_callback(PrinterCallback)
        return self

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        self.optimizer = optimizers.build(self.setting.config, self.model, self.state.max_steps)
        return self.optimizer

    def training_step(self, model: Any, inputs: Any, *rest: Any, **options: Any) -> torch.Tensor:
        self.desk.consensus.begin(self.tokens_of(inputs), max(memory_gb()))
        return super().training_step(model, inputs, *rest, **options)

    def tokens_of(self, inputs: Any) -> int:
        """Tokens of a batch that go through the model, padding included."""
        return sum(int(each.numel()) for name, each in inputs.items() if name.endswith("input_ids"))

    def _prepare_dataset(self, dataset: Dataset | IterableDataset, *_: Any, **__: Any) -> Dataset | IterableDataset:
        return dataset

    def _send_telemetry(self) -> None:
        """TRL would tell its makers of the training."""

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if not (self.is_deepspeed_enabled and isinstance(self.model, PeftModel)):
            super().save_model(output_dir, _internal_call)
            return
        weights = self.setting.sharding.collected(self.model)  # DeepSpeed's own are rounded, and lack what is tied
        if self.args.should_save:
            self._save(output_dir, state_dict=weights)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if isinstance(self.model, PeftModel) and len(self.model.peft_config) > 1 and not self.is_fsdp_enabled:
            # beside a second adapter, which TRL keeps as the reference, transformers forgets the one that is trained
            self.model.load_adapter(resume_from_checkpoint, "default", is_trainable=True)

    def _determine_best_metric(self, *_: Any, **__: Any) -> bool:
        return False  # Progress knows the best; a learning rate that follows the loss would have it judged here too

    def settle(self) -> None:
        """After the last step: go back to the weights of the best validation if they are kept, and look at answers."""
        self.optimizer.eval()
        self.settle_checkpoints()
        self._restore_best()
        kept = self.progress.best.is_kept and self.state.best_global_step
        self.samples.take(self.model, kept or self.state.global_step)

    def _restore_best(self) -> None:
        folder = self._best_checkpoint()
        if folder is None or self.state.best_global_step == self.state.global_step:
            return
        if not folder.exists():
            self.desk.reporter.note("warning", f"{folder.name}, the best, could not be written: the last step is kept")
            self.state.best_global_step = None
            return
        self.state.best_model_checkpoint = str(folder)
        self._load_best_model()


def _tokens_so_far(desk: Desk) -> int:
    """Tokens of the run that this one resumes; its history begins our metrics.jsonl."""
    history, _ = events.read(desk.run_dir / "metrics.jsonl")
    return next((event["tokens"] for event in reversed(history) if event["type"] == "step"), 0)
