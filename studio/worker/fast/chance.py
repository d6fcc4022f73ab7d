"""Whether a pass through a model depends on chance."""

from __future__ import annotations

import re

from transformers import PreTrainedModel

from studio.config.train import TrainConfig

NAMES = re.compile(r".*(drop|jitter).*")  # of what shares are left out or shaken, in configurations


def is_in(config: TrainConfig, model: PreTrainedModel) -> bool:
    """Whether anything is left out or shaken at random while `model` is trained as configured."""
    shares = {name: value for name, value in model.config.to_dict().items() if NAMES.fullmatch(name)}
    own = any(isinstance(value, int | float) and value > 0 for value in shares.values())
    return bool(config.lora_dropout or config.neftune_noise_alpha or own)
