"""How many rows and tokens go through the model at once."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from studio.config.train import TrainConfig

PAIRS = ("dpo", "rm")
PREFERENCES = ("dpo", "rm", "kto")
ONLINE = ("grpo", "rloo")


@dataclass(frozen=True)
class Lengths:
    """Tokens of the rows of a training set, after cutting: the longest and the mean."""

    longest: int
    mean: float


@dataclass(frozen=True)
class Batch:
    """What one pass through the model holds. `tokens` are all that are computed, padding too.

    `row` is the longest that attends to itself; `masked`: rows lie side by side and a mask keeps them apart.
    """

    rows: int
    tokens: int
    row: int
    masked: bool


def of(config: TrainConfig, lengths: Lengths, flat: bool = True) -> Batch:
    """The fullest batch that is to be expected of rows of such lengths."""
    rows = config.per_device_train_batch_size * (2 if config.stage in PAIRS else 1)
    if config.packing:
        # each of the sequences is filled with several rows
        return Batch(rows, rows * config.cutoff_len, rows * config.cutoff_len, True)
    if config.stage in ONLINE:
        length = lengths.longest + config.max_completion_length
        return Batch(rows, rows * length, length, True)
    if config.stage in PREFERENCES or not flat:
        return Batch(rows, rows * lengths.longest, lengths.longest, rows > 1)
    # the more rows, the less probable that all are long ones
    tokens = round(rows * lengths.mean + sqrt(rows) * (lengths.longest - lengths.mean))
    return Batch(rows, tokens, tokens, rows > 1)
