"""Adapters: a new one as configured, or an earlier one to go on with."""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any

from peft import AdaLoraConfig, LoraConfig, PeftModel, get_peft_model, load_peft_weights, set_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel

from studio import models
from studio.config.train import TrainConfig
from studio.config.train.lora import layer_numbers, target_pattern
from studio.errors import ModelError
from studio.files import read_json
from studio.planning.parameters import REWARD_HEAD
from studio.worker.methods import pissa, vocabulary
from studio.worker.methods.freeze import decoder

SOME_STEPS = 1_000_000  # PEFT wants a number before there is one


def lora(config: TrainConfig, model: PreTrainedModel) -> LoraConfig:
    """A new adapter as configured.

    Raises:
        ModelError: modules or layers that the model does not have, or its output head.
    """
    whole, new = _whole(config, model), vocabulary.new_rows(model)
    keys: dict[str, Any] = {
        "lora_dropout": config.lora_dropout,
        "target_modules": _targets(config, model),
        "layers_to_transform": _layers(config, model),
        "modules_to_save": whole or None,
        "trainable_token_indices": {name: rows for name, rows in new.items() if name not in whole} or None,
        "ensure_weight_tying": _is_tied(model, whole),
        "task_type": "SEQ_CLS" if is_rating(model) else "CAUSAL_LM",
    }
    if config.use_adalora:
        return _adalora(config, keys)
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha or 2 * config.lora_rank,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        init_lora_weights=pissa.start(config) if config.pissa_init else True,
        **keys,
    )


def resume(folder: Path, model: PreTrainedModel) -> PeftModel:
    """`model` with the adapter of `folder` on it, free to be trained on.

    Raises:
        ModelError: the adapter does not fit the model.
    """
    adapter = LoraConfig.from_pretrained(folder)
    adapter.inference_mode = False
    if is_rating(model):  # an adapter that talked may go on to rate
        adapter.task_type = "SEQ_CLS"
        adapter.modules_to_save = [*{*(adapter.modules_to_save or ()), REWARD_HEAD}]
    try:
        tuned = get_peft_model(model, adapter)
        weights = load_peft_weights(str(folder), device="cpu")
        if is_rating(model):
            weights.setdefault(f"base_model.model.{REWARD_HEAD}.weight", model.get_submodule(REWARD_HEAD).weight)
        found = set_peft_model_state_dict(tuned, weights)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{folder} does not fit this model: {error}") from error
    if found.unexpected_keys:
        raise ModelError(f"{folder} does not fit this model: it has weights for {found.unexpected_keys[0]}")
    return tuned


def find(name: str, saves: Path) -> Path:
    """The folder of an adapter: a folder itself, or that of a run below `saves`.

    Raises:
        ModelError: neither is there.
    """
    folder = Path(models.resolve(name))
    ran = saves / name / "adapter"
    return models.check_adapter(ran if not (folder / "adapter_config.json").exists() and ran.exists() else folder).path


def beneath(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The model below its adapter, if it has one."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def require_base(adapter: Path, folder: Path) -> None:
    """Refuse an adapter that was trained on another model than that of `folder`.

    Raises:
        ModelError: naming the model that it belongs to.
    """
    recorded = (read_json(adapter / "base.json") or {}).get("sha256")
    if recorded and recorded != hashlib.sha256((folder / "config.json").read_bytes()).hexdigest():
        base = models.check_adapter(adapter).base
        raise ModelError(f"{adapter} was trained on {base}, not on {folder}: set model_name_or_path to that model")


def is_rating(model: nn.Module) -> bool:
    """Whether the model ends in a reward head rather than in words."""
    return hasattr(model, REWARD_HEAD)


def _adalora(config: TrainConfig, keys: dict[str, Any]) -> AdaLoraConfig:
    rank = config.adalora_init_r or math.ceil(1.5 * config.lora_rank)
    return AdaLoraConfig(
        init_r=rank,
        target_r=config.lora_rank,
        lora_alpha=config.lora_alpha or 2 * rank,
        total_step=SOME_STEPS,
        **keys,
    )


def _targets(config: TrainConfig, model: PreTrainedModel) -> list[str] | str:
    """What PEFT is to match: names of linear layers, or a regular expression for whole paths."""
    heads = [model.get_output_embeddings(), getattr(model, REWARD_HEAD, None)]
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module not in heads]
    known = sorted({name.rpartition(".")[2] for name in linear})
    if config.lora_target == ("all",):
        return known
    if pattern := target_pattern(config.lora_target):
        return _matching(pattern, linear, known, model)
    unknown = [target for target in config.lora_target if not any(f".{name}".endswith(f".{target}") for name in linear)]
    if unknown:
        raise ModelError(
            f"lora_target: the model has no trainable linear layer {', '.join(unknown)}; it has {', '.join(known)} "
            "(or all)"
        )
    return list(config.lora_target)


def _matching(pattern: str, linear: list[str], known: list[str], model: PreTrainedModel) -> str:
    try:
        matched = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    except re.error as error:
        raise ModelError(f"lora_target: {pattern} is no regular expression: {error}") from error
    other = sorted(set(matched) - set(linear))
    if matched and not other:
        return pattern
    what = f"matches {other[0]}, which is no linear layer to adapt" if other else "matches no layer"
    raise ModelError(
        f"lora_target: {pattern} {what}. It must match whole paths, such as {linear[0]}; the linear layers are called "
        f"{', '.join(known)}"
    )


def _layers(config: TrainConfig, model: PreTrainedModel) -> list[int] | None:
    if config.layers_to_transform is None:
        return None
    numbers, count = layer_numbers(config.layers_to_transform), len(decoder(model)[1])
    if numbers[-1] >= count:
        raise ModelError(f"layers_to_transform: the model's layers are 0 to {count - 1} (got {numbers[-1]})")
    return list(numbers)


def _whole(config: TrainConfig, model: PreTrainedModel) -> list[str]:
    """Full names of the modules that are trained whole."""
    wanted = (*config.additional_target, *((REWARD_HEAD,) if is_rating(model) else ()))
    weighty = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    found = {target: [name for name in weighty if f".{name}".endswith(f".{target}")] for target in wanted}
    if missing := [target for target, names in found.items() if not names]:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in weighty}))
        raise ModelError(f"additional_target: the model has no {', '.join(missing)}; it has {known}")
    return [name for names in found.values() for name in names]


def _is_tied(model: PreTrainedModel, whole: list[str]) -> bool:
    """Whether one weight serves as embedding and head, and is trained: it stays one."""
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    is_trained = any(module in ends for name, module in model.named_modules() if name in whole)
    return bool(model.config.get_text_config().tie_word_embeddings) and is_trained
