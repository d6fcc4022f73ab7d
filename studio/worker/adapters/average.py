"""Several adapters of one base as one, whose change is the weighted sum of theirs.

The factors themselves are never averaged: the mean of B times the mean of A is another change, with every A meeting
every B. Stacked, the factors give the sum exactly; a cut to a smaller rank is the nearest there is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.utils.other import get_pattern_key

from studio.exports.adapter import PART
from studio.exports.report import Section, Table
from studio.models import PEFT_PREFIX, AdapterInfo
from studio.worker.adapters import factors, fit, folder
from studio.worker.adapters.factors import Factors
from studio.worker.adapters.fit import Fit
from studio.worker.adapters.folder import Made, Weights

Stated = Mapping[str, Any]  # an adapter_config.json


@dataclass(frozen=True)
class Part:
    """What one adapter does to one module: `keys` of its A and B, the tensors, and PEFT's `scale` of B @ A.

    `share` is what the adapter counts in the average.
    """

    keys: tuple[str, str]
    a: torch.Tensor
    b: torch.Tensor
    bias: torch.Tensor | None
    scale: float
    share: float

    @property
    def change(self) -> Factors:
        return Factors(self.b.flatten(1).double() * (self.scale * self.share), self.a.flatten(1).double())


def average(adapters: Sequence[AdapterInfo], shares: Sequence[float], rank: int | None, dtype: str) -> Made:
    """The sum of `shares` times the changes of `adapters`, exactly or, with `rank`, cut down to that.

    Raises:
        ModelError: the type cannot hold a weight of the result.
    """
    given = [_parts(info, share) for info, share in zip(adapters, shares, strict=True)]
    weights: Weights = {}
    fits: list[Fit] = []
    for module in sorted({module for parts in given for module in parts}):
        made, error = _sum(module, [parts[module] for parts in given if module in parts], rank, dtype)
        weights |= made
        fits.append(error)
    stated = _stated([info.config for info in adapters], {each.module: each.rank for each in fits})
    total = fit.error(fits)
    sections = (_inputs(adapters, shares), *fit.sections(fits))
    return Made(weights, stated, adapters[0].path, _verdict(stated["r"], total), sections, {"error": total})


def _parts(info: AdapterInfo, share: float) -> dict[str, Part]:
    """What an adapter does, by module."""
    weights = folder.read(info)
    found: dict[str, dict[str, str]] = {}
    for key in weights:
        if part := PART.fullmatch(key):
            found.setdefault(part["module"], {})["bias" if part["end"] == ".bias" else part["side"]] = key
    return {
        module: Part(
            (keys["A"], keys["B"]), weights[keys["A"]], weights[keys["B"]], weights.get(keys.get("bias", "")),
            _scale(info.config, module, weights[keys["A"]].shape[0]), share,
        )
        for module, keys in found.items()
    }  # fmt: skip


def _sum(module: str, parts: Sequence[Part], rank: int | None, dtype: str) -> tuple[Weights, Fit]:
    """The tensors of one module of the result, and how near they come."""
    first, (a, b) = parts[0], parts[0].keys
    wanted = factors.stacked([part.change for part in parts])
    found = factors.reduced(wanted, rank) if rank else wanted
    made = {
        a: found.a.reshape(found.rank, *first.a.shape[1:]),
        b: found.b.reshape(len(first.b), found.rank, *first.b.shape[2:]),
    }
    biases = [part.bias.double() * (part.scale * part.share) for part in parts if part.bias is not None]
    if biases:
        made[b.replace(".weight", ".bias")] = torch.stack(biases).sum(0)
    written, _ = folder.cast(made, folder.type_of(first.a) if dtype == "auto" else dtype)
    kept = Factors(written[b].flatten(1).double(), written[a].flatten(1).double())
    missing = factors.difference(wanted, kept).norm()
    return written, Fit(module.removeprefix(PEFT_PREFIX), found.rank, wanted.norm(), missing)


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """What PEFT multiplies B @ A by."""
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    alpha = patterns.get(get_pattern_key(patterns, module), config["lora_alpha"])
    return float(alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank)


def _stated(given: Sequence[Stated], ranks: Mapping[str, int]) -> dict[str, Any]:
    """The configuration of the result. Its alpha is its rank everywhere, so that nothing scales it once more."""
    common = max(ranks.values())
    other = {module: rank for module, rank in ranks.items() if rank != common}
    anywhere = {"exclude_modules": None, "layers_to_transform": None, "layers_pattern": None}
    return {
        **given[0],
        **anywhere,
        "r": common,
        "lora_alpha": common,
        "rank_pattern": other,
        "alpha_pattern": other,
        "use_rslora": False,
        "init_lora_weights": True,
        "lora_bias": any(each.get("lora_bias") for each in given),
        "target_modules": _targets(given, list(ranks)),
        "inference_mode": True,
    }


def _targets(given: Sequence[Stated], modules: list[str]) -> list[str]:
    """The short names of the inputs where these say it all, else the full names of the modules."""
    is_plain = all(
        isinstance(config.get("target_modules"), list)
        and not config.get("layers_to_transform")
        and not config.get("exclude_modules")
        for config in given
    )
    return sorted({name for config in given for name in config["target_modules"]}) if is_plain else modules


def _verdict(rank: int, error: float) -> str:
    kept = "exactly" if error < 1e-6 else f"with an error of {fit.percent(error)} of the change"
    return f"The average has rank {rank} and holds the sum of the changes {kept}."


def _inputs(adapters: Sequence[AdapterInfo], shares: Sequence[float]) -> Section:
    rows = [(str(info.path), str(info.rank), f"{share:.4g}") for info, share in zip(adapters, shares, strict=True)]
    return Section("Adapters", table=Table(("adapter", "rank", "share"), tuple(rows)))
