"""Batches of few sizes: what is recorded for one of them serves all that fit into it."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from math import ceil
from typing import Any

import torch
from torch.nn.functional import pad

from studio.worker.encode import IGNORED
from studio.worker.fast import attention

PADDING = "padding"  # of a batch: how many of its tokens are there to fill it up
FINENESS = 16  # sizes in each doubling, so that one in 32 tokens is in vain, on average
SMALLEST, SHORTEST, FEWEST = 64, 256, 8  # tokens more from size to size, longest row, rows
SHARES = 4  # into which the tokens are cut, of which so many count


@dataclass(frozen=True)
class Room:
    """How many tokens and rows a batch has, the one that fills it up included, how many of the tokens are counted, and
    how long a row may be."""

    tokens: int
    rows: int
    counted: int
    longest: int

    def holds(self, other: Room) -> bool:
        """Whether what fits into `other` fits in here, with the rows that fill it up."""
        sizes = zip(astuple(self), astuple(other.widened(self.tokens)), strict=True)
        return all(own >= its for own, its in sizes)

    def joined(self, other: Room) -> Room:
        """With the larger of each of both."""
        return Room(*map(max, astuple(self), astuple(other)))

    def widened(self, tokens: int) -> Room:
        """The same with room for so many `tokens`, counted or not, if that is more: what fills it up are rows too, and
        none of them may be longer than the longest."""
        if tokens <= self.tokens:
            return self
        rows = _above(self.rows + ceil((tokens - self.tokens) / self.longest))
        return replace(self, tokens=tokens, rows=rows)


def needed(batch: dict[str, Any], most: int) -> Room:
    """The room of `batch`, of passes.lay: a little more than it needs, but no more than `most` tokens unless it has."""
    own = batch["input_ids"].shape[1]
    step = max(SMALLEST, (_above(own + 1) >> 1) // FINENESS)
    tokens = _up(own, step)
    tokens = tokens if tokens <= most or own > most else most
    counted = min(tokens, _up(max(1, len(batch["targets"])), ceil(tokens / SHARES)))
    rows = max(FEWEST, _above(len(batch["cu_seq_lens_q"])))
    return Room(tokens, rows, counted, max(SHORTEST, step, _above(batch["max_length_q"])))


def of(batch: dict[str, Any]) -> Room:
    """The room that `batch` was fit into."""
    rows = len(batch["cu_seq_lens_q"]) - 1
    return Room(batch["input_ids"].shape[1], rows, len(batch["targets"]), batch["max_length_q"])


def fit(batch: dict[str, Any], room: Room) -> dict[str, Any]:
    """`batch` filled up to `room`, which holds its own, with rows of tokens that count for nothing, and empty ones.

    A row longer than the longest that is told of would be left without results, and what lies in its place be learnt.
    """
    ids, starts = batch["input_ids"], batch["cu_seq_lens_q"]
    more, left = room.tokens - ids.shape[1], room.counted - len(batch["targets"])
    if more > (room.rows + 1 - len(starts)) * room.longest:
        raise ValueError(f"{more} tokens are more than the rows of {room} can hold")
    positions = torch.arange(more, dtype=ids.dtype, device=ids.device)[None] % room.longest
    ends = ids.shape[1] + room.longest * torch.arange(1, room.rows + 2 - len(starts), device=ids.device)
    starts = torch.cat([starts, ends.clamp(max=room.tokens).to(starts.dtype)])
    filled = {
        "input_ids": pad(ids, (0, more)),
        "position_ids": torch.cat([batch["position_ids"], positions], 1),
        "seq_idx": pad(batch["seq_idx"], (0, more), value=room.rows),
        "counted": pad(batch["counted"], (0, left)),
        "targets": pad(batch["targets"], (0, left), value=IGNORED),
        PADDING: more + int(batch.get(PADDING, 0)),
    }
    return {**batch, **filled, **attention.keys_of(starts, room.longest)}


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def _above(number: int) -> int:
    """The least power of two that is not smaller."""
    return 1 << max(0, number - 1).bit_length()
