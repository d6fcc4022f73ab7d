"""Whether a pass through a model depends on chance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedModel

from studio.config.train import TrainConfig

NAMES = re.compile(r".*(drop|jitter).*")  # of what shares are left out or shaken, in configurations


def is_in(config: TrainConfig, model: PreTrainedModel) -> bool:
    """Whether anything is left out or shaken at random while `model` is trained as configured."""
    told = any(isinstance(value, int | float) and value > 0 for value in _shares(model.config.to_dict()))
    own = any(isinstance(each, _DropoutNd) and each.p > 0 for each in model.modules())
    return bool(config.lora_dropout or config.neftune_noise_alpha or told or own)


def _shares(told: Mapping[str, Any]) -> Iterator[Any]:
    """What a configuration, and those within it, say under such names."""
    for name, value in told.items():
        if isinstance(value, Mapping):
            yield from _shares(value)
        elif NAMES.fullmatch(str(name)):  # there are numbers among them
            yield value
