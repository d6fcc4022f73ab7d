"""A trainer whose checkpoints appear whole or not at all, and that goes on from one as it was asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from studio.parallel.strategies import STRATEGIES
from studio.planning import disk, parameters, shape
from studio.runs.checkpoints import Manifest
from studio.runs.resumption import WITH_OPTIMIZER, WITH_SCHEDULE
from studio.worker import outputs
from studio.worker.checkpoints.identity import fingerprints
from studio.worker.checkpoints.keeper import Keeper, facts
from studio.worker.door import Desk
from studio.worker.progress import Progress
from studio.worker.sharding.parted import Parted
from studio.worker.stages.setting import Setting


class Kept(Parted):
    """All processes write into one draft; the first one brings it to its place beside the training."""

    desk: Desk
    progress: Progress
    setting: Setting
    keeper: Keeper
    _saved_step = 0
    _schedule_from = 0

    def keep_checkpoints(self) -> None:
        """Begin to."""
        if self.desk.rank.is_first:
            data = partial(fingerprints, self.setting.data.files)
            kept = partial(setattr, self.progress, "last_checkpoint")
            self.keeper = Keeper(self.desk, self.setting.config, data, kept, _expected(self.setting))

    def settle_checkpoints(self) -> None:
        """The last one has its place, for all processes to see."""
        with self.desk.consensus.together():
            self.wait_for_checkpoint()

    def wait_for_checkpoint(self) -> None:
        """The last one has its place."""
        if self.desk.rank.is_first:
            self.keeper.wait()

    def training_step(self, model: Any, inputs: Any, *rest: Any, **options: Any) -> torch.Tensor:
        if self.desk.rank.is_first:
            self.keeper.remind()
        return super().training_step(model, inputs, *rest, **options)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step, consensus = self.state.global_step, self.desk.consensus
        if step == self._saved_step:
            return
        # of a schedule-free one it is the average that is looked at; training goes back by itself
        self.optimizer.eval()
        draft = self.desk.run_dir / "tmp/checkpoints" / f"checkpoint-{step}"
        with consensus.together():
            full = self.desk.rank.is_first and not _fits(draft, partial(self.keeper.begin, draft))
        if not consensus.any(full):
            self.args.output_dir = str(draft.parent)  # the trainer itself appends checkpoint-N
            with consensus.together():
                full = not _fits(draft, partial(Trainer._save_checkpoint, self, model, trial))
        if consensus.any(full):
            if self.desk.rank.is_first:
                self.keeper.give_up(draft)
            return
        self._saved_step = step
        if self.desk.rank.is_first:
            what = facts(self.desk, self.setting.config, step, self.progress.tokens, self._schedule_from)
            self.keeper.finish(draft, what, self._best_checkpoint())

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """The largest part, as a rule, is copied and written beside the training where one process holds it all."""
        if self.is_deepspeed_enabled or self.is_fsdp_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
        elif self.args.should_save:
            self.keeper.later(self.optimizer.state_dict(), Path(output_dir, OPTIMIZER_NAME))
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER_NAME))

    def _best_checkpoint(self) -> Path | None:
        best = self.state.best_global_step
        return self.desk.run_dir / f"checkpoints/checkpoint-{best}" if best and self.progress.best.is_kept else None

    def _init_training_state(
        self, max_steps: int, an_epoch: int, epochs: int, checkpoint: str | None, trial: Any
    ) -> tuple[int, int]:
        place: tuple[int, int] = super()._init_training_state(max_steps, an_epoch, epochs, checkpoint, trial)
        self.state.compute_steps(self.args, max_steps)  # the intervals asked for now, not those of the checkpoint
        self._saved_step = self.state.global_step
        manifest = Manifest.read(Path(checkpoint)) if checkpoint else None
        if self.setting.config.resume_scope not in WITH_SCHEDULE:
            self._schedule_from = self.state.global_step
        elif manifest:
            self._schedule_from = manifest.schedule_from
        return place

    def create_scheduler(self, num_training_steps: int, *rest: Any, **options: Any) -> Any:
        return super().create_scheduler(num_training_steps - self._schedule_from, *rest, **options)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        scope, fresh = self.setting.config.resume_scope, self.lr_scheduler.state_dict()
        rates = [group["lr"] for group in self.optimizer.param_groups]
        if scope in WITH_OPTIMIZER:
            super()._load_optimizer_and_scheduler(checkpoint)
        elif scope in WITH_SCHEDULE:
            self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER_NAME), weights_only=True))
        if scope not in WITH_SCHEDULE:
            self.lr_scheduler.load_state_dict(fresh)
        self._settle_rates(rates, fresh)

    def _settle_rates(self, rates: list[float], fresh: dict[str, Any]) -> None:
        """The checkpoint's rates are those of the settings then. Where they are a function of the step, they follow
        from the settings now; one that was lowered on the way stays, unless the schedule begins anew."""
        scheduler = self.lr_scheduler
        if isinstance(scheduler, LambdaLR):
            scheduler.base_lrs = fresh["base_lrs"]
            rates = [
                base * factor(scheduler.last_epoch)
                for base, factor in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
            ]
        elif not isinstance(scheduler, ReduceLROnPlateau):
            return
        elif self.setting.config.resume_scope in WITH_SCHEDULE:
            rates = scheduler.get_last_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates


def _expected(setting: Setting) -> int:
    """What a checkpoint takes that every process writes its part of: where one of them found no room, the others would
    wait for it in DeepSpeed's own barrier. 0 where one process writes alone."""
    if not setting.sharding.is_sharded and not STRATEGIES[setting.config.parallel_strategy].is_deepspeed:
        return 0
    return disk.checkpoint(setting.config, parameters.of(setting.config, shape.read(setting.info.path)))


def _fits(draft: Path, write: Callable[[], object]) -> bool:
    """Whether there was room for what `write` puts into `draft`."""
    try:
        with outputs.room_told(draft):
            write()
    except outputs.DiskFull:
        return False
    return True
