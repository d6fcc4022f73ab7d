"""What an adapter's folder says of itself: its options, and every key of its weights. Reads headers only.

A key that has no place here, and an option that asks for arithmetic which is not written down in this package, is
refused by name: a merge that leaves something out looks just like one that does not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import models
from studio.errors import ModelError, some
from studio.worker.merging.work import Source

PREFIX = "base_model.model."
WRAPPED = ".base_layer"  # what PEFT puts between a wrapped module and its own weights
ROLES = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_B.bias": "bias",
    ".lora_embedding_A": "a",
    ".lora_embedding_B": "b",
    ".lora_magnitude_vector": "magnitude",
    ".token_adapter.trainable_tokens_delta": "tokens",
}
EMBEDDING = ".lora_embedding_A"
NAMED = re.compile(r"\.lora_[AB]\.(\w+)\.weight$")
# options that the arithmetic covers, and such as only matter while training
COVERED = frozenset(
    {"r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "use_dora", "lora_bias", "bias"}
    | {"modules_to_save", "trainable_token_indices", "target_parameters", "fan_in_fan_out", "ensure_weight_tying"}
    | {"init_lora_weights", "eva_config", "corda_config", "loftq_config", "lora_ga_config", "lora_dropout"}
    | {"peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"}
    | {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "inference_mode"}
    | {"megatron_core", "qalora_group_size", "runtime_config"}
)
UNALTERED = (True, False, None, "gaussian", "eva", "orthogonal", "mica")  # starts that leave the base as it was
UNDONE = ("pissa", "olora")  # starts that take from the base what can be computed again from the base alone
LEFT_OUT = (".original_module.",)  # a copy of the base's own weights beside the trained ones


@dataclass(frozen=True)
class Held:
    """A tensor of an adapter, by its header."""

    source: Source
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Layer:
    """What an adapter holds for one module of the model: tensors by role (a, b, bias, magnitude, tokens)."""

    module: str
    tensors: Mapping[str, Held]
    is_embedding: bool

    @property
    def name(self) -> str:
        """The module's name in the model, where several adapted parameters of one module are wrapped in each other."""
        return self.module.replace(WRAPPED, "")

    @property
    def keys(self) -> list[str]:
        return [stored.source.name for stored in self.tensors.values()]


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter: its options as PEFT spells them, its layers, and the tensors that it holds whole.

    Of the whole ones, by their names in the model, `copied` are those that only come along because an embedding was
    adapted or resized; `trained` are the others.
    """

    folder: Path
    options: Mapping[str, Any]
    layers: tuple[Layer, ...]
    copied: Mapping[str, Held]
    trained: Mapping[str, Held]

    @property
    def start(self) -> str | None:
        """The start to be undone in the base, where there is one."""
        value = self.options.get("init_lora_weights")
        return value if value in UNDONE else None

    def scale(self, name: str, rank: int) -> float:
        """What B A is multiplied by for a module or parameter of that name.

        Raises:
            ModelError: the weights have another rank than the options say.
        """
        stated = _by_pattern(self.options.get("rank_pattern"), name, self.options["r"])
        if rank != stated:
            raise ModelError(f"{name} has rank {rank} in the adapter's weights, {stated} in adapter_config.json")
        alpha = _by_pattern(self.options.get("alpha_pattern"), name, self.options.get("lora_alpha", 8))
        return float(alpha / math.sqrt(rank) if self.options.get("use_rslora") else alpha / rank)

    def token_rows(self, name: str) -> tuple[int, ...]:
        """The rows of the embedding or head called `name` that were trained one by one."""
        stated = self.options.get("trainable_token_indices") or {}
        if isinstance(stated, dict):
            found = (rows for key, rows in stated.items() if name == key or name.endswith(f".{key}"))
            return tuple(next(found, ()))
        return tuple(stated)

    def is_listed(self, name: str) -> bool:
        """Whether modules_to_save names the module that has the tensor `name`, or one around it: by its last letters.

        PEFT takes ["head"] for lm_head, too.
        """
        parts = name.split(".")[:-1]
        around = [".".join(parts[: length + 1]) for length in range(len(parts))]
        return any(module.endswith(tuple(self.options.get("modules_to_save") or ())) for module in around)


def read(folder: Path) -> Adapter:
    """An adapter, inventoried.

    Raises:
        ModelError: naming the options or keys that this merge does not cover, or the file that is damaged.
    """
    options = models.check_adapter(folder).config
    _require_covered(options)
    path = folder / models.ADAPTER_WEIGHTS
    header = models.read_header(path)
    _require_plain(path, header)
    stored = {key: Held(Source(path, key), tuple(h["shape"]), h["dtype"]) for key, h in header.items()}
    layers = tuple(_layers(stored, options))
    taken = {key for layer in layers for key in layer.keys}
    whole = {key: tensor for key, tensor in stored.items() if key not in taken and not _is_left_out(key, stored)}
    if not layers and not whole:
        raise ModelError(f"{folder} holds no weights")
    adapter = Adapter(folder, options, layers, {}, {})
    copied = {key for key in whole if _is_copy(key, adapter)}
    return Adapter(
        folder,
        options,
        layers,
        copied={_plain(key): whole[key] for key in whole if key in copied},
        trained={_plain(key): whole[key] for key in whole if key not in copied},
    )


def require_stored_base(options: Mapping[str, Any]) -> None:
    """The adapter was trained on the model that its base stores, or on one that can be computed from it.

    Raises:
        ModelError: it was not, so that even PEFT, which does not look, would merge it wrongly.
    """
    start = options.get("init_lora_weights", True)
    if start not in UNALTERED and start not in UNDONE:
        raise ModelError(
            f"init_lora_weights: the adapter began with {start}, which changed the base's weights by what only its "
            "training knew, so it fits no stored model. Convert it to a plain LoRA where it was trained "
            "(save_pretrained with path_initial_model_for_weight_conversion), or merge into the changed base that was "
            "saved with it, with init_lora_weights: true in adapter_config.json"
        )
    if options.get("layer_replication"):
        raise ModelError(
            "layer_replication: the adapter was trained on a model whose layers share their weights, and no merged "
            "model can be stored so: serve it as an adapter, or train one without it"
        )


def _require_covered(options: Mapping[str, Any]) -> None:
    require_stored_base(options)
    special = sorted(
        key for key, value in options.items() if key not in COVERED and value not in (None, False, [], {}, "")
    )
    if special:
        raise ModelError(
            f"the adapter uses {', '.join(special)}, which this merge does not cover and will not guess at: "
            "set merge_method: full_memory to have PEFT merge it, serve it as an adapter, or train one without it"
        )


def _require_plain(path: Path, keys: Iterable[str]) -> None:
    """PEFT leaves the adapter's own name out of the keys when it saves them."""
    for key in keys:
        if match := NAMED.search(key):
            raise ModelError(
                f"{path} has the adapter's name in its keys ({key}), as a state_dict() has that was not saved by PEFT: "
                f"save the adapter with PEFT's save_pretrained, or take .{match[1]} out of every key"
            )


