"""What a training leaves behind: a model, or an adapter and, where its base is no longer what it was, that base."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel

from studio import models
from studio.config.train import TrainConfig
from studio.files import read_record, write_json
from studio.models import ModelInfo
from studio.worker import outputs
from studio.worker.methods import base, budget, pissa
from studio.worker.methods.vocabulary import NEW_ROWS
from studio.worker.sharding import Weights

PREFIX = "base_model.model."
NEW_TOKENS = ".token_adapter.trainable_tokens_delta"
BASE = "base"  # folder in the run's, beside adapter/


def model(trained: PreTrainedModel, draft: Path, info: ModelInfo, weights: Weights | None = None) -> None:
    """Write a model into the folder `draft`, in the type in which the one it was made from is stored.

    `weights` are those of the model where it holds none itself.
    """
    dtype = base.STORED.get(info.dtype, torch.float32)
    if weights is None:
        trained.to(dtype).save_pretrained(draft)
    else:
        trained.config.dtype = dtype
        trained.save_pretrained(draft, state_dict={name: weight.to(dtype) for name, weight in weights.items()})
    config = read_record(draft / "config.json")
    write_json(draft / "config.json", {key: value for key, value in config.items() if key != NEW_ROWS})


def adapter(
    config: TrainConfig, trained: PeftModel, run_dir: Path, draft: Path, info: ModelInfo, live: Weights | None = None
) -> None:
    """Write an adapter into the folder `draft`, and base/ into `run_dir` if it belongs to a model of its own.

    `live` are the weights by their names in `trained`, where it does not hold them itself: those that are trained, or
    all if others were altered (`Sharding.collected`).
    """
    described = copy.deepcopy(trained.peft_config["default"])
    weights = get_peft_model_state_dict(trained, live, adapter_name="default", save_embedding_layers=False)
    if isinstance(described, AdaLoraConfig):
        weights, described = budget.as_plain(weights, described)
    residual: Weights = {}
    if pissa.is_start(described):
        if config.pissa_convert:
            weights = pissa.as_plain(trained, weights, described)
        else:
            residual = pissa.residual(trained, live)
        described.init_lora_weights = True  # another start would change the weights below it again
    kept, whole = _divide(weights, info)
    changed = bool(whole or residual) or info.path == run_dir / base.CHANGED
    folder = _leave_base(run_dir, info, {**whole, **residual}) if changed else info.path
    described.base_model_name_or_path, described.inference_mode = str(folder), True
    described.trainable_token_indices, described.ensure_weight_tying = None, False
    stayed = {name for name in described.modules_to_save or () if any(f".{name}." in key for key in kept)}
    described.modules_to_save = sorted(stayed) or None
    described.save_pretrained(draft)
    save_file(kept, draft / "adapter_model.safetensors", metadata={"format": "pt"})
    outputs.write_base(draft, str(folder) if changed else config.model_name_or_path, folder)


def _divide(weights: Weights, info: ModelInfo) -> tuple[Weights, Weights]:
    """What stays in the adapter, and what becomes part of its base, by name and in the type that it has there.

    Servers know no more than LoRA on linear layers, and merging means to be sure of what it does.
    """
    files = [info.path / file for file in models.weight_files(info.path)]
    stored = {name: file for file in files for name in models.read_header(file)}
    tied = read_record(info.path / "config.json").get("tie_word_embeddings")
    kept: Weights = {}
    whole: Weights = {}
    for key, weight in weights.items():
        name = key.removeprefix(PREFIX)
        module = name.removesuffix(NEW_TOKENS)
        if module != name:
            whole[f"{module}.weight"] = _with_new_rows(stored[f"{module}.weight"], f"{module}.weight", weight, info)
        elif name in stored:
            whole[name] = weight.to(_read(stored[name], name).dtype)
        elif not (tied and name == "lm_head.weight"):  # a tied head is the embedding, which is here too
            kept[key] = weight
    return {key: weight.cpu().contiguous() for key, weight in kept.items()}, whole


def _with_new_rows(file: Path, name: str, rows: torch.Tensor, info: ModelInfo) -> torch.Tensor:
    weight = _read(file, name)
    first, end = read_record(info.path / "config.json")[NEW_ROWS]
    weight[first:end] = rows.to(weight)
    return weight


def _read(file: Path, name: str) -> torch.Tensor:
    with safe_open(file, "pt") as weights:
        weight: torch.Tensor = weights.get_tensor(name)
    return weight


def _leave_base(run_dir: Path, info: ModelInfo, replaced: Weights) -> Path:
    with outputs.draft(run_dir, BASE) as draft:
        base.copy(info.path, draft, {name: weight.cpu().contiguous() for name, weight in replaced.items()})
        config = read_record(draft / "config.json")
        config.pop(NEW_ROWS, None)
        write_json(draft / "config.json", {**config, base.MADE_BY: run_dir.name})
    return run_dir / BASE
