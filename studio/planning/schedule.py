"""How long a training goes on: rows of an epoch, steps, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from studio.config.train import TrainConfig
from studio.config.train.method import ONLINE
from studio.planning.batch import Lengths, sequences
from studio.planning.rows import Known


@dataclass(frozen=True)
class Schedule:
    """`rows` of one epoch, `steps` of the optimizer and `tokens` in all; None where a dataset was not counted yet."""

    rows: int | None
    steps: int | None
    tokens: int | None


def lengths(parts: Sequence[Known]) -> Lengths:
    """Those of all datasets together."""
    weights = [part.rows or 1 for part in parts]
    mean = sum(part.lengths.mean * weight for part, weight in zip(parts, weights, strict=True)) / sum(weights)
    return Lengths(max(part.lengths.longest for part in parts), mean)


def of(config: TrainConfig, parts: Sequence[Known], processes: int = 1) -> Schedule:
    """The schedule of a training on datasets of which so much is known; each process takes rows of its own."""
    rows, mean = _rows(config, parts), lengths(parts).mean
    effective = config.per_device_train_batch_size * config.gradient_accumulation_steps * processes
    if rows is None:
        known = config.max_steps if config.max_steps > 0 else None
        return Schedule(None, known, round(known * effective * _item_tokens(config, mean)) if known else None)
    items = _items(config, parts, rows, mean)
    batches = ceil(ceil(items / processes) / config.per_device_train_batch_size)
    an_epoch = max(1, ceil(batches / config.gradient_accumulation_steps))
    steps = config.max_steps if config.max_steps > 0 else ceil(config.num_train_epochs * an_epoch)
    return Schedule(rows, steps, round(rows * _row_tokens(config, mean) * steps / an_epoch))


def _rows(config: TrainConfig, parts: Sequence[Known]) -> int | None:
    """Of an epoch, without those held out for validation."""
    counts = [part.rows for part in parts if part.rows is not None]
    if len(counts) < len(parts):
        return None
    rows = _mixed(config, counts)
    held_out = config.val_size if config.val_size >= 1 else ceil(config.val_size * rows)
    return max(0, rows - int(held_out))


def _mixed(config: TrainConfig, counts: Sequence[int]) -> int:
    if config.mix_strategy == "concat" or len(counts) == 1:
        return sum(counts)
    shares = config.interleave_probs or [1 / len(counts)] * len(counts)
    ends = [count / share for count, share in zip(counts, shares, strict=True)]
    return round(min(ends) if config.mix_strategy == "interleave_under" else max(ends))


def _items(config: TrainConfig, parts: Sequence[Known], rows: int, mean: float) -> int:
    """What a batch is made of: rows, or sequences that are filled with them."""
    if config.stage in ONLINE:
        return rows * config.num_generations
    if not config.packing and config.stage != "pt":
        return rows
    filled = [part.sequences for part in parts if part.sequences is not None]
    if len(filled) == len(parts) and config.mix_strategy == "concat" and not config.val_size:
        return sum(filled)
    return max(1, ceil(rows * mean / config.cutoff_len))


def _item_tokens(config: TrainConfig, mean: float) -> float:
    if config.packing or config.stage == "pt":
        return config.cutoff_len
    return _row_tokens(config, mean) / (config.num_generations if config.stage in ONLINE else 1)


def _row_tokens(config: TrainConfig, mean: float) -> float:
    """Of all that is computed for a row; answers that are yet to be written are taken to be as long as they may be."""
    if config.stage in ONLINE:
        return config.num_generations * (mean + config.max_completion_length)
    return mean * sequences(config)
