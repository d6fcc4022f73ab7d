"""The plan of a merge while it is made: every tensor of the base, changed entry by entry."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio import models
from studio.errors import ModelError
from studio.files import read_json, read_record
from studio.worker.merging import names
from studio.worker.merging.adapter import Held
from studio.worker.merging.work import TYPES, Change, Plan, Source, Tensor

SPELLED = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
TIED = "tie_word_embeddings"


class Sheet:
    """Tensors by name in the base's files, and what is to change in its config.json. Reads headers only.

    `embedding` and `head` are the names of the model's two ends, None where they are called otherwise than known;
    a tied head is stored under no name. `vocabulary` is how many tokens the base's embedding has.

    Raises:
        ModelError: the base is quantised, or a file of it is missing or damaged.
    """

    def __init__(self, folder: Path, export_dtype: str) -> None:
        self.folder = folder
        self.config = read_record(folder / "config.json")
        self.notes: list[str] = []
        self.changes: dict[str, Any] = {}
        self.came_tied = False  # as the present adapter found the ends, whatever it makes of them
        self._touched: set[str] = set()
        self._touched_before: set[str] = set()
        self._written: Callable[[str], str] = lambda stored: _written(stored, export_dtype)
        if self.config.get("quantization_config"):
            raise ModelError(f"{folder} is quantised: merge into the 16-bit model that it was made from")
        self.tensors = {tensor.name: tensor for tensor in self._read()}
        embedding = names.embedding(self.tensors, self.model_type)
        self.embedding = embedding
        self.head = names.head(embedding, self.model_type) if embedding else None
        self.vocabulary = self.tensors[embedding].shape[0] if embedding else 0

    @property
    def model_type(self) -> str:
        return str(self._text.get("model_type", self.config.get("model_type")))

    @property
    def is_tied(self) -> bool:
        """Whether one weight is both embedding and head. Loaders ask the outer configuration first."""
        stated = self.changes.get(TIED, self.config.get(TIED, self._text.get(TIED)))
        return self.embedding is not None and (bool(stated) or self.head not in self.tensors)

    @property
    def perhaps_tied(self) -> list[str]:
        """Weights of the vocabulary's size that may be both ends at once, where the ends are not known."""
        if self.embedding or self.config.get(TIED, self._text.get(TIED)) is False:
            return []
        size = self._text.get("vocab_size")
        return [name for name, tensor in self.tensors.items() if tensor.shape[:1] == (size,)]

    def is_loaded(self, number: int, weight: str) -> bool:
        """Whether the text's stack has a layer of that number, and that a `weight` of its own."""
        layers, shared = self._text.get("num_hidden_layers"), self._text.get("num_kv_shared_layers") or 0
        if not isinstance(layers, int):
            return True
        is_taken_over = number >= layers - shared and weight.startswith(("self_attn.k_", "self_attn.v_"))
        return number < layers and not is_taken_over

    def next_adapter(self) -> None:
        """What comes is of another adapter than what came."""
        self._touched_before |= self._touched
        self._touched.clear()
        self.came_tied = self.is_tied

    def is_touched(self, name: str) -> bool:
        """Whether the present adapter has changed a tensor."""
        return name in self._touched

    def require_untouched(self, name: str, what: str) -> None:
        """Only sums do not depend on what came before them.

        Raises:
            ModelError: an adapter before this one changes the tensor, too.
        """
        if name in self._touched_before:
            raise ModelError(
                f"{name} is changed by several of the adapters, and {what} is no sum, so what both together should be "
                "is not defined: merge the first alone, and then the next into the model that comes of it"
            )

    def change(self, name: str, change: Change) -> None:
        """Have one more change of the present adapter done to a tensor."""
        self._touched.add(name)
        self.prepare(name, change)

    def prepare(self, name: str, change: Change) -> None:
        """Have a change done to a tensor that is no adapter's."""
        tensor = self.tensors[name]
        self.tensors[name] = dataclasses.replace(tensor, changes=(*tensor.changes, change))

    def replace(self, name: str, whole: Held) -> None:
        """Take a tensor whole from an adapter."""
        self.require_untouched(name, "a weight that was trained whole")
        self._touched.add(name)
        self.tensors[name] = Tensor(
            name, whole.source, whole.shape, self._kept_type(name, whole), whole.dtype, whole=True
        )

    def add(self, name: str, like: Tensor) -> None:
        """A tensor that the base does not have, with the origin and the changes of another."""
        self.tensors[name] = dataclasses.replace(like, name=name)

    def zeros(self, name: str, rows: int, like: str) -> None:
        """A bias that the base does not have."""
        dtype = self.tensors[like].dtype
        self.tensors[name] = Tensor(name, None, (rows,), dtype, dtype)

    def set(self, key: str, value: Any) -> None:
        """Change an entry of config.json, in the part about text where it has one of its own."""
        self.changes[key] = value

    def plan(self) -> Plan:
        """What was put together."""
        changes = self.changes
        if changes and self._text is not self.config:
            outside = {key: changes[key] for key in changes if key == TIED or key in self.config}
            changes = {"text_config": {**self._text, **changes}, **outside}
        return Plan(tuple(self.tensors.values()), changes, tuple(self.notes))

    @property
    def _text(self) -> dict[str, Any]:
        part = self.config.get("text_config")
        return part if isinstance(part, dict) else self.config

    def _kept_type(self, name: str, whole: Held) -> str:
        """The base's type where it has the tensor: adapters are often saved wider."""
        there = self.tensors.get(name)
        return there.dtype if there and whole.dtype in TYPES else self._written(whole.dtype)

    def _read(self) -> list[Tensor]:
        files = models.weight_files(self.folder)
        _require_one(self.folder, files)
        tensors = [
            Tensor(
                name,
                Source(self.folder / file, name),
                tuple(header["shape"]),
                self._written(header["dtype"]),
                header["dtype"],
            )
            for file in files
            for name, header in models.read_header(self.folder / file).items()
        ]
        _require_indexed(self.folder, tensors)
        return tensors


def _require_one(folder: Path, files: list[str]) -> None:
    """Transformers loads model.safetensors where it is there, and others what the index names."""
    if models.WEIGHTS not in files and (folder / models.WEIGHTS).exists():
        raise ModelError(
            f"{folder} holds two sets of weights, {models.WEIGHTS} and those that {models.WEIGHTS_INDEX} names, and "
            "not every program loads the same: remove the one that is not the model's"
        )


def _require_indexed(folder: Path, tensors: list[Tensor]) -> None:
    """Every tensor that the index names is in the file where it says."""
    index = (read_json(folder / models.WEIGHTS_INDEX) or {}).get("weight_map", {})
    there = {tensor.name: tensor.source.path.name for tensor in tensors if tensor.source}
    if missing := [name for name, file in index.items() if there.get(name) != file]:
        raise ModelError(
            f"{folder} lacks {missing[0]}, which {models.WEIGHTS_INDEX} says is in {index[missing[0]]}: copy the whole "
            "model again"
        )


def _written(stored: str, export_dtype: str) -> str:
    """The type on disk of a tensor: floating point ones follow the request, others stay."""
    return stored if export_dtype == "auto" or stored not in TYPES else SPELLED[export_dtype]
