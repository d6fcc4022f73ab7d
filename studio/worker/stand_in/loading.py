"""A model folder, brought up as something that answers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from studio.errors import ModelError
from studio.worker.stand_in.desk import Desk
from studio.worker.stand_in.generation import Generation
from studio.worker.stand_in.metrics import Metrics
from studio.worker.stand_in.served import Served

ENDLESS = 1 << 20  # a model that knows no limit of its own


def load(options: Mapping[str, Any]) -> Desk:
    """Everything that requests are answered with; `options` are those of the file.

    Raises:
        ModelError: the folder does not make a model, or max-model-len is more than it can.
    """
    path, trust = options["model"], options.get("trust-remote-code", False)
    names = options.get("served-model-name") or [path]
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trust)
        model = _weights(path, options.get("dtype", "auto"), trust)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be loaded: {error}") from error
    if template := options.get("chat-template"):
        tokenizer.chat_template = Path(template).read_text()
    ends = _ends(model, tokenizer)
    model.generation_config = GenerationConfig()  # the model's own sampling defaults would differ from what is asked
    served = Served(model, path, names, _length(model, options.get("max-model-len")))
    # threads may not share one: it is changed while it encodes
    generation = Generation(copy.deepcopy(tokenizer), options.get("max-num-seqs", 32))
    return Desk(served, tokenizer, generation, Metrics(names[0], generation), ends)


def _weights(path: str, dtype: str, trust_remote_code: bool) -> PreTrainedModel:
    # its layers lie on all GPUs that it may take, where one would be too small
    spread = {"device_map": "auto"} if torch.cuda.device_count() > 1 else {}
    model, found = AutoModelForCausalLM.from_pretrained(
        path, dtype=dtype, trust_remote_code=trust_remote_code, output_loading_info=True, **spread
    )
    if found["missing_keys"]:  # they would begin by chance
        raise ModelError(f"{path} has no weights for {min(found['missing_keys'])}: copy or download it again")
    if not spread:
        model.to("cuda" if torch.cuda.is_available() else "cpu")
    return model.eval().requires_grad_(False)


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end an answer, by the tokenizer and by the model's generation_config.json."""
    own = model.generation_config.eos_token_id
    ids = [tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
    return frozenset(token for token in ids if token is not None)


def _length(model: PreTrainedModel, asked: int | None) -> int:
    own = getattr(model.config.get_text_config(), "max_position_embeddings", None) or ENDLESS
    if asked and asked > own:
        raise ModelError(f"max_model_len={asked} is greater than what this model was made for, {own}")
    return asked or own
