"""The layers of a model as far as memory depends on them, read from config.json and safetensors headers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from studio import models
from studio.errors import ModelError
from studio.files import read_record

LAYER = re.compile(r"\.(?:layers|h|blocks|block)\.(\d+)\.")
EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in", "tok_embeddings")
HEADS = ("lm_head", "embed_out")
PACKED = (".qweight", ".weight_packed")  # as GPTQ, AWQ and compressed-tensors name quantised matrices
OF_PACKED = (".scales", ".qzeros", ".g_idx", ".weight_scale", ".weight_zero_point", ".weight_shape", ".weight_g_idx")


@dataclass(frozen=True)
class Tensor:
    """One parameter. `layer` counts from 0; None outside of the layers. `module` is the last name of its module."""

    name: str
    shape: tuple[int, ...]
    bytes: int

    @cached_property
    def size(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def module(self) -> str:
        return self.name.rpartition(".")[0].rpartition(".")[2]

    @property
    def path(self) -> str:
        return self.name.rpartition(".")[0]

    @cached_property
    def layer(self) -> int | None:
        found = LAYER.search(self.name)
        return int(found[1]) if found else None

    @property
    def is_embedding(self) -> bool:
        return self.module in EMBEDDINGS

    @property
    def is_head(self) -> bool:
        return self.module in HEADS

    @cached_property
    def is_linear(self) -> bool:
        """Whether it is the matrix of a linear layer inside the model, as adapters and quantisation look for them."""
        inside = not (self.is_embedding or self.is_head)
        # routed experts are one tensor for all of them once they are loaded
        return inside and len(self.shape) == 2 and self.name.endswith(".weight") and ".experts." not in self.name


@dataclass(frozen=True)
class Shape:
    """A decoder. Widths in elements: `query` and `keys` of all heads together, `intermediate` of what one token uses.

    `kind` is what Transformers calls the architecture. `tensors` are the parameters that a loaded model has: a tied
    head is not there a second time.
    """

    kind: str
    layers: int
    hidden: int
    heads: int
    query: int
    keys: int
    intermediate: int
    vocabulary: int
    context: int | None
    gated: bool
    packed: bool
    attention_dropout: float
    tensors: tuple[Tensor, ...]

    @property
    def head_width(self) -> int:
        return self.query // self.heads

    @cached_property
    def parameters(self) -> int:
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def linear(self) -> tuple[Tensor, ...]:
        return tuple(tensor for tensor in self.tensors if tensor.is_linear)

    @cached_property
    def by_layer(self) -> dict[int | None, tuple[Tensor, ...]]:
        """The tensors of each layer; under None those of no layer."""
        found: dict[int | None, list[Tensor]] = {}
        for tensor in self.tensors:
            found.setdefault(tensor.layer, []).append(tensor)
        return {layer: tuple(tensors) for layer, tensors in found.items()}


def read(folder: Path) -> Shape:
    """The shape of the model in `folder`. Read again only when its config.json changes.

    Raises:
        ModelError: a file is missing or damaged, or the configuration is of no decoder.
    """
    try:
        status = (folder / "config.json").stat()
    except OSError as error:
        raise ModelError(f"{folder} is not a model folder: it has no config.json") from error
    return _read(folder, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _read(folder: Path, _mtime_ns: int, _size: int) -> Shape:
    config = read_record(folder / "config.json")
    headers = [models.read_header(folder / name) for name in models.weight_files(folder)]
    return of(config, {name: tensor for header in headers for name, tensor in header.items()})


def of(config: Mapping[str, Any], header: Mapping[str, Any]) -> Shape:
    """The shape that a config.json and the header of its weights describe.

    Raises:
        ModelError: the configuration lacks the sizes of a decoder.
    """
    text = config.get("text_config") or config
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    try:
        hidden, heads = int(_first(text, "hidden_size", "n_embd")), int(_first(text, "num_attention_heads", "n_head"))
        head_width = int(text.get("head_dim") or hidden // heads)
        query, keys = heads * head_width, int(text.get("num_key_value_heads") or heads) * head_width
        intermediate = _intermediate(text, hidden)
        tensors = tuple(_tensors(header, tied, _matrices(hidden, query, keys, intermediate)))
        return Shape(
            kind=str(config.get("model_type", "")),
            layers=int(_first(text, "num_hidden_layers", "n_layer")),
            hidden=hidden,
            heads=heads,
            query=query,
            keys=keys,
            intermediate=intermediate,
            vocabulary=int(text["vocab_size"]),
            context=text.get("max_position_embeddings"),
            gated=any("gate" in tensor.module for tensor in tensors),
            packed=any(name.endswith(PACKED[0]) for name in header),  # the other kind is unpacked for a training
            attention_dropout=float(text.get("attention_dropout") or 0),
            tensors=tensors,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"config.json does not give the sizes of a language model ({error})") from error


def _tensors(header: Mapping[str, Any], tied: bool, matrices: Mapping[str, tuple[int, ...]]) -> Iterable[Tensor]:
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensor = Tensor(name, tuple(entry["shape"]), end - begin)
        if name.endswith(PACKED):
            yield Tensor(f"{tensor.path}.weight", matrices.get(tensor.module, tensor.shape), end - begin)
        elif name.endswith(OF_PACKED):
            yield Tensor(name, (0,), end - begin)  # no parameters, but bytes
        elif not (tied and tensor.is_head):
            yield tensor


def _matrices(hidden: int, query: int, keys: int, intermediate: int) -> dict[str, tuple[int, ...]]:
    """What quantised matrices stand for, which their own shapes do not tell."""
    return {
        "q_proj": (query, hidden),
        "k_proj": (keys, hidden),
        "v_proj": (keys, hidden),
        "o_proj": (hidden, query),
        "gate_proj": (intermediate, hidden),
        "up_proj": (intermediate, hidden),
        "down_proj": (hidden, intermediate),
    }


def _first(values: Mapping[str, Any], *keys: str) -> Any:
    """Of one thing that architectures name differently."""
    found = next((values[key] for key in keys if values.get(key) is not None), None)
    if found is None:
        raise KeyError(keys[0])
    return found


def _intermediate(text: Mapping[str, Any], hidden: int) -> int:
    """Width of the feed-forward part that one token goes through; of routed experts those it is sent to."""
    if experts := text.get("num_experts_per_tok"):
        shared = int(text.get("shared_expert_intermediate_size") or 0)
        return int(experts) * int(_first(text, "moe_intermediate_size", "intermediate_size")) + shared
    return int(text.get("intermediate_size") or text.get("n_inner") or 4 * hidden)
