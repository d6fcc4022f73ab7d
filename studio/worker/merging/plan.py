"""What a merge will do to every weight of the base, read from headers alone.

Every key of the adapter must belong to a weight of the base and fit it, and whatever the adapter's configuration asks
for beyond plain LoRA is refused by name, because a merge that is silently wrong is worse than none.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key

from studio import models
from studio.errors import ModelError
from studio.files import read_json
from studio.worker.methods import base

PREFIX = "base_model.model."
MAGNITUDE = ".lora_magnitude_vector"
NAMES = {dtype: name for name, dtype in base.STORED.items()}
# options of PEFT's LoRA that the arithmetic here covers, or that only matter while training
UNDERSTOOD = frozenset(
    {"peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "r"}
    | {"lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern", "inference_mode"}
    | {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "megatron_core"}
    | {"qalora_group_size", "runtime_config", "use_dora", "modules_to_save"}
)
ENDS = ("embed_tokens.weight", "lm_head.weight", "wte.weight")
PLAIN_INITS = (True, False, "gaussian")  # the others change the base's weights too


@dataclass(frozen=True)
class Delta:
    """The change of one weight: `scale` * B @ A, with the names of A [rank, in] and B [out, rank].

    DoRA's `magnitude` [out] is then the length of each line of the changed weight; None where lengths follow.
    """

    a: str
    b: str
    scale: float
    magnitude: str | None


@dataclass(frozen=True)
class Tensor:
    """One weight to write: where it comes from, its shape and type on disk, and its change if it has one.

    `trained` is its key in the adapter, where it was trained whole.
    """

    name: str
    source: Path
    shape: tuple[int, ...]
    dtype: str
    stored: str
    delta: Delta | None
    trained: str | None = None

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * _width(self.dtype)


def plan(folder: Path, adapter: Path, export_dtype: str) -> list[Tensor]:
    """Every weight of the base with what the adapter does to it; reads headers only.

    Raises:
        ModelError: naming the options or keys of the adapter that cannot be merged, or do not fit the base.
    """
    config = _adapter_config(adapter)
    _refuse_quantised(folder)
    found = {
        name: (folder / file, header)
        for file in models.weight_files(folder)
        for name, header in models.read_header(folder / file).items()
    }
    changes = models.read_header(adapter / "adapter_model.safetensors")
    shapes = {name: header["shape"] for name, (_, header) in found.items()}
    whole = _whole(changes, shapes, folder) if config.modules_to_save else {}
    deltas = _deltas(config, {key: header for key, header in changes.items() if key not in whole.values()})
    _check_fit(deltas, shapes, adapter)
    return [
        Tensor(
            name=name,
            source=source,
            shape=tuple(header["shape"]),
            dtype=_written(header["dtype"], export_dtype),
            stored=header["dtype"],
            delta=deltas.get(name, (None, None))[0],
            trained=whole.get(name),
        )
        for name, (source, header) in found.items()
    ]


def _adapter_config(adapter: Path) -> LoraConfig:
    """The adapter's configuration, refused if it asks for anything that is not plain LoRA."""
    models.check_adapter(adapter)
    stated = read_json(adapter / "adapter_config.json") or {}
    defaults = {field.name: field.default for field in dataclasses.fields(LoraConfig)}
    special = sorted(
        key
        for key, value in stated.items()
        if key not in UNDERSTOOD
        and value not in (None, False, [], {}, defaults.get(key))
        and not (key == "init_lora_weights" and value in PLAIN_INITS)
    )
    if special:
        raise ModelError(
            f"the adapter uses {', '.join(special)}, which this merge does not cover and will not guess at: "
            "serve it as an adapter, or train one without it"
        )
    known = {key: value for key, value in stated.items() if key in defaults}
    return LoraConfig(**{key: value for key, value in known.items() if key != "runtime_config"})


def _refuse_quantised(folder: Path) -> None:
    if (read_json(folder / "config.json") or {}).get("quantization_config"):
        raise ModelError(f"{folder} is quantised: merge into the 16-bit model that it was made from")


def _whole(changes: dict[str, Any], shapes: dict[str, list[int]], folder: Path) -> dict[str, str]:
    """Weights of the base that were trained whole, with their keys in the adapter."""
    named = {key.removeprefix(PREFIX): key for key, header in changes.items() if ".lora_" not in key}
    whole = {name: key for name, key in named.items() if shapes.get(name) == changes[key]["shape"]}
    tied = (read_json(folder / "config.json") or {}).get("tie_word_embeddings")
    if ends := [name for name in whole if tied and name.endswith(ENDS)]:
        raise ModelError(
            f"{_some(ends)} was trained as embedding or head alone, and the base has one weight for both: merged, it "
            "would change both"
        )
    return whole


def _deltas(config: LoraConfig, header: dict[str, Any]) -> dict[str, tuple[Delta, tuple[int, int]]]:
    """Weight name -> its change and the shape [out, in] that this change has."""
    modules = {key.partition(".lora_")[0] for key in header if ".lora_" in key}
    pairs = {module: (f"{module}.lora_A.weight", f"{module}.lora_B.weight") for module in modules}
    expected = {key for pair in pairs.values() for key in pair}
    expected |= {f"{module}{MAGNITUDE}" for module in modules if config.use_dora}
    if strange := sorted(expected ^ set(header)):
        raise ModelError(f"the adapter has keys that are no LoRA pair on a linear layer: {_some(strange)}")
    return {
        module.removeprefix(PREFIX) + ".weight": _delta(config, module.removeprefix(PREFIX), a, b, header)
        for module, (a, b) in pairs.items()
    }


def _delta(config: LoraConfig, module: str, a: str, b: str, header: dict[str, Any]) -> tuple[Delta, tuple[int, int]]:
    rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern, module), config.r)
    alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern, module), config.lora_alpha)
    (rank_a, columns), (lines, rank_b) = header[a]["shape"], header[b]["shape"]
    if not rank == rank_a == rank_b:
        raise ModelError(f"{module} has rank {rank_a} in the adapter's weights, {rank} in adapter_config.json")
    scale = alpha / math.sqrt(rank) if config.use_rslora else alpha / rank
    magnitude = f"{PREFIX}{module}{MAGNITUDE}" if config.use_dora else None
    return Delta(a, b, scale, magnitude), (lines, columns)


def _check_fit(deltas: dict[str, tuple[Delta, tuple[int, int]]], shapes: dict[str, list[int]], adapter: Path) -> None:
    """Every change must meet a weight of its shape: an adapter half of which is ignored is a wrong merge."""
    if not deltas:
        raise ModelError(f"{adapter} holds no weights")
    if homeless := sorted(set(deltas) - set(shapes)):
        raise ModelError(
            f"the base has no weights for {_some(homeless)}. Is it the model that the adapter was trained on? "
            "(A tied lm_head has no weight of its own and cannot be merged.)"
        )
    misfits = [name for name, (_, shape) in deltas.items() if shapes[name] != list(shape)]
    if misfits:
        name = misfits[0]
        raise ModelError(f"{name} is {shapes[name]} in the base and {list(deltas[name][1])} in the adapter")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _written(stored: str, export_dtype: str) -> str:
    """The type on disk of a tensor: floating point ones follow the request, others stay."""
    if export_dtype == "auto" or stored not in base.STORED:
        return stored
    return NAMES[getattr(torch, export_dtype)]


def _width(dtype: str) -> int:
    return int("".join(filter(str.isdigit, dtype)) or 8) // 8  # F32, BF16, I64; BOOL is a byte
