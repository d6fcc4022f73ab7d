"""A fully fine-tuned model minus the one it came from, as a LoRA adapter: one weight after another, by SVD.

Linear layers become A and B of the asked rank. What else changed (embeddings, norms, biases) no low rank can hold: it
is kept whole where that was asked for, and otherwise named in the report with its share of the whole change.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from studio.config.adapter import AdapterConfig
from studio.errors import ModelError
from studio.exports.adapter import Inputs, keeps_whole, tensors
from studio.exports.report import Section, Table
from studio.models import PEFT_PREFIX
from studio.worker.adapters import factors, fit, folder
from studio.worker.adapters.fit import Fit
from studio.worker.adapters.folder import Made, Weights

HEAD = "lm_head"
SHOWN = 20
# one matrix to each thread: threads that share one wait for each other at every step of the SVD
THREADS = min(8, len(os.sched_getaffinity(0)))
Tell = Callable[[int, int], None]
Modules = Mapping[str, nn.Module]


@dataclass(frozen=True)
class Pair:
    """One stored tensor of both models."""

    name: str
    before: torch.Tensor
    after: torch.Tensor

    @property
    def change(self) -> torch.Tensor:
        return self.after.float() - self.before.float()


@dataclass
class Drawn:
    """What has been taken from the difference: `kept` whole and `left` out are norms of changes, by name."""

    weights: Weights = field(default_factory=dict)
    fits: list[Fit] = field(default_factory=list)
    kept: dict[str, float] = field(default_factory=dict)
    left: dict[str, float] = field(default_factory=dict)

    def add(self, other: Drawn) -> None:
        self.weights |= other.weights
        self.fits += other.fits
        self.kept |= other.kept
        self.left |= other.left


def extract(config: AdapterConfig, found: Inputs, tell: Tell) -> Made:
    """The difference of `found.tuned` and `found.base`. `tell(done, total)` is called after every module, in bytes.

    Raises:
        ModelError: no linear layer differs, or Transformers does not know the model.
    """
    assert found.tuned is not None
    assert found.base is not None
    modules = _modules(found.base)
    ours, theirs = tensors(found.base), tensors(found.tuned)
    grouped = groupby(sorted(theirs, key=_module_of), key=_module_of)
    work = [(module, [(name, ours[name][0], theirs[name][0]) for name in names]) for module, names in grouped]
    sizes = {name: end - start for name, (_, entry) in theirs.items() for start, end in [entry["data_offsets"]]}
    drawn, done = Drawn(), 0
    with ThreadPoolExecutor(THREADS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        drawing = pool.map(lambda each: _draw(config, modules.get(each[0]), *each), work)
        for part, (_, places) in zip(drawing, work, strict=True):
            drawn.add(part)
            done += sum(sizes[name] for name, _, _ in places)
            tell(done, sum(sizes.values()))
    if not drawn.fits:
        others = ", ".join(list(drawn.left)[:5]) or "nothing"
        raise ModelError(f"no linear layer differs between {found.base} and {found.tuned}; what differs: {others}")
    return _made(config, found, modules, drawn)


def _modules(base: Path) -> Modules:
    """Every module by the name that its weights have on disk; nothing is loaded for it."""
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base))
    except (ValueError, KeyError, OSError, ImportError) as error:
        raise ModelError(f"{base} is no language model that Transformers builds here: {error}") from error
    return dict(model.named_modules())


def _module_of(name: str) -> str:
    return name.rpartition(".")[0]


def _read(file: Path, name: str) -> torch.Tensor:
    with safe_open(file, "pt") as weights:
        return weights.get_tensor(name)


def _draw(config: AdapterConfig, known: nn.Module | None, module: str, places: list[tuple[str, Path, Path]]) -> Drawn:
    """Take the change of one module: as A and B, whole, or not at all."""
    pairs = [Pair(name, _read(before, name), _read(after, name)) for name, before, after in places]
    changes = {pair.name: float(pair.change.norm()) for pair in pairs if not pair.before.equal(pair.after)}
    if infinite := [name for name, length in changes.items() if not math.isfinite(length)]:
        raise ModelError(f"{infinite[0]} has values that are not finite: the fine-tuned model is damaged, or its base")
    is_linear = isinstance(known, nn.Linear | Conv1D)
    is_rest = "all" in config.additional_target and not is_linear
    if changes and known is not None and (keeps_whole(config, module) or is_rest):
        return Drawn({PEFT_PREFIX + pair.name: pair.after for pair in pairs}, kept=changes)
    drawn = Drawn()
    for pair in (pair for pair in pairs if pair.name in changes):
        if is_linear and pair.name.endswith(".weight"):
            turned = pair.change.T if isinstance(known, Conv1D) else pair.change
            drawn.add(_factored(module, turned, config, pair.after.dtype))
        else:
            drawn.left[pair.name] = changes[pair.name]
    return drawn


def _factored(module: str, change: torch.Tensor, config: AdapterConfig, stored: torch.dtype) -> Drawn:
    found = factors.of_matrix(change, config.lora_rank)
    dtype = stored if config.export_dtype == "auto" else getattr(torch, config.export_dtype)
    a, b = found.a.to(dtype), found.b.to(dtype)
    missing = torch.addmm(change, b.float(), a.float(), alpha=-1)  # with what the type rounds away
    fitted = Fit(module, found.rank, float(change.norm()), float(missing.norm()))
    return Drawn({f"{PEFT_PREFIX}{module}.lora_A.weight": a, f"{PEFT_PREFIX}{module}.lora_B.weight": b}, [fitted])


def _made(config: AdapterConfig, found: Inputs, modules: Modules, drawn: Drawn) -> Made:
    assert found.tuned is not None
    linear, left = fit.error(drawn.fits), math.hypot(*drawn.left.values())
    total = fit.error([*drawn.fits, Fit("", 0, left, left), Fit("", 0, math.hypot(*drawn.kept.values()), 0.0)])
    verdict = (
        f"The adapter holds the change of {len(drawn.fits)} linear layers with an error of {fit.percent(linear)}: "
        f"{fit.energy(linear)} of their energy, {fit.energy(total)} of that of the whole change."
    )
    weights, _ = folder.cast(drawn.weights, config.export_dtype)
    whole = _whole(modules, found.tuned, drawn, weights)
    facts = {
        "error": linear,
        "total_error": total,
        "left_out": drawn.left,
        "modules": {each.module: each.error for each in drawn.fits},
    }
    return Made(
        weights, _stated(config, modules, drawn, whole), found.tuned, verdict,
        (*fit.sections(drawn.fits), *_others(drawn)), facts,
    )  # fmt: skip


def _whole(modules: Modules, tuned: Path, drawn: Drawn, weights: Weights) -> list[str]:
    """Names of the modules kept whole. A tied head changes with its embedding, and PEFT wants to be told of both."""
    whole = sorted(set(map(_module_of, drawn.kept)))
    head = modules.get(HEAD)
    if head is None or f"{HEAD}.weight" in tensors(tuned):
        return whole
    for name in whole:  # a head that is not stored is the embedding of its shape
        module = modules[name]
        if isinstance(module, nn.Embedding) and module.weight.shape == head.weight.shape:
            weights[f"{PEFT_PREFIX}{HEAD}.weight"] = weights[f"{PEFT_PREFIX}{name}.weight"].clone()
            return [*whole, HEAD]
    return whole


def _stated(config: AdapterConfig, modules: Modules, drawn: Drawn, whole: list[str]) -> dict[str, Any]:
    """adapter_config.json: alpha is the rank everywhere, so that nothing scales what was found."""
    rank = max(each.rank for each in drawn.fits)
    smaller = {each.module: each.rank for each in drawn.fits if each.rank != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "rank_pattern": smaller,
        "alpha_pattern": smaller,
        "bias": "none",
        "init_lora_weights": True,
        "fan_in_fan_out": any(isinstance(modules[each.module], Conv1D) for each in drawn.fits),
        "target_modules": _targets(modules, {each.module for each in drawn.fits}),
        "modules_to_save": whole or None,
    }


def _targets(modules: Modules, changed: set[str]) -> list[str]:
    """Short names where they mean exactly the modules that changed, else full ones."""
    alike: dict[str, set[str]] = {}
    for name in modules:
        alike.setdefault(name.rpartition(".")[2], set()).add(name)
    kinds = {name.rpartition(".")[2] for name in changed}
    short = {kind for kind in kinds if alike[kind] <= changed}
    return sorted(short | {name for name in changed if name.rpartition(".")[2] not in short})


def _others(drawn: Drawn) -> tuple[Section, ...]:
    """What is in the adapter besides A and B, and what is not in it at all."""
    told = {
        "Kept whole": ("These are in the adapter as they are in the fine-tuned model.", drawn.kept),
        "Left out": ("These changed too and are not in the adapter: additional_target keeps them.", drawn.left),
    }
    return tuple(
        Section(title, text, table=Table(("weight", "length of its change"), _largest(norms)))
        for title, (text, norms) in told.items()
        if norms
    )


def _largest(norms: Mapping[str, float]) -> tuple[tuple[str, str], ...]:
    rows = sorted(norms.items(), key=lambda item: -item[1])
    more = [("all others together", f"{math.hypot(*(norm for _, norm in rows[SHOWN:])):.3g}")] if rows[SHOWN:] else []
    return tuple([*((name, f"{norm:.3g}") for name, norm in rows[:SHOWN]), *more])
