"""The rows of an optimizer step, dealt anew into as few passes through the model as its memory allows.

A loss that is a sum over tokens, divided by those of the whole step, is the same however the rows lie in passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy
import torch

from studio.worker.encode import IGNORED
from studio.worker.fast import attention

ALIGNMENT = 128  # bytes, that kernels may read many at once

Row = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """Rows as they come from a data loader, which looks into lists but not into this."""

    rows: list[Row]


def deal(lengths: Sequence[int], tokens: int, at_most: int) -> list[list[int]]:
    """Numbers of the rows of each pass: the fewest passes whose rows together have no more than `tokens`, one long row
    excepted. Where that would need more than `at_most` passes, so many, with as little in the fullest as can be.
    """
    at_most = min(at_most, len(lengths))
    fewest = min(ceil(sum(min(length, tokens) for length in lengths) / tokens), at_most)
    for count in range(fewest, at_most + 1):
        passes = _balanced(lengths, count)
        if all(len(rows) == 1 or sum(lengths[row] for row in rows) <= tokens for rows in passes):
            break
    return passes


def _balanced(lengths: Sequence[int], count: int) -> list[list[int]]:
    """`count` passes of about as many tokens: the longest row first, each where there is the least."""
    passes: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        emptiest = loads.index(min(loads))
        passes[emptiest].append(row)
        loads[emptiest] += lengths[row]
    return sorted(map(sorted, passes))


def lay(rows: Sequence[Row]) -> dict[str, Any]:
    """`rows` end to end: input_ids, position_ids and seq_idx [1, tokens]; where each begins (cu_seq_lens_q,
    cu_seq_lens_k [rows + 1], int32), and how long the longest is (max_length_q, max_length_k); and which tokens are
    `counted` [n] with the `targets` [n] that follow them.

    A packed row says in seq_lengths which rows are in it. No row's last token is counted.
    """
    lengths = numpy.concatenate([row.get("seq_lengths") or [len(row["input_ids"])] for row in rows])
    starts = numpy.concatenate([[0], lengths.cumsum()]).astype(numpy.int32)
    tokens = numpy.concatenate([numpy.asarray(row["input_ids"], numpy.int64) for row in rows])
    labels = numpy.concatenate([numpy.asarray(row.get("labels", row["input_ids"]), numpy.int64) for row in rows])
    labels[starts[:-1]] = IGNORED
    learnt = numpy.flatnonzero(labels != IGNORED)
    numbers = numpy.arange(len(lengths), dtype=numpy.int32).repeat(lengths)
    positions = numpy.arange(len(tokens)) - starts[numbers]
    each = {"input_ids": tokens[None], "position_ids": positions[None], "seq_idx": numbers[None]}
    all_of_them = {**each, "counted": learnt - 1, "targets": labels[learnt]}
    batch = {name: torch.from_numpy(values) for name, values in all_of_them.items()}
    return {**batch, **attention.keys_of(torch.from_numpy(starts), int(lengths.max()))}


def send(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """`batch` with its tensors on `device`, without waiting for them to arrive."""
    tensors = {name: each for name, each in batch.items() if torch.is_tensor(each)}
    if device.type != "cuda":
        return {**batch, **{name: each.to(device) for name, each in tensors.items()}}
    packed, places = pack(tensors, pinned=True)
    return {**batch, **unpack(packed.to(device, non_blocking=True), places)}


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a stretch of bytes."""

    start: int
    size: int
    dtype: torch.dtype
    shape: torch.Size


def pack(tensors: Mapping[str, torch.Tensor], pinned: bool = False) -> tuple[torch.Tensor, dict[str, Place]]:
    """All of `tensors` as one [bytes], for what is sent costs the same however small it is; and where each lies."""
    places, size = {}, 0
    for name, each in tensors.items():
        places[name] = Place(size, each.nbytes, each.dtype, each.shape)
        size += -(-each.nbytes // ALIGNMENT) * ALIGNMENT
    packed = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
    for name, place in unpack(packed, places).items():
        place.copy_(tensors[name])
    return packed, places


def unpack(packed: torch.Tensor, places: Mapping[str, Place]) -> dict[str, torch.Tensor]:
    """The tensors that `pack` has put there, as views."""
    return {
        name: packed[place.start : place.start + place.size].view(place.dtype).view(place.shape)
        for name, place in places.items()
    }
