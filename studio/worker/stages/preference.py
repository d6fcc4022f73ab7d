"""Learning to prefer the better of two answers, held to a reference model (DPO and its kin)."""

from __future__ import annotations

from trl import DPOConfig, DPOTrainer

from studio.config.train import TrainConfig
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.reference import Referenced, reference
from studio.worker.stages.setting import Setting, arguments


class PreferenceTrainer(Referenced, DPOTrainer):  # type: ignore[misc]  # trl is untyped
    """Direct preference optimisation."""


def build(setting: Setting) -> Recorded:
    """The trainer of a preference training. Raises ModelError for a reference model that cannot be had."""
    config = setting.config
    losses = weighted_losses(config)
    args = DPOConfig(
        **arguments(setting),
        loss_type=list(losses),
        loss_weights=list(losses.values()),
        label_smoothing=config.dpo_label_smoothing,
        beta=config.pref_beta,
        ld_alpha=config.ld_alpha,
        disable_dropout=not config.lora_dropout,
        max_length=None,  # rows are cut already
    )
    return PreferenceTrainer(args=args, ref_model=reference(setting), **setting.parts).recorded(setting)


def weighted_losses(config: TrainConfig) -> dict[str, float]:
    """The losses of TRL that make up the one that is wanted, each with its weight."""
    losses: dict[str, float] = {config.pref_loss: 1.0}
    if config.pref_loss == "sigmoid" and config.dpo_label_smoothing:
        # TRL's own sigmoid knows no smoothing e. With a and b the losses of a pair and of the same pair turned round,
        # robust is ((1 - e) a - e b) / (1 - 2e), and (1 - e) a + e b is wanted
        share = config.dpo_label_smoothing
        losses = {"sigmoid": 2 * (1 - share), "robust": 2 * share - 1}
    if config.pref_ftx:
        losses["sft"] = config.pref_ftx
    return losses
