"""What is wrong between the options of preferences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.config.train.preference import UNREFERENCED
from studio.errors import Problem

if TYPE_CHECKING:
    from studio.config.train import TrainConfig


UNTUNED = ("orpo", "kto_pair")  # orpo has the fine-tuning loss in it already
UNWEIGHED = (*UNREFERENCED, "kto_pair")


def _reference_of_none(config: TrainConfig) -> Problem | None:
    if config.stage != "dpo" or config.pref_loss not in UNREFERENCED or not config.ref_model:
        return None
    return Problem("ref_model", f"{config.pref_loss} compares with no reference model: leave it empty")


def _tuned_besides(config: TrainConfig) -> Problem | None:
    if config.stage != "dpo" or config.pref_loss not in UNTUNED or not config.pref_ftx:
        return None
    return Problem("pref_ftx", f"has no effect on {config.pref_loss}: set pref_ftx: 0, or another pref_loss")


def _length_of_none(config: TrainConfig) -> Problem | None:
    if config.stage != "dpo" or config.pref_loss not in UNWEIGHED or config.ld_alpha is None:
        return None
    return Problem("ld_alpha", f"{config.pref_loss} does not weigh by length: leave it empty, or use another pref_loss")


RULES = (_reference_of_none, _tuned_besides, _length_of_none)
