"""The files that a merge writes: which tensors go into which, their headers, and the index over them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.files import write_json
from studio.models import WEIGHTS, WEIGHTS_INDEX
from studio.worker.merging.work import Tensor

ALIGNMENT_BYTES = 8  # of the data behind a header


@dataclass(frozen=True)
class Shard:
    """One file to write: its name and its tensors, in their order."""

    name: str
    tensors: tuple[Tensor, ...]

    @property
    def header(self) -> bytes:
        """What stands before the data."""
        entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for tensor in self.tensors:
            end = offset + tensor.size_bytes
            entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(entries).encode()
        text += b" " * (-len(text) % ALIGNMENT_BYTES)
        return struct.pack("<Q", len(text)) + text


def split(tensors: Sequence[Tensor], shard_bytes: int) -> list[Shard]:
    """Files of at most `shard_bytes`, of one tensor at least, named as Transformers names them."""
    parts = list(_parts(tensors, shard_bytes))
    if len(parts) == 1:
        return [Shard(WEIGHTS, tuple(parts[0]))]
    return [
        Shard(f"model-{number:05d}-of-{len(parts):05d}.safetensors", tuple(part))
        for number, part in enumerate(parts, start=1)
    ]


def write_index(shards: Sequence[Shard], target: Path) -> None:
    """Which tensor is in which file, if there are several; total_size in bytes."""
    if len(shards) > 1:
        files = {tensor.name: shard.name for shard in shards for tensor in shard.tensors}
        total = sum(tensor.size_bytes for shard in shards for tensor in shard.tensors)
        value = {"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))}
        write_json(target / WEIGHTS_INDEX, value)


def _parts(tensors: Sequence[Tensor], shard_bytes: int) -> Iterator[list[Tensor]]:
    part: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if part and size + tensor.size_bytes > shard_bytes:
            yield part
            part, size = [], 0
        part.append(tensor)
        size += tensor.size_bytes
    yield part
