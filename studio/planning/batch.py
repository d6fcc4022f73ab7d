"""How many rows and tokens go through the model at once."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

from studio.config.train import TrainConfig
from studio.config.train.method import ONLINE

PAIRS = ("dpo", "rm")
PREFERENCES = ("dpo", "rm", "kto")


@dataclass(frozen=True)
class Lengths:
    """Tokens of the sequences of a training set, after cutting: of the longest, and on average."""

    longest: int
    mean: float

    def cut(self, cutoff_len: int) -> Lengths:
        """With a lower cutoff."""
        return Lengths(min(self.longest, cutoff_len), min(self.mean, cutoff_len))


@dataclass(frozen=True)
class Batch:
    """What one pass through the model holds. `tokens` are all that are computed, padding too.

    `span` is how many tokens each of them may be masked against: its row's, or all of a flat batch. `masked`: a mask
    tells them, where one row alone would do without.
    """

    tokens: int
    span: int
    masked: bool


def sequences(config: TrainConfig) -> int:
    """How many a row stands for: a preference is two."""
    return 2 if config.stage in PAIRS else 1


def of(config: TrainConfig, lengths: Lengths, context: int | None = None) -> Batch:
    """The fullest batch that is to be expected of rows of such lengths, for a model that takes `context` tokens."""
    rows = config.per_device_train_batch_size * sequences(config)
    if config.stage == "kto":  # one answer alone has no other to be compared with
        rows = max(2, rows)
    if config.packing or config.stage == "pt":
        length = min(config.cutoff_len, context or config.cutoff_len)
        return Batch(rows * length, rows * length, masked=True)
    if config.stage in ONLINE:
        length = lengths.longest + config.max_completion_length
        return Batch(rows * length, length, masked=True)
    if config.stage in PREFERENCES:
        return Batch(rows * lengths.longest, lengths.longest, masked=lengths.mean < lengths.longest)
    # laid end to end; the more rows, the less probable that all are long ones
    tokens = ceil(rows * lengths.mean + sqrt(rows) * (lengths.longest - lengths.mean))
    return Batch(tokens, tokens, masked=rows > 1)
