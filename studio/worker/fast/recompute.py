"""Gradient checkpointing in as many layers as memory asks for."""

from __future__ import annotations

from types import MethodType
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from studio.worker.methods.adapters import beneath


def keep(model: PreTrainedModel | PeftModel, layers: int) -> None:
    """Have `model`, whenever gradient checkpointing is switched on, compute only its first so many `layers` twice.

    The first, since all others have let go of what they kept by the time the way back reaches those: computing one
    again adds nothing to the peak. An architecture that does not checkpoint by layers is left as it is.
    """
    base = beneath(model)

    def enable(own: PreTrainedModel, *words: Any, **keys: Any) -> None:
        type(own).gradient_checkpointing_enable(own, *words, **keys)
        checkpointed = [each for each in own.modules() if isinstance(each, GradientCheckpointingLayer)]
        for layer in checkpointed[layers:]:
            layer.gradient_checkpointing = False

    # Trainer switches it on as a training starts, TRL off and on again around its reference; a method, so that a copy
    # of the model would switch its own layers
    base.gradient_checkpointing_enable = MethodType(enable, base)