def _layers(stored: Mapping[str, Held], options: Mapping[str, Any]) -> Iterator[Layer]:
    found: dict[str, dict[str, Held]] = {}
    embeddings = set()
    for key, tensor in stored.items():
        suffix = next((suffix for suffix in ROLES if key.endswith(suffix)), None)
        if suffix:
            module = key.removesuffix(suffix)
            found.setdefault(module, {})[ROLES[suffix]] = tensor
            embeddings |= {module} if suffix == EMBEDDING else set()
    for module, tensors in found.items():
        layer = Layer(module.removeprefix(PREFIX), tensors, module in embeddings)
        _require_complete(layer, options)
        yield layer


def _require_complete(layer: Layer, options: Mapping[str, Any]) -> None:
    """What a module is trained by is all there, and nothing besides it."""
    wanted = {"a", "b"}
    if "tokens" in layer.tensors:
        wanted = {"tokens"}
    elif options.get("use_dora"):
        wanted |= {"magnitude"}
    if options.get("lora_bias") and "b" in wanted and not layer.is_embedding:
        wanted |= {"bias"}
    if strange := wanted ^ set(layer.tensors):
        lacking = [f"{PREFIX}{layer.module} lacks its {role}" for role in sorted(wanted & strange)]
        spare = [key for role, key in zip(layer.tensors, layer.keys, strict=True) if role in strange]
        raise ModelError(f"the adapter has keys that make no LoRA with its options: {some(lacking + spare)}")


def _is_left_out(key: str, stored: Mapping[str, Held]) -> bool:
    return any(part in key and key.replace(part, ".") in stored for part in LEFT_OUT)


def _is_copy(key: str, adapter: Adapter) -> bool:
    """Embeddings come along when they are adapted or resized; whole biases and modules_to_save are trained."""
    return key.endswith(".weight") and not adapter.is_listed(_plain(key))


def _plain(key: str) -> str:
    return key.removeprefix(PREFIX).replace(f"{WRAPPED}.", ".").replace(".modules_to_save.", ".")


def _by_pattern(patterns: Mapping[str, Any] | None, name: str, otherwise: Any) -> Any:
    """The value of the first pattern that matches the end of `name`, as PEFT reads them."""
    matching = (value for pattern, value in (patterns or {}).items() if re.match(rf"(.*\.)?({pattern})$", name))
    return next(matching, otherwise)
