"""Batches of few sizes: what is recorded for one of them serves all that fit into it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import torch
from torch.nn.functional import pad

from studio.worker.encode import IGNORED
from studio.worker.fast import attention

PADDING = "padding"  # of a batch: how many of its tokens are there to fill it up
SMALLEST, SHORTEST, FEWEST = 64, 256, 8  # tokens from size to size, longest row, rows
SHARES = 4  # into which the tokens are cut, of which so many are counted
LENGTHS, COUNTS = 2, 4  # sizes in each doubling of the longest row, and of rows
HEAD = 1 / 4  # of what a token costs, the head that is computed where it is counted: a guess
BLOCK, IN_VAIN = 128, 1 / 4  # tokens of a row that attention computes at once, and what it costs where there are none

Batch = dict[str, Any]


@dataclass(frozen=True)
class Room:
    """How many tokens and rows a batch has, those that fill it up included, how many of the tokens are counted, and how
    long a row may be."""

    tokens: int
    rows: int
    counted: int
    longest: int

    @property
    def cost(self) -> float:
        """Of a pass, in tokens. Attention looks into every row as far as the longest may go."""
        return self.tokens + HEAD * self.counted + IN_VAIN * self.rows * ceil(self.longest / BLOCK)

    def takes(self, batch: Batch) -> bool:
        """Whether `batch` fits in, with the rows that fill it up: none of them may be longer than the longest."""
        spare = self.rows - _rows(batch)
        holds = self.counted >= len(batch["targets"]) and self.longest >= batch["max_length_q"]
        return holds and 0 <= self.tokens - _tokens(batch) <= spare * self.longest


def needed(batch: Batch, most: int, fineness: int, longest: int = 0) -> Room:
    """A room for `batch`, of passes.lay: one of `fineness` in each doubling of tokens, though of no more than `most`
    unless it has them. Rows may be said to be as `longest` as this."""
    own, longest = _tokens(batch), _next(max(longest, SHORTEST, batch["max_length_q"]), LENGTHS)
    tokens = max(_next(own, fineness), _up(own, SMALLEST))
    tokens = tokens if tokens <= most or own > most else most
    counted = min(tokens, _up(max(1, len(batch["targets"])), ceil(tokens / SHARES)))
    rows = _next(max(FEWEST, _rows(batch) + 1 + ceil((tokens - own) / longest)), COUNTS)
    return Room(tokens, rows, counted, longest)


def widest(batch: Batch, most: int) -> Room:
    """A room for `batch` and any other of as many tokens, or as `most`, all of them counted, if its rows are no longer
    and not many more."""
    own, longest = _tokens(batch), batch["max_length_q"]
    tokens = max(own, most)
    return Room(tokens, _above(_rows(batch) + 1 + ceil(tokens / longest)), tokens, longest)


def of(batch: Batch) -> Room:
    """The room that `batch` was fit into."""
    return Room(_tokens(batch), _rows(batch), len(batch["targets"]), batch["max_length_q"])


def fit(batch: Batch, room: Room) -> Batch:
    """`batch` filled up to `room` with rows of tokens that count for nothing, and with empty ones.

    Raises:
        ValueError: it does not fit in. A row longer than the longest that is told of would be left without results, and
            what lies in their place be learnt.
    """
    if not room.takes(batch):
        raise ValueError(f"a batch of the size {of(batch)} does not fit into {room}")
    ids, starts = batch["input_ids"], batch["cu_seq_lens_q"]
    more, left = room.tokens - _tokens(batch), room.counted - len(batch["targets"])
    ends = _tokens(batch) + room.longest * torch.arange(1, room.rows + 1 - _rows(batch), device=ids.device)
    filled = {
        "input_ids": pad(ids, (0, more)),
        "position_ids": pad(batch["position_ids"], (0, more)),  # all first: none is farther than the model knows
        "seq_idx": pad(batch["seq_idx"], (0, more), value=room.rows),
        "counted": pad(batch["counted"], (0, left)),
        "targets": pad(batch["targets"], (0, left), value=IGNORED),
        PADDING: more + int(batch.get(PADDING, 0)),
    }
    starts = torch.cat([starts, ends.clamp(max=room.tokens).to(starts.dtype)])
    return {**batch, **filled, **attention.keys_of(starts, room.longest)}


def _tokens(batch: Batch) -> int:
    return int(batch["input_ids"].shape[1])


def _rows(batch: Batch) -> int:
    return len(batch["cu_seq_lens_q"]) - 1


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def _next(number: int, sizes: int) -> int:
    """The least that is not smaller, of so many sizes in each doubling."""
    doubling = 1 << (number.bit_length() - 1)
    return _up(number, max(1, doubling // sizes))


def _above(number: int) -> int:
    """The least power of two that is not smaller."""
    return 1 << max(0, number - 1).bit_length()
