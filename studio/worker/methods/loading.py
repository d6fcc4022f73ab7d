"""A model's weights, brought onto the device in the type that its training needs."""

from __future__ import annotations

import importlib.util
from typing import Literal

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.models import ModelInfo

Head = Literal["causal", "reward"]


def load(config: TrainConfig, info: ModelInfo, tokenizer: PreTrainedTokenizerBase, head: Head) -> PreTrainedModel:
    """The weights, on the device: in the type of the computation below an adapter, in float32 where they are trained.

    Raises:
        ModelError: the folder does not make a model.
    """
    computed_in = precision(config)
    keys = {"num_labels": 1, "pad_token_id": tokenizer.pad_token_id} if head == "reward" else {}
    kind = AutoModelForSequenceClassification if head == "reward" else AutoModelForCausalLM
    try:
        model = kind.from_pretrained(
            info.path,
            dtype=torch.float32 if config.finetuning_type == "full" else computed_in,
            attn_implementation=_attention(computed_in),
            trust_remote_code=config.trust_remote_code,
            **keys,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{info.path} cannot be loaded: {error}") from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def precision(config: TrainConfig) -> torch.dtype:
    """The type to compute in.

    Raises:
        ModelError: float16 on a machine without a GPU.
    """
    cuda = torch.cuda.is_available()
    if config.fp16:
        if not cuda:
            raise ModelError("fp16 needs a GPU: switch it off to train in float32")
        return torch.float16
    wants_bf16 = cuda and torch.cuda.is_bf16_supported() if config.bf16 is None else config.bf16
    return torch.bfloat16 if wants_bf16 else torch.float32


def _attention(precision: torch.dtype) -> str:
    # rows of a batch lie in one sequence; flash attention skips the pairs between rows, sdpa computes and masks them
    flash = torch.cuda.is_available() and importlib.util.find_spec("flash_attn") and precision != torch.float32
    return "flash_attention_2" if flash else "sdpa"
