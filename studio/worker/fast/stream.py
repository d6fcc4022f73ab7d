"""What runs from layer to layer, in the type that is computed in, where all weights are float32.

Each product under autocast would cast its input for itself, and each norm and sum take twice the memory's time. A LoRA
training, whose weights are in that type, and most other trainers round there too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from studio.worker.fast import Path, liger

PART = "states between layers"


def narrow(model: PreTrainedModel, precision: torch.dtype) -> Path:
    """Have the embedding of `model` put out bfloat16 under autocast, where all behind it keeps the type of its input,
    as Liger's norms do. `precision` is the type that the model is trained in."""
    words = model.get_input_embeddings()
    held = words.weight.dtype
    if held != torch.float32 or precision != torch.bfloat16 or liger.path(model).way != "liger":
        why = "" if held == precision else "plain norms, or no bfloat16"
        return Path(PART, str(held).removeprefix("torch."), why)
    words.register_forward_hook(_cast)
    return Path(PART, "bfloat16", "rounded as in LoRA training")


def _cast(_: nn.Module, __: Any, states: torch.Tensor) -> torch.Tensor:
    kind = states.device.type
    return states.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else states
