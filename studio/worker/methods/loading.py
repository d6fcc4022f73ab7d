"""A model's weights, brought onto the device in the type that its training needs."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.models import ModelInfo
from studio.parallel.strategies import STRATEGIES
from studio.worker.fast import Path, attention, liger, sums
from studio.worker.methods import quantised
from studio.worker.sharding import Sharding

Head = Literal["causal", "reward"]
FLASH = {"fa2": ("flash_attn", "flash_attention_2"), "fa3": ("flash_attn_interface", "flash_attention_3")}
NAMED = {"sdpa": "sdpa", "disabled": "eager"}


def load(
    config: TrainConfig, info: ModelInfo, tokenizer: PreTrainedTokenizerBase, head: Head, sharding: Sharding
) -> PreTrainedModel:
    """The weights, on the device: in the type of the computation where they stay as they are, else as wide as asked.

    A reward head gives one number for a text, from its last token on.

    Raises:
        ModelError: the folder does not make a model, or something that is asked for is not installed.
        torch.OutOfMemoryError: the GPU has no room for it.
    """
    computed_in = precision(config)
    sharding.begin(computed_in, info)
    # DeepSpeed rounds what it is given and keeps wide copies by itself
    is_deepspeed = STRATEGIES[config.parallel_strategy].is_deepspeed
    trained_whole = config.finetuning_type == "full" and not config.pure_bf16 and not is_deepspeed
    # where the sharding says so, quantised layers go to other places than one
    keys: dict[str, Any] = {**quantised.keys(config, info.path, computed_in), **sharding.loading()}
    if head == "reward":
        keys |= {"num_labels": 1, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(config.seed)  # a new head is made by chance
    kind = AutoModelForSequenceClassification if head == "reward" else AutoModelForCausalLM
    try:
        attends = _attention(config, info, computed_in, sharding.device)
        model = kind.from_pretrained(
            info.path,
            dtype=torch.float32 if trained_whole else computed_in,
            attn_implementation=attends.way,
            trust_remote_code=config.trust_remote_code,
            **keys,
        )
    except torch.OutOfMemoryError:  # a RuntimeError as well
        raise
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{info.path} cannot be loaded: {error}") from error
    attention.settle(model, attends)
    _balance_experts(config, model)
    placed = quantised.settle(model) if quantised.is_quantised(model) else sharding.place(model)
    liger.apply(placed, config, computed_in)
    sums.join(placed, config, computed_in)
    return placed


def precision(config: TrainConfig) -> torch.dtype:
    """The type to compute in.

    Raises:
        ModelError: float16 on a machine without a GPU.
    """
    cuda = torch.cuda.is_available()
    if config.pure_bf16:
        return torch.bfloat16
    if config.fp16:
        if not cuda:
            raise ModelError("fp16 needs a GPU: switch it off to train in float32")
        return torch.float16
    wants_bf16 = cuda and torch.cuda.is_bf16_supported() if config.bf16 is None else config.bf16
    return torch.bfloat16 if wants_bf16 else torch.float32


def _attention(config: TrainConfig, info: ModelInfo, precision: torch.dtype, device: torch.device) -> Path:
    """Which attention is used: of those that skip the pairs between rows of a batch where it is free to choose."""
    if config.flash_attn in FLASH:
        return Path(attention.PART, _flash(config.flash_attn, precision))
    if config.flash_attn in NAMED:
        return Path(attention.PART, NAMED[config.flash_attn])
    model_config = AutoConfig.from_pretrained(info.path, trust_remote_code=config.trust_remote_code)
    chosen = attention.choose(config, model_config, precision, device)
    flash = torch.cuda.is_available() and importlib.util.find_spec("flash_attn") and precision != torch.float32
    return Path(attention.PART, "flash_attention_2") if flash and chosen.way != attention.NAME else chosen


def _flash(name: str, precision: torch.dtype) -> str:
    """A flash attention that was asked for by name, which no other may stand in for."""
    package, implementation = FLASH[name]
    missing = {
        "a GPU": not torch.cuda.is_available(),
        "bf16 or fp16": precision == torch.float32,
        f"the package {package.replace('_', '-')}": not importlib.util.find_spec(package),
    }
    if any(missing.values()):
        what = ", ".join(need for need, lacks in missing.items() if lacks)
        raise ModelError(f"flash_attn: {name} needs {what}: set flash_attn to auto, which takes what there is")
    return implementation


def _balance_experts(config: TrainConfig, model: PreTrainedModel) -> None:
    """Have a mixture-of-experts model add the loss that spreads tokens over its experts."""
    if config.moe_aux_loss_coef is None:
        return
    if not hasattr(model.config, "router_aux_loss_coef"):
        what = f"a {model.config.model_type} model has no experts to spread tokens over: leave it empty"
        raise ModelError(f"moe_aux_loss_coef: {what}")
    model.config.router_aux_loss_coef = config.moe_aux_loss_coef
    model.config.output_router_logits = True
