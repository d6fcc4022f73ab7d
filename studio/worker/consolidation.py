"""A checkpoint as a model or an adapter that can be served.

DeepSpeed's own functions put together what its processes wrote in parts, one file of weights at a time, from the wide
copies that the optimizer worked on. Other strategies leave whole weights in a checkpoint.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer

from studio import models
from studio.config.consolidate import ConsolidateConfig
from studio.config.load import load_run_config
from studio.errors import ModelError
from studio.exports import consolidate as exports
from studio.exports import report
from studio.exports.consolidate import Source
from studio.exports.plan import size
from studio.exports.report import Report, Section
from studio.files import folder_bytes, read_record, write_json
from studio.parallel import zero
from studio.planning.parameters import REWARD_HEAD
from studio.runs.store import Store
from studio.worker import outputs
from studio.worker.adapters import folder, rewriting
from studio.worker.door import Desk
from studio.worker.merging import shards
from studio.worker.merging.work import Tensor
from studio.worker.methods.base import STORED
from studio.worker.sharding import universal

SPELLED = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
Weights = Mapping[str, Any]  # name -> what has a shape, and what `contiguous` makes a tensor of


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, read when it is asked for; as DeepSpeed's own stand-ins for tensors."""

    path: Path
    name: str
    shape: torch.Size

    def contiguous(self) -> torch.Tensor:
        with safe_open(self.path, "pt") as file:
            tensor: torch.Tensor = file.get_tensor(self.name)
        return tensor


def consolidate(desk: Desk) -> None:
    """Do what the run's config.yaml says; leave model/ or adapter/, and a report.

    Raises:
        SeedbedError: the checkpoint is damaged, or nothing can be made of it.
    """
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, ConsolidateConfig)
    shutil.rmtree(desk.run_dir / "tmp", ignore_errors=True)
    desk.reporter.phase("planning", config.run)
    found, started = exports.source(Store(desk.run_dir.parent), config), time.monotonic()
    with outputs.draft(desk.run_dir, found.output, last_call=desk.requests.protect) as draft:
        desk.reporter.phase("consolidating", found.checkpoint.name)
        if found.output == "adapter":
            made = rewriting.checkpoint(models.adapter_info(found.checkpoint), config.export_dtype)
            folder.write(made, found.config.model_name_or_path, found.base, draft)
        else:
            _write_model(desk, config, found, draft)
        written = folder_bytes(draft)
        report.write(_report(found, written, time.monotonic() - started), desk.run_dir)
    step = int(found.checkpoint.name.rpartition("-")[2])
    desk.reporter.result(output=found.output, bytes=written, step=step, stopped=False)


def _write_model(desk: Desk, config: ConsolidateConfig, found: Source, draft: Path) -> None:
    dtype = _dtype(config, found)
    weights = _weights(found.checkpoint)
    _require_names(weights, found)
    sizes = {name: weight.shape.numel() * dtype.itemsize for name, weight in weights.items()}
    tensors = [Tensor(name, None, tuple(weights[name].shape), SPELLED[dtype], SPELLED[dtype]) for name in sizes]
    parts, done = shards.split(tensors, config.export_size * 10**9), 0
    for part in parts:
        names = [tensor.name for tensor in part.tensors]
        save_file({name: weights[name].contiguous().to(dtype) for name in names}, draft / part.name, {"format": "pt"})
        done += sum(sizes[name] for name in names)
        told = f"{size(done)} of {size(sum(sizes.values()))}"
        desk.reporter.step(done // 1_000_000, sum(sizes.values()) // 1_000_000, eta_s=None, message=told)
    shards.write_index(parts, draft)
    _write_rest(found, draft, dtype)


def _weights(checkpoint: Path) -> Weights:
    """All weights of a checkpoint, each once: what is tied is stored under the name that comes first."""
    # shards of what was offloaded to an NVMe disk do not hold it; the whole weights beside them are right
    is_on_disk = zero.is_on_disk(read_record(checkpoint.resolve().parents[1] / "deepspeed.json"))
    if universal.shards(checkpoint) and not is_on_disk:
        with universal.plainly_named(checkpoint) as (plain,):  # its files are opened in here
            found: Weights = get_fp32_state_dict_from_zero_checkpoint(str(plain), lazy_mode=True)
    else:
        found = dict(_stored(checkpoint))
    first: dict[int, str] = {}
    for name, weight in found.items():
        first.setdefault(id(weight), name)
    return {name: found[name] for name in first.values()}


def _stored(checkpoint: Path) -> Iterator[tuple[str, Stored]]:
    for path in (checkpoint / file for file in models.weight_files(checkpoint)):
        for name, entry in models.read_header(path).items():
            yield name, Stored(path, name, torch.Size(entry["shape"]))


def _require_names(weights: Weights, found: Source) -> None:
    """Some models are stored in another form than they are trained in: experts, one by one or all in one tensor."""
    files = [found.base / name for name in models.weight_files(found.base)]
    known = {name for file in files for name in models.read_header(file)}
    if other := [name for name in weights if name not in known and not name.startswith((REWARD_HEAD, "lm_head"))]:
        raise ModelError(
            f"{other[0]} has another name in the files of {found.base}, and nobody could load the model: resume the "
            "training for a step, which leaves the model in the base's form"
        )


def _dtype(config: ConsolidateConfig, found: Source) -> torch.dtype:
    if config.export_dtype == "auto":
        return STORED.get(models.check(found.base).dtype, torch.float32)
    dtype: torch.dtype = getattr(torch, config.export_dtype)
    return dtype


def _write_rest(found: Source, draft: Path, dtype: torch.dtype) -> None:
    described = read_record(found.checkpoint / "config.json")
    write_json(draft / "config.json", {**described, "dtype": str(dtype).removeprefix("torch.")})
    if (generation := found.checkpoint / "generation_config.json").exists():
        shutil.copy2(generation, draft)
    trusts = found.config.trust_remote_code
    tokenizer = AutoTokenizer.from_pretrained(found.checkpoint, trust_remote_code=trusts)
    grown = found.config.resize_vocab or found.config.add_tokens or found.config.add_special_tokens
    outputs.copy_tokenizer(found.checkpoint if grown else found.base, draft, tokenizer)


def _report(found: Source, written: int, seconds: float) -> Report:
    figures = (
        ("training", found.run.id),
        ("checkpoint", found.checkpoint.name),
        ("size", size(written)),
        ("time", f"{seconds:.1f} s"),
    )
    verdict = f"The {found.output} as it was at {found.checkpoint.name}, whole."
    return Report(f"Consolidated: {found.run.name}", verdict, True, (Section(found.output, figures=figures),), {})
