"""What a training is for: each stage takes rows of its kind and hands them to the trainer that learns from them.

A stage is a module of this package with a function `build(setting) -> Recorded`, imported only when it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from studio.config.train import TrainConfig
from studio.worker.methods.loading import Head
from studio.worker.stages.recorded import Recorded
from studio.worker.stages.setting import Setting


@dataclass(frozen=True)
class Stage:
    """How rows become `columns` (a key of worker.columns.COLUMNS), the `head` of the model, and who trains it."""

    module: str
    columns: str
    head: Head = "causal"

    def trainer(self, setting: Setting) -> Recorded:
        """The trainer, ready to train. Raises SeedbedError for what the user can mend."""
        trainer: Recorded = import_module(f"{__name__}.{self.module}").build(setting)
        return trainer


STAGES = {
    "pt": Stage("supervised", "document"),
    "sft": Stage("supervised", "sequence"),
    "rm": Stage("reward", "pair", "reward"),
    "dpo": Stage("preference", "pair"),
    "kto": Stage("feedback", "judged"),
    "grpo": Stage("online", "prompt"),
    "rloo": Stage("online", "prompt"),
}
LOSSES = {  # of dpo, that have a trainer of their own
    "orpo": Stage("unreferenced", "pair"),
    "simpo": Stage("unreferenced", "pair"),
    "kto_pair": Stage("feedback", "judged"),
}


def of(config: TrainConfig) -> Stage:
    """The stage of a training."""
    own = LOSSES.get(config.pref_loss) if config.stage == "dpo" else None
    return own or STAGES[config.stage]
