"""The model a training starts from: found on this machine or fetched, and changed where that was asked for.

A changed model is written out as an ordinary model folder before anything else reads it, so rows are encoded with its
tokenizer, its weights can be quantised, and the adapter trained on it has a base that can be served.
"""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from studio import models
from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.files import read_record, write_json
from studio.models import ModelInfo
from studio.worker.merging import companions, stream
from studio.worker.merging.plan import plan
from studio.worker.merging.work import Share
from studio.worker.methods import adapters, vocabulary

STORED = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}  # as safetensors spells them
CHANGED = "tmp/start"  # below the run's folder
MERGED = "tmp/merged"  # there, too
SHARD_BYTES = 5 * 10**9
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx")  # of these only the first kind is read
MADE_BY = "made_by"  # key of config.json: without it, a merged model would have the configuration of the plain one


def prepare(config: TrainConfig, info: ModelInfo, run_dir: Path) -> ModelInfo:
    """The model to train from, before its rows are encoded: `info` as it is, or as changed (adapters merged in, the
    vocabulary grown, positions stretched), written below `run_dir`.

    Raises:
        ModelError: what is asked cannot be done with this model.
    """
    given = [adapters.find(name, run_dir.parent) for name in config.adapter_name_or_path]
    for adapter in given:
        adapters.require_base(adapter, info.path)
    merged = given if config.create_new_adapter else given[:-1]  # the last is trained on
    grown = vocabulary.grown(config, info)
    if not merged and not grown and not config.rope_scaling:
        return info
    folder = run_dir / CHANGED
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    changes: dict[str, Any] = {MADE_BY: run_dir.name}
    source = _merged(info.path, merged, run_dir / MERGED)
    if grown:
        changes |= _grow(config, source, grown, folder)
    else:
        copy(source, folder, {})
    shutil.rmtree(run_dir / MERGED, ignore_errors=True)
    if config.rope_scaling:
        changes |= _stretched(config, info.path)
    write_json(folder / "config.json", read_record(folder / "config.json") | changes)
    return models.check(folder)


def prepared(info: ModelInfo, run_dir: Path) -> ModelInfo:
    """What `prepare` has left, for another process of the same training."""
    changed = run_dir / CHANGED
    return models.check(changed) if changed.exists() else info


def copy(source: Path, target: Path, replaced: dict[str, torch.Tensor]) -> None:
    """A model folder with some of its weights `replaced`; weights that stay as they are take no room of their own."""
    for path in source.iterdir():
        if path.is_file() and path.suffix not in WEIGHTS:
            shutil.copy2(path, target / path.name)
    for name in models.weight_files(source):
        changed = replaced.keys() & models.read_header(source / name).keys()
        if not changed:
            _link((source / name).resolve(), target / name)
            continue
        weights = load_file(source / name)
        save_file({**weights, **{key: replaced[key] for key in changed}}, target / name, metadata={"format": "pt"})


def _merged(source: Path, adapters: list[Path], scratch: Path) -> Path:
    """The model in `source` with adapters merged into it, each into what the one before made, below `scratch`."""
    shutil.rmtree(scratch, ignore_errors=True)
    for number, adapter in enumerate(adapters):
        target = scratch / str(number)
        target.mkdir(parents=True)
        planned = plan(source, [Share(adapter)])
        stream.write(planned, target, SHARD_BYTES, lambda done, total: None)
        companions.copy(source, source, target, planned.config_changes, None)
        source = target
    return source


def _grow(
    config: TrainConfig, source: Path, grown: tuple[PreTrainedTokenizerBase, range], folder: Path
) -> dict[str, Any]:
    """Write the model with a larger vocabulary; returns what is to be said of it in its configuration."""
    if read_record(source / "config.json").get("quantization_config"):
        raise ModelError(f"{source} is quantised, so its vocabulary cannot grow: take the 16-bit model")
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", trust_remote_code=config.trust_remote_code)
    vocabulary.grow(model, grown[1])
    model.save_pretrained(folder)
    for code in source.glob("*.py"):  # models that bring their own code do not load without it
        shutil.copy2(code, folder / code.name)
    grown[0].save_pretrained(folder)
    return {vocabulary.NEW_ROWS: [grown[1].start, grown[1].stop]}


def _stretched(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Entries of config.json for positions up to cutoff_len, in the way that rope_scaling names."""
    stored = read_record(folder / "config.json")
    rope, limit = _rope(stored), stored.get("max_position_embeddings")
    if not (limit and rope.get("rope_theta") and rope.get("rope_type", "default") == "default"):
        raise ModelError(f"rope_scaling: the positions of {folder} are no plain rotary ones: leave it empty")
    if config.cutoff_len <= limit:
        raise ModelError(
            f"rope_scaling: the model takes {limit} tokens and cutoff_len is {config.cutoff_len}: raise cutoff_len to "
            "the length that is wanted, or leave rope_scaling empty"
        )
    factor = float(math.ceil(config.cutoff_len / limit))
    rope = {**rope, "rope_type": config.rope_scaling, "factor": factor}
    if config.rope_scaling in ("linear", "dynamic"):  # by convention the limit stays, and the factor tells
        return {"rope_parameters": rope}
    rope["original_max_position_embeddings"] = limit
    if config.rope_scaling == "llama3":
        rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return {"rope_parameters": rope, "max_position_embeddings": int(limit * factor)}


def _rope(stored: dict[str, Any]) -> dict[str, Any]:
    """How config.json says that positions are computed, in its present form or the one before."""
    old = stored.get("rope_scaling") or {}
    return stored.get("rope_parameters") or {"rope_theta": stored.get("rope_theta"), **old}


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)
