"""Model and adapter folders, looked at without loading them: names, completeness, size.

Reads JSON and safetensors headers only. What it does not do: hub downloads, and proof that weights are good.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from studio.errors import ModelError
from studio.files import read_record
from studio.settings import ASSETS

# what reading a field of a file that somebody else wrote can raise
MALFORMED = (struct.error, ValueError, LookupError, ArithmeticError, TypeError, AttributeError, RecursionError)
BUNDLED = "seedling"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
TOKENIZER_PATTERNS = ("*token*", "vocab*", "merges*", "*chat_template*", "config.json", "*.model", "*.py")
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"  # as older PEFT wrote it
PEFT_PREFIX, LORA_A, LORA_B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
LAYER = re.compile(r"\.(?:layers|layer|h|blocks)\.(\d+)\.")
MARK_BYTES = 4096
HEADER_MAX_BYTES = 100_000_000  # the format's own limit; a larger figure means the file is no safetensors


@dataclass(frozen=True)
class ModelInfo:
    """What a complete model folder says of itself. `parameters` counts stored weights."""

    path: Path
    architecture: str
    parameters: int
    dtype: str
    max_position_embeddings: int | None
    has_chat_template: bool


@dataclass(frozen=True)
class AdapterInfo:
    """What an adapter folder says of itself. `base` is a path or hub id, resolved on this machine.

    `kind` is PEFT's name: LORA, IA3, …; `rank` is 0 for kinds that have none. `config` is adapter_config.json.
    """

    path: Path
    rank: int
    base: str
    kind: str = "LORA"
    config: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


def resolve(name: str) -> str:
    """A model name as a person gives it: the bundled model's or a local folder's absolute path, or a hub id."""
    if name == BUNDLED:
        return str(ASSETS / BUNDLED)
    path = Path(os.path.expanduser(name))
    return os.path.abspath(path) if path.is_absolute() or os.path.exists(path) or name.startswith(".") else name


def display_name(name: str) -> str:
    """The short form of a resolved name for lists and labels; the inverse of `resolve` for the bundled model."""
    return BUNDLED if name == str(ASSETS / BUNDLED) else name


def is_local(name: str) -> bool:
    """Whether a resolved name is a folder rather than a hub id."""
    return Path(name).is_absolute()


def folder_of(name: str) -> Path | None:
    """The folder of a model as a person names it, or of a hub id in the cache; None where it is not here."""
    resolved = resolve(name)
    if is_local(resolved):
        return Path(resolved) if os.path.isdir(resolved) else None
    repository = _hub_cache() / f"models--{resolved.replace('/', '--')}"
    try:
        revision = (repository / "refs/main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    folder = repository / "snapshots" / revision
    return folder if revision and folder.is_dir() else None


def tokenizer_fingerprint(folder: Path) -> str:
    """Changes whenever the tokenizer of a model folder or its chat template does."""
    files = sorted(path for pattern in TOKENIZER_PATTERNS for path in folder.glob(pattern))
    states = [(str(path.relative_to(folder)), status.st_size, status.st_mtime_ns) for path, status in _stats(files)]
    return hashlib.sha256(json.dumps([str(folder.resolve()), states]).encode()).hexdigest()[:24]


def within_context(folder: Path, cutoff_len: int) -> int:
    """`cutoff_len`, or the most tokens that the model of `folder` takes where that is less."""
    return min(cutoff_len, _context(read_record(folder / "config.json")) or cutoff_len)


def check(folder: Path) -> ModelInfo:
    """Look at a model folder: config, tokenizer and every weight file's header.

    Raises:
        ModelError: naming the file that is missing or damaged.
    """
    config = _json(folder, "config.json", "a model folder")
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise ModelError(f"{folder} has no tokenizer ({', '.join(TOKENIZER_FILES)}): copy the model's again")
    headers = [read_header(folder / name) for name in weight_files(folder)]
    tensors = [tensor for header in headers for tensor in header.values()]
    architectures = config.get("architectures")
    return ModelInfo(
        path=folder,
        architecture=str(architectures[0]) if isinstance(architectures, list) and architectures else "unknown",
        parameters=sum(math.prod(tensor["shape"]) for tensor in tensors),
        dtype=tensors[0]["dtype"] if tensors else "unknown",
        max_position_embeddings=_context(config),
        has_chat_template=chat_template(folder) is not None,
    )


def check_adapter(folder: Path) -> AdapterInfo:
    """Look at the folder of a LoRA adapter.

    Raises:
        ModelError: it holds another kind of adapter, or a file is missing or damaged, which is named.
    """
    info = adapter_info(folder)
    if info.kind != "LORA":
        raise ModelError(f"{folder} holds a {info.kind} adapter; only LoRA adapters are supported")
    return info


def adapter_info(folder: Path) -> AdapterInfo:
    """Look at the folder of an adapter of any of PEFT's kinds.

    Raises:
        ModelError: naming the file that is missing or damaged.
    """
    config = _json(folder, "adapter_config.json", "an adapter folder")
    kind = str(config.get("peft_type"))
    if not (folder / ADAPTER_WEIGHTS).exists() and (folder / PICKLED).exists():
        raise ModelError(
            f"{folder} holds {PICKLED}, which is a program as much as it is data and is not opened here: load the "
            f"adapter where you trust it and save it again with PEFT's save_pretrained, which writes {ADAPTER_WEIGHTS}"
        )
    read_header(folder / ADAPTER_WEIGHTS)
    try:
        rank = _largest_rank(config) if kind == "LORA" else 0
        return AdapterInfo(path=folder, rank=rank, base=_base_of(folder, config), kind=kind, config=config)
    except MALFORMED as error:
        raise ModelError(f"{folder / 'adapter_config.json'} is damaged ({error}): copy the adapter again") from error


def fingerprint(adapter: Path) -> str:
    """Changes whenever an adapter's weights or its configuration do. Reads all of them: a second for a gigabyte.

    Raises:
        ModelError: a file is missing.
    """
    paths = [adapter / name for name in ("adapter_config.json", ADAPTER_WEIGHTS)]
    try:
        return _digest(tuple(paths), tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in paths))
    except OSError as error:
        raise ModelError(f"{error.filename} cannot be read: {error.strerror}") from error


def weights_fingerprint(folder: Path) -> str:
    """Which weights a model folder holds, told by names, shapes and some bytes of every tensor: a tenth of a second.

    The same weights split into other files have the same one.

    Raises:
        ModelError: a weight file is missing or damaged.
    """
    marks = sorted(mark for name in weight_files(folder) for mark in _marks(folder / name))
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest()


def is_untrained(adapter: Path) -> bool:
    """Whether a LoRA adapter changes nothing: all its B are zero, as they are before the first step.

    Raises:
        ModelError: its file is missing or damaged.
    """
    path = adapter / ADAPTER_WEIGHTS
    header = read_header(path)
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        for name in (name for name in header if name.endswith(LORA_B)):
            start, end = header[name]["data_offsets"]
            file.seek(8 + length + start)
            if file.read(end - start).strip(b"\0"):
                return False
    return True


def misfit(adapter: Path, base: Path) -> str | None:
    """Why an adapter's weights cannot have been trained on the model in `base`, in words; None where they can.

    Raises:
        ModelError: a file of either is missing or damaged.
    """
    changes = read_header(adapter / ADAPTER_WEIGHTS)
    own = {name: tensor for file in weight_files(base) for name, tensor in read_header(base / file).items()}
    layers = _entry(_text_config(read_record(base / "config.json")), "num_hidden_layers")
    for name in (name for name in changes if name.endswith(LORA_A)):
        module = name.removesuffix(LORA_A).removeprefix(PEFT_PREFIX)
        number = LAYER.search(module)
        if number and isinstance(layers, int) and int(number[1]) >= layers:
            return f"it changes layer {number[1]}, and the model has layers 0 to {layers - 1}"
        shape = _changed_shape(changes, name)
        there = own.get(f"{module}.weight", {}).get("shape", ())
        if len(there) != 2 or f"{PEFT_PREFIX}{module}.base_layer.weight" in changes:
            continue  # no linear layer, or one that grew with the vocabulary and comes along whole
        if shape and sorted(there) != sorted(shape):  # GPT-2 stores its weights the other way around
            return f"{module} is {there} in the model and {shape} in the adapter"
    return None


def chat_template(folder: Path) -> str | None:
    """The chat template in a model or adapter folder; of several the one for chats without tools.

    Raises:
        ModelError: a file that should hold it is damaged.
    """
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'chat_template.jinja'} cannot be read ({error}): copy it again") from error
    config = folder / "tokenizer_config.json"
    own = _json(folder, config.name, "a model folder").get("chat_template") if config.exists() else None
    if isinstance(own, list):
        own = next((_entry(each, "template") for each in own if _entry(each, "name") == "default"), None)
    return own if isinstance(own, str) else None


def added_tokens(folder: Path) -> Mapping[str, int]:
    """Texts that the tokenizer in `folder` never splits, with their ids; empty where that cannot be told."""
    path = folder / "tokenizer.json"
    try:
        return _added_tokens(path, path.stat().st_mtime_ns)
    except (OSError, *MALFORMED):
        return {}


def end_token(folder: Path) -> str | None:
    """What the tokenizer in `folder` ends an answer with; None where it does not say."""
    path = folder / "tokenizer_config.json"
    end = _json(folder, path.name, "a model folder").get("eos_token") if path.exists() else None
    text = _entry(end, "content") or end
    return text if isinstance(text, str) else None


def weight_files(folder: Path) -> list[str]:
    """Names of a model's safetensors files: model.safetensors, or those that the index names.

    Raises:
        ModelError: none there, or one of the index's is missing.
    """
    names = _indexed(folder) if (folder / WEIGHTS_INDEX).exists() else [WEIGHTS]
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:8])
        raise ModelError(f"{folder} lacks {', '.join(missing)}; it has: {found}. Copy the whole model again")
    return names


def read_header(path: Path) -> dict[str, Any]:
    """Tensor name -> {dtype, shape, data_offsets} of one safetensors file, checked against the file's length.

    Raises:
        ModelError: the file is missing, cut short or no safetensors.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(HEADER_MAX_BYTES, size):
                raise ModelError(f"{path} is damaged: its header is cut short. Copy or download it again")
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            expected = 8 + length + _data_bytes(header)
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing") from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except MALFORMED as error:
        raise ModelError(f"{path} is damaged: it has no readable header. Copy or download it again") from error
    if size != expected:
        raise ModelError(f"{path} is damaged: {size} bytes where its header says {expected}. Copy it again")
    return cast(dict[str, Any], header)


