"""One LoRA adapter folded into its base, tensor by tensor, without loading the model.

Plan first: every key of the adapter must belong to a weight of the base and fit it, and whatever the adapter's
configuration asks for beyond plain LoRA is refused by name, because a merge that is silently wrong is worse than
none. Then stream: at most one weight and its change are in memory. What comes out is compared with base plus
adapter before it gets its name.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import safe_open

from studio import models
from studio.config.load import load_run_config
from studio.config.merge import MergeConfig
from studio.errors import ModelError
from studio.files import read_json, write_json
from studio.worker import outputs, verification
from studio.worker.door import Desk
from studio.worker.methods import base

PREFIX = "base_model.model."
MAGNITUDE = ".lora_magnitude_vector"
NAMES = {dtype: name for name, dtype in base.STORED.items()}
SPARE_BYTES = 50_000_000  # tokenizer, configuration, reports
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


def merge(desk: Desk) -> None:
    """Merge as the run's config.yaml says and leave model/ and a report.

    Raises:
        SeedbedError: the adapter does not fit, holds what cannot be merged, or the result is not the same model.
    """
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, MergeConfig)
    shutil.rmtree(desk.run_dir / "tmp", ignore_errors=True)
    adapter = Path(config.adapter_name_or_path).resolve()
    desk.reporter.phase("planning", str(adapter))
    folder = base.find(config.model_name_or_path or models.check_adapter(adapter).base).path
    fingerprint = models.fingerprint(adapter)
    tensors = plan(folder, adapter, config.export_dtype)
    _require_room(desk.run_dir, tensors)
    with outputs.draft(desk.run_dir, "model", last_call=desk.requests.protect) as draft:
        desk.reporter.phase("merging")
        write(tensors, adapter, draft, config.export_size * 10**9, lambda done, total: _tell(desk, done, total))
        _copy_rest(folder, adapter, draft, config.export_dtype)
        desk.reporter.phase("verifying", "comparing answers of the merged model with base and adapter")
        report = verification.compare(folder, adapter, draft)
        verification.write(report, desk.run_dir)
        verification.require(report)
        desk.reporter.phase("saving")
    desk.reporter.result(
        output="model",
        bytes=sum(tensor.size_bytes for tensor in tensors),
        merged_weights=sum(bool(tensor.delta or tensor.trained) for tensor in tensors),
        kl=report.kl,
        max_difference=report.max_difference,
        adapter_sha256=fingerprint,
        stopped=False,
    )


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


def write(
    tensors: list[Tensor], adapter: Path, target: Path, shard_bytes: int, tell: Callable[[int, int], None]
) -> None:
    """Write the weights into shards of at most `shard_bytes` (one weight at least) and their index.

    `tell(done, total)` is called after every weight, in bytes.
    """
    shards = list(_shards(tensors, shard_bytes))
    total = sum(tensor.size_bytes for tensor in tensors)
    index: dict[str, str] = {}
    done = 0
    with safe_open(adapter / "adapter_model.safetensors", "pt") as changes:
        for number, shard in enumerate(shards, start=1):
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1 else "model.safetensors"
            with open(target / name, "wb") as file:
                _write_header(file, shard)
                for tensor in shard:
                    file.write(_bytes(_merged(tensor, changes)))
                    done += tensor.size_bytes
                    tell(done, total)
            index |= {tensor.name: name for tensor in shard}
    if len(shards) > 1:
        value = {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}
        write_json(target / "model.safetensors.index.json", value)


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


def _require_room(run_dir: Path, tensors: list[Tensor]) -> None:
    needed = sum(tensor.size_bytes for tensor in tensors) + SPARE_BYTES
    free = shutil.disk_usage(run_dir).free
    if needed > free:
        raise outputs.DiskFull(
            f"the merged model needs {needed / 1e9:.2f} GB and {run_dir} has {free / 1e9:.2f} GB left: free some"
        )


def _shards(tensors: list[Tensor], shard_bytes: int) -> Iterator[list[Tensor]]:
    shard: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if shard and size + tensor.size_bytes > shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(tensor)
        size += tensor.size_bytes
    yield shard


def _write_header(file: IO[bytes], shard: list[Tensor]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in shard:
        end = offset + tensor.size_bytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the format aligns the data to 8 bytes
    file.write(struct.pack("<Q", len(text)) + text)


def _merged(tensor: Tensor, changes: Any) -> torch.Tensor:
    with safe_open(tensor.source, "pt") as weights:
        weight: torch.Tensor = changes.get_tensor(tensor.trained) if tensor.trained else weights.get_tensor(tensor.name)
    if tensor.delta is not None:
        a, b = (changes.get_tensor(name).float() for name in (tensor.delta.a, tensor.delta.b))
        weight = torch.addmm(weight.float(), b, a, alpha=tensor.delta.scale)
        if tensor.delta.magnitude:
            weight *= (changes.get_tensor(tensor.delta.magnitude).float() / weight.norm(dim=1))[:, None]
    return weight.to(base.STORED[tensor.dtype]) if tensor.dtype in base.STORED else weight


def _bytes(tensor: torch.Tensor) -> Any:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _tell(desk: Desk, done: int, total: int) -> None:
    message = f"merging {done / 1e6:.0f}/{total / 1e6:.0f} MB"
    desk.reporter.step(done // 1_000_000, total // 1_000_000, eta_s=None, message=message)


def _copy_rest(folder: Path, adapter: Path, target: Path, export_dtype: str) -> None:
    """Configuration from the base; tokenizer, template and generation settings from the adapter where it has them."""
    config = read_json(folder / "config.json") or {}
    if export_dtype != "auto":
        config.pop("torch_dtype", None)
        config["dtype"] = export_dtype
    write_json(target / "config.json", config)
    has_tokenizer = any((adapter / name).exists() for name in models.TOKENIZER_FILES)
    outputs.copy_tokenizer(adapter if has_tokenizer else folder, target)
    for name in ("generation_config.json", "chat_template.jinja"):
        source = next((place / name for place in (adapter, folder) if (place / name).exists()), None)
        if source:
            shutil.copy2(source, target / name)
    for code in folder.glob("*.py"):  # models that bring their own code do not load without it
        shutil.copy2(code, target / code.name)
