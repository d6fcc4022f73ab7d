"""Learning to rate answers: the better one of two is to get the higher score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from studio.worker.stages.recorded import Recorded
from studio.worker.stages.setting import Setting, arguments
from studio.worker.tokenizer import padding


class Rater(Recorded, RewardTrainer):  # type: ignore[misc]  # trl is untyped
    """Training of a reward model."""


@dataclass
class WholePairs(DataCollatorForPreference):  # type: ignore[misc]  # trl is untyped
    """Rates an answer at its end, behind its prompt."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        names = ("chosen_ids", "rejected_ids")
        batch: dict[str, Any] = super().torch_call(
            [{name: row["prompt_ids"] + row[name] for name in names} for row in examples]
        )
        return batch


def build(setting: Setting) -> Recorded:
    """The trainer of a reward model."""
    args = RewardConfig(
        **arguments(setting),
        disable_dropout=not setting.config.lora_dropout,
        remove_unused_columns=False,
        max_length=None,  # rows are cut already
    )
    collator = WholePairs(pad_token_id=padding(setting.tokenizer))
    return Rater(args=args, data_collator=collator, **setting.parts).recorded(setting)