def local_models(folders: list[Path]) -> list[Path]:
    """Model folders (those with a config.json) directly in `folders` or one level below, by name."""
    return sorted({path.parent for folder in folders for path in _config_files(folder)})


def cached_hub_ids() -> list[str]:
    """Hub ids whose files are in the Hugging Face cache of this machine."""
    folders = _hub_cache().glob("models--*/snapshots/*/config.json")
    return sorted({path.parts[-4].removeprefix("models--").replace("--", "/") for path in folders})


@lru_cache(maxsize=8)
def _added_tokens(path: Path, changed_ns: int) -> Mapping[str, int]:
    """Large vocabularies take a quarter of a second to read, so they are read once."""
    tokens = json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
    return {str(token["content"]): int(token["id"]) for token in tokens}


@lru_cache(maxsize=64)
def _digest(paths: tuple[Path, ...], states: tuple[tuple[int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _marks(path: Path) -> Iterator[tuple[str, str, list[int], str]]:
    """Name, type, shape and the hash of the middle of every tensor of a file."""
    header = read_header(path)
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        for name, tensor in header.items():
            start, end = tensor["data_offsets"]
            size = min(end - start, MARK_BYTES)
            data = os.pread(file.fileno(), size, 8 + length + (start + end - size) // 2)
            yield name, tensor["dtype"], tensor["shape"], hashlib.sha256(data).hexdigest()


def _hub_cache() -> Path:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")


def _stats(files: list[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """Of files that vanish meanwhile there is none."""
    for path in files:
        with suppress(OSError):
            yield path, path.stat()


def _config_files(folder: Path) -> Iterator[Path]:
    for pattern in ("config.json", "*/config.json", "*/*/config.json"):
        yield from folder.glob(pattern)


def _data_bytes(header: dict[str, Any]) -> int:
    """Bytes of data behind a header, whose tensors must follow one another without gap or overlap.

    Raises:
        MALFORMED: they do not, or are no tensors.
    """
    end = 0
    for tensor in sorted(header.values(), key=lambda tensor: tensor["data_offsets"]):
        start, stop = tensor["data_offsets"]
        if start != end or stop - start != _tensor_bytes(tensor):
            raise ValueError("tensors overlap, or their shapes do not fit their bytes")
        end = stop
    return end


def _tensor_bytes(tensor: dict[str, Any]) -> int:
    """By dtype and shape; sub-byte types are rounded up. The dtype's name ends in its bits: BF16, F8_E4M3."""
    if any(size < 0 for size in tensor["shape"]):
        raise ValueError("a negative shape")
    bits = 8 if tensor["dtype"] == "BOOL" else int(re.findall(r"\d+", tensor["dtype"])[0])
    return int((math.prod(tensor["shape"]) * bits + 7) // 8)


def _indexed(folder: Path) -> list[str]:
    names = _entry(_json(folder, WEIGHTS_INDEX, "a model folder"), "weight_map")
    files = set(names.values()) if isinstance(names, dict) else set()
    if not files or not all(isinstance(name, str) and name == Path(name).name for name in files):
        raise ModelError(f"{folder / WEIGHTS_INDEX} names no weight files of this folder: copy it again")
    return sorted(files)


def _context(config: dict[str, Any]) -> int | None:
    text = _text_config(config)
    limit = _entry(text, "max_position_embeddings")
    return int(limit * _stretch(text)) if isinstance(limit, int) and limit > 0 else None


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a model's config.json that is about text: a part of its own where the model can also see."""
    part = config.get("text_config")
    return part if isinstance(part, dict) and part else config


def _changed_shape(changes: dict[str, Any], name: str) -> list[int] | None:
    """[out, in] of the weight whose LoRA A is called `name`."""
    b = changes.get(name.removesuffix(LORA_A) + LORA_B)
    return [b["shape"][0], changes[name]["shape"][1]] if b else None


def _stretch(config: dict[str, Any]) -> float:
    """How many times max_position_embeddings a model takes: these ways of stretching leave that entry as it was."""
    rope = _entry(config, "rope_parameters") or _entry(config, "rope_scaling")
    kind, factor = _entry(rope, "rope_type") or _entry(rope, "type"), _entry(rope, "factor")
    is_stretched = kind in ("linear", "dynamic") and isinstance(factor, int | float) and factor >= 1
    return float(factor) if is_stretched else 1.0


def _entry(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None


def _json(folder: Path, name: str, kind: str) -> dict[str, Any]:
    if not os.path.isdir(folder):
        raise ModelError(f"{folder} is not a folder on this machine: check the path")
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} is not {kind}: it has no {name}") from error
    except OSError as error:
        raise ModelError(f"{folder / name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{folder / name} is not valid JSON ({error}): copy it again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{folder / name} should hold a JSON object")
    return value


def _largest_rank(config: dict[str, Any]) -> int:
    ranks = [config.get("r", 0), *(config.get("rank_pattern") or {}).values()]
    if (rank := max(int(rank) for rank in ranks)) < 1:
        raise ValueError(f"rank {rank}")
    return rank


def _base_of(folder: Path, config: dict[str, Any]) -> str:
    """base.json keeps the name as the person gave it, so an adapter survives a moved installation."""
    base = _json(folder, "base.json", "an adapter folder") if (folder / "base.json").exists() else {}
    names = [base.get("name"), base.get("path"), config.get("base_model_name_or_path")]
    resolved = [resolve(name) for name in names if name]
    if not resolved:
        raise ModelError(f"{folder} does not say which model it belongs to (base_model_name_or_path is empty)")
    return next((name for name in resolved if os.path.isdir(name)), resolved[0])
