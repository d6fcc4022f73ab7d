"""The model a training starts from: found, checked, loaded in the right type, its adapter described."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, PreTrainedModel

from studio import models
from studio.config.train import TrainConfig
from studio.errors import ModelError

STORED = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}  # as safetensors spells them


def find(name: str) -> models.ModelInfo:
    """A model's folder, found to be complete; a hub id is looked up in the local cache and, if allowed, downloaded.

    Raises:
        ModelError: not found, incomplete or damaged.
    """
    resolved = models.resolve(name)
    folder = Path(resolved) if models.is_local(resolved) else _from_hub(resolved)
    return models.check(folder)


def load(folder: Path, config: TrainConfig, precision: torch.dtype) -> PreTrainedModel:
    """The weights, on the device: in the type of the computation below an adapter, in float32 where they are trained.

    Raises:
        ModelError: the folder does not make a model.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=precision if config.finetuning_type == "lora" else torch.float32,
            attn_implementation=_attention(precision),
            trust_remote_code=config.trust_remote_code,
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder} cannot be loaded: {error}") from error
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


def lora(config: TrainConfig, model: PreTrainedModel) -> LoraConfig:
    """The adapter as configured.

    Raises:
        ModelError: a target module that the model does not have, or its output head.
    """
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha or 2 * config.lora_rank,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear" if config.lora_target == ("all",) else _targets(config, model),
        use_rslora=config.use_rslora,
        task_type="CAUSAL_LM",
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, ignore_patterns=["*.bin", "*.pth", "*.gguf", "original/*"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{name} is neither a folder on this machine nor a model that can be reached: check the spelling, or "
            "download it where there is a network and give its folder"
        ) from error


def _attention(precision: torch.dtype) -> str:
    # rows of a batch lie in one sequence; flash attention skips the pairs between rows, sdpa computes and masks them
    flash = torch.cuda.is_available() and importlib.util.find_spec("flash_attn") and precision != torch.float32
    return "flash_attention_2" if flash else "sdpa"


def _targets(config: TrainConfig, model: PreTrainedModel) -> list[str]:
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    head = next((name for name, module in model.named_modules() if module is model.get_output_embeddings()), "")
    known = sorted({name.rpartition(".")[2] for name in linear - {head}})
    unknown = [target for target in config.lora_target if target not in known]
    if unknown:
        raise ModelError(
            f"lora_target: the model has no trainable linear layer {', '.join(unknown)}; it has {', '.join(known)} "
            "(or all)"
        )
    return list(config.lora_target)
