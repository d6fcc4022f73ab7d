"""What every trainer does the same: it writes whole checkpoints, counts tokens and keeps the run's record."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from typing import Any, Self

import torch
from datasets import Dataset, IterableDataset
from peft import PeftModel
from transformers import PrinterCallback
from transformers.trainer_pt_utils import nested_gather

from studio.config.train.precision import WHOLE
from studio.runs import events
from studio.worker import fast, optimizers
from studio.worker.checkpoints.kept import Kept
from studio.worker.door import Desk
from studio.worker.fast import Path, adamw, attention, clip, dense, figures, liger, lora, stream, sums
from studio.worker.fast.copies import Copies
from studio.worker.fast.figures import Figures
from studio.worker.methods.adapters import beneath
from studio.worker.progress import Progress, memory_gb
from studio.worker.samples import Samples
from studio.worker.stages.setting import Setting
from studio.worker.stages.trained import Trained


class Recorded(Kept):
    """Mixed into a trainer of TRL, before it: checkpoints appear whole or not at all, and every token is counted.

    Rows come encoded, as the page shows them; no trainer has a part in that.
    """

    samples: Samples
    paths: list[Path]
    _globalstep_last_logged: int
    tells_late = False  # whether all figures of a step stay on the device until they are told
    _clipped: torch.optim.AdamW | None = None  # the optimizer, where it clips by itself
    _pending: tuple[Figures, int, dict[str, Any]] | None = None
    _trained: Trained | None = None
    _copies: Copies | None = None  # of weights that are trained, where layers compute with such

    def recorded(self, setting: Setting) -> Self:
        """This trainer, reporting to the run of `setting`."""
        self.setting, self.desk = setting, setting.desk
        self.tells_late &= setting.config.parallel_strategy in WHOLE and figures.are_late(setting.sharding.device)
        held = setting.data.validation
        datasets = tuple(held) if isinstance(held, dict) else ()
        self.progress = Progress(setting.desk, setting.config, _tokens_so_far(setting.desk), datasets)
        self.samples = Samples(
            setting.desk, setting.config, setting.tokenizer, setting.precision, setting.sharding.device
        )
        self.paths = self._paths()
        fast.tell(self.paths)
        self.keep_checkpoints()
        self.add_callback(self.progress)
        self.add_callback(self.samples)
        self.remove_callback(PrinterCallback)
        return self

    def _paths(self) -> list[Path]:
        """Which way each part is computed. Adapters that are computed with the layers below them are so from here."""
        is_adapted, config = isinstance(self.model, PeftModel), self.setting.config
        base = beneath(self.model)
        if is_adapted:
            own = [lora.fuse(self.model, config)]
        else:
            own = [stream.narrow(base, self.setting.precision), dense.fuse(base, config, self.setting.precision)]
        return [attention.path(base), liger.path(base), *sums.paths(base), *own]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        self.optimizer = optimizers.build(self.setting.config, self.model, self.state.max_steps)
        config = self.setting.config
        # AdaLoRA looks at gradients after the step; those in float16 are divided by something else
        may = config.parallel_strategy == "single" and not (config.fp16 or config.use_adalora)
        self._clipped = self.optimizer if may and clip.prepare(self.optimizer, self.model.parameters()) else None
        self._copies = dense.copies_in(self.model)
        if self._copies:
            adamw.keep(self.optimizer, self._copies)
        if path := getattr(self.optimizer, "path", None):
            self.paths.append(path)
            fast.tell([path])
        return self.optimizer

    def renew(self) -> None:
        """Before a pass that is recorded: have the copies that the optimizer keeps be what the weights are."""
        if self._copies:
            self._copies.renew()

    def training_step(self, model: Any, inputs: Any, *rest: Any, **options: Any) -> torch.Tensor:
        self.desk.consensus.begin(self.tokens_of(inputs), max(memory_gb()))
        if not inputs:  # its rows are in another pass of the step
            return torch.zeros((), device=self.args.device)
        loss = self.go_through(model, inputs, *rest, **options)
        self._tell()  # the device has work again: the figures of the step before need not be waited for
        return loss

    def go_through(self, model: Any, inputs: Any, *rest: Any, **options: Any) -> torch.Tensor:
        """A pass there and back: its loss, with gradients left at the weights."""
        loss: torch.Tensor = super().training_step(model, inputs, *rest, **options)
        return loss

    def _run_epoch(self, model: Any, *rest: Any, **options: Any) -> None:
        self._trained = Trained(model) if self._is_whole(model) else None
        with self._trained.at_hand() if self._trained else nullcontext():
            super()._run_epoch(model, *rest, **options)

    def _is_whole(self, model: Any) -> bool:
        """Whether this process alone has all weights, and nothing is wrapped around them."""
        is_alone = self.setting.config.parallel_strategy == "single" and self.desk.rank.world == 1
        return is_alone and model is self.model and not self.is_deepspeed_enabled

    def _clip_grad_norm(self, model: Any) -> Any:
        if self._trained is None:
            return super()._clip_grad_norm(model)
        self.accelerator.unscale_gradients()
        longest = self.args.max_grad_norm
        if self._clipped is None:
            return self._trained.clip(longest)
        return clip.leave(self._clipped, self._trained.length(), longest)

    def measured(self) -> dict[str, torch.Tensor]:
        """What the stage has to tell beside the loss, of all since the last time, on the device."""
        return {}

    def _maybe_log_save_evaluate(
        self, tr_loss: torch.Tensor, grad_norm: Any, *rest: Any, learning_rate: float | None = None
    ) -> None:
        control = self.control
        if self.tells_late and control.should_log and self.state.global_step > self._globalstep_last_logged:
            self._send(tr_loss, grad_norm, learning_rate)
        if control.should_evaluate or control.should_save or control.should_training_stop:
            self._tell()
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *rest, learning_rate=learning_rate)

    def _send(self, total: torch.Tensor, grad_norm: torch.Tensor, learning_rate: float | None) -> None:
        """The figures of this step begin their way. Trainer reads them at once, and the device has nothing to do."""
        steps = self.state.global_step - self._globalstep_last_logged
        mean = nested_gather(total, self.args.parallel_mode).mean()
        sent = figures.send({"loss": mean, "grad_norm": grad_norm, **self.measured()})
        self._pending = sent, steps, {"learning_rate": learning_rate}
        total.zero_()
        self._globalstep_last_logged = self.state.global_step

    def _tell(self) -> None:
        """Log the last step if that has not been done. Until the next one is made, all else is as it was then."""
        if self._pending is None:
            return
        (sent, steps, known), self._pending = self._pending, None
        logs = {**sent.read(), **known}
        self._total_loss_scalar += logs["loss"]
        self.log({**logs, "loss": logs["loss"] / steps})

    def _inner_training_loop(self, *args: Any, **options: Any) -> Any:
        try:
            return super()._inner_training_loop(*args, **options)
        finally:
            self._tell()

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """As Trainer's, which counts the weights anew in every pass."""
        return 6 * self.tokens_of(inputs) * self._weights if "input_ids" in inputs else 0

    @cached_property
    def _weights(self) -> int:
        return int(self.model.num_parameters(exclude_embeddings=True))

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
