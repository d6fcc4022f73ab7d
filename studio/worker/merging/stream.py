"""The weights of a merge, written tensor by tensor: at most one weight and its change are in memory."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open

from studio.files import write_json
from studio.worker.merging.plan import Tensor
from studio.worker.methods import base


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
