"""Adapters of any kind that PEFT knows, each on module objects of its own above the numbers of one base.

Nothing is switched between requests: the base's modules never hear of an adapter, nor one adapter's of another's.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from peft import PeftConfig, PeftModel, get_peft_model, load_peft_weights, set_peft_model_state_dict
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel

from studio.errors import AdapterRefused

PLAIN_INITS = (True, False, "gaussian", "orthogonal", "eva")  # the others change the base's numbers too
REFUSALS = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, SafetensorError)


def load(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """A model that answers as the base with the adapter of `folder`; the base stays what it is.

    Raises:
        AdapterRefused: it is damaged, of a kind that PEFT does not know, or does not fit.
    """
    try:
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        weights = load_peft_weights(str(folder), device="cpu")
        tuned = get_peft_model(_twin(base, config), config)
        found = set_peft_model_state_dict(tuned, weights)
    except REFUSALS as error:
        raise AdapterRefused(f"{folder} does not fit this model: {type(error).__name__}: {error}") from error
    if not config.is_prompt_learning:
        _require_complete(folder, tuned, found)
    return _ready(tuned, config)


def _twin(base: PreTrainedModel, config: PeftConfig) -> PreTrainedModel:
    """Modules of their own with the base's numbers: shared, unless the adapter begins by changing them."""
    if getattr(config, "init_lora_weights", True) not in PLAIN_INITS:
        return copy.deepcopy(base)
    return copy.deepcopy(base, {id(weight): _shared(weight) for weight in base.parameters()})


def _shared(weight: nn.Parameter) -> nn.Parameter:
    """Another parameter of the same numbers, so that PEFT may replace them here; a quantised one as it is."""
    return nn.Parameter(weight.data, requires_grad=False) if type(weight) is nn.Parameter else weight


def _require_complete(folder: Path, tuned: PeftModel, found: Any) -> None:
    """Refuse weights that have no place in the model, and places that got none, as a part of a tied pair may."""
    if found.unexpected_keys:
        raise AdapterRefused(f"{folder} does not fit this model: it has weights for {found.unexpected_keys[0]}")
    places = tuned.state_dict()
    filled = {places[key].data_ptr() for key in places.keys() - set(found.missing_keys)}
    for key in found.missing_keys:
        if ".default" in key and places[key].data_ptr() not in filled:
            raise AdapterRefused(f"{folder} does not fit this model: it has no weights for {key}")


def _ready(tuned: PeftModel, config: PeftConfig) -> PreTrainedModel:
    model: PreTrainedModel = tuned.get_base_model()
    if config.is_prompt_learning:  # what PeftModel.generate does and undoes for one answer, here for all
        model.prepare_inputs_for_generation = tuned.prepare_inputs_for_generation
    return model.eval().requires_grad_(False)
