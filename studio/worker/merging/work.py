"""What a merge has to do, tensor by tensor: planned from headers alone, carried out by the stream.

Everything that the plan needs to say to the stream is here: where a tensor comes from, what changes it, and how it is
to be written. A change is arithmetic in float32 on one tensor; it holds no weights itself, only where to read them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from studio.errors import ModelError


@dataclass(frozen=True)
class Source:
    """One stored tensor: the file and its name in there. Of the base, or of an adapter that holds it whole."""

    path: Path
    name: str


# floating point as safetensors spells it
TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}
Read = Callable[[Source], torch.Tensor]  # a stored tensor as it is stored; the changes turn it into float32


class Change(Protocol):
    """One step of arithmetic on one tensor, done some lines at a time: those fit into a cache."""

    @property
    def whole(self) -> bool:
        """Whether it needs all lines of the tensor at once."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """The stored tensors, besides the tensor itself, that `apply` reads."""

    def apply(self, weight: torch.Tensor, read: Read, rows: slice) -> torch.Tensor:
        """The lines `rows` of the changed tensor. `weight` are these lines in float32, to be changed in place."""


@dataclass(frozen=True)
class Tensor:
    """One tensor to write.

    Without `source` it starts as zeros of `shape`. `stored` is the type on disk of the source (equal to `dtype` and
    without `changes`, its bytes are copied), both spelled as safetensors does. `whole` says that the source is an
    adapter, which holds it whole.
    """

    name: str
    source: Source | None
    shape: tuple[int, ...]
    dtype: str
    stored: str
    changes: tuple[Change, ...] = ()
    whole: bool = False

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * width(self.dtype)

    @property
    def is_copy(self) -> bool:
        return self.source is not None and not self.changes and self.dtype == self.stored


@dataclass(frozen=True)
class Plan:
    """A whole merge: every tensor in the order of the base's files, and what changes in config.json.

    `notes` are sentences for the report, on what was decided and why.
    """

    tensors: tuple[Tensor, ...]
    config_changes: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def changed(self) -> tuple[Tensor, ...]:
        """Those that are not as in the base."""
        return tuple(tensor for tensor in self.tensors if tensor.changes or tensor.whole or tensor.source is None)


@dataclass(frozen=True)
class Share:
    """An adapter to merge, and how much of it: 1.0 is what was trained."""

    adapter: Path
    weight: float = 1.0


def width(dtype: str) -> int:
    """Bytes of one number of a type as safetensors spells it: F32, BF16, I64, F8_E4M3; BOOL is a byte.

    Raises:
        ModelError: numbers of that type share bytes.
    """
    bits = int(found[0]) if (found := re.search(r"\d+", dtype)) else 8
    if bits % 8:
        raise ModelError(
            f"weights of type {dtype} cannot be merged: take the model in 16 bits that they were made from"
        )
    return bits // 8
