"""What is wrong between the options of preferences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.errors import Problem

if TYPE_CHECKING:
    from studio.config.train import TrainConfig


WITHOUT_REFERENCE = ("orpo", "simpo")


def _reference_of_none(config: TrainConfig) -> Problem | None:
    if config.stage != "dpo" or config.pref_loss not in WITHOUT_REFERENCE or not config.ref_model:
        return None
    return Problem("ref_model", f"{config.pref_loss} compares with no reference model: leave it empty")


def _tuned_twice(config: TrainConfig) -> Problem | None:
    if config.stage != "dpo" or config.pref_loss != "orpo" or not config.pref_ftx:
        return None
    return Problem("pref_ftx", "orpo has the fine-tuning loss in it already: set pref_ftx: 0, or another pref_loss")


def _length_of_none(config: TrainConfig) -> Problem | None:
    if config.stage != "dpo" or config.pref_loss not in WITHOUT_REFERENCE or config.ld_alpha is None:
        return None
    return Problem("ld_alpha", f"{config.pref_loss} does not weigh by length: leave it empty, or use another pref_loss")


def _smoothing_needed(config: TrainConfig) -> Problem | None:
    if config.stage != "dpo" or config.pref_loss != "exo_pair" or config.dpo_label_smoothing:
        return None
    return Problem("dpo_label_smoothing", "exo_pair needs some: set it, for example 0.001")


RULES = (_reference_of_none, _tuned_twice, _length_of_none, _smoothing_needed)
