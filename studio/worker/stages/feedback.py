"""Learning from answers that were each judged good or bad (KTO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trl import KTOConfig, KTOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference

from studio.worker.fast import flat
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.reference import Referenced, reference
from studio.worker.stages.setting import Setting, arguments
from studio.worker.tokenizer import padding

LEAST_ROWS = 2  # of a batch: answers are told apart from those of other rows


class FeedbackTrainer(Referenced, KTOTrainer):  # type: ignore[misc]  # trl is untyped
    """Kahneman-Tversky optimisation."""

    def _compute_kl_logps(self, model: Any, batch: dict[str, Any]) -> Any:
        return super()._compute_kl_logps(model, flat.other_side(batch))


@dataclass
class Mismatched(DataCollatorForUnpairedPreference):  # type: ignore[misc]  # trl is untyped
    """Gives each prompt of a batch the answer to another one too, from which the divergence is estimated.

    TRL pairs them once, in the order of the file, and then must not shuffle; here each batch pairs its own rows.
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        others = [examples[-1], *examples[:-1]]
        pairs = zip(examples, others, strict=True)
        batch: dict[str, Any] = super().torch_call(
            [{**row, "KL_completion_ids": other["completion_ids"]} for row, other in pairs]
        )
        return batch


def build(setting: Setting) -> Recorded:
    """The trainer of a training on judged answers. Raises ModelError for a reference model that cannot be had."""
    config = setting.config
    args = KTOConfig(
        **{**arguments(setting), **_batches(setting)},
        beta=config.pref_beta,
        desirable_weight=config.kto_chosen_weight,
        undesirable_weight=config.kto_rejected_weight,
        disable_dropout=not config.lora_dropout,
        remove_unused_columns=False,
        max_length=None,  # rows are cut already
    )
    collator = Mismatched(pad_token_id=padding(setting.tokenizer))
    parts = {**setting.parts, "data_collator": collator, "ref_model": reference(setting)}
    trainer = FeedbackTrainer(args=args, **parts).recorded(setting)
    trainer.args.train_sampling_strategy = "random"  # which the constructor refuses, for its own way of pairing
    return trainer


def _batches(setting: Setting) -> dict[str, int]:
    """As many rows a step as asked for, in batches of at least two."""
    config = setting.config
    rows, batches = config.per_device_train_batch_size, config.gradient_accumulation_steps
    if rows >= LEAST_ROWS:
        return {}
    setting.desk.reporter.note(
        "info", f"{config.stage} compares the rows of a batch: {LEAST_ROWS} at once instead of 1"
    )
    return {
        "per_device_train_batch_size": LEAST_ROWS,
        "gradient_accumulation_steps": max(1, rows * batches // LEAST_ROWS),
    }
