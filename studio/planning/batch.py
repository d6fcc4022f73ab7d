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


@dataclass(frozen=True)
class Step:
    """Tokens of all rows that one process has for a step, the `most` and the `mean` that are to be expected, and those
    of the `longest` row; both answers of a preference are one row. Its passes are `batches` at the most."""

    most: int
    mean: float
    longest: int
    batches: int

    def share(self, passes: int) -> int:
        """Tokens that each of so many passes has to take, no row being divided."""
        tokens = ceil(self.most / passes)
        # rows of one length fill a pass in whole ones
        return ceil(tokens / self.longest) * self.longest if self.most == self.mean else max(tokens, self.longest)


def sequences(config: TrainConfig) -> int:
    """How many a row stands for: a preference is two."""
    return 2 if config.stage in PAIRS else 1


def step(config: TrainConfig, lengths: Lengths, context: int | None = None) -> Step:
    """The step that is to be expected of rows of such lengths, for a model that takes `context` tokens."""
    batches, each = config.gradient_accumulation_steps, sequences(config)
    rows = config.per_device_train_batch_size * batches * each
    if config.packing or config.stage == "pt":
        length = min(config.cutoff_len, context or config.cutoff_len)
        lengths = Lengths(length, length)
    lengths = Lengths(max(1, lengths.longest), max(1.0, lengths.mean))  # of rows that nothing is left of
    return Step(_flat(rows, lengths), rows * lengths.mean, each * lengths.longest, batches)


def through(config: TrainConfig, lengths: Lengths, tokens: int | None, context: int | None = None) -> Batch:
    """The fullest pass that is to be expected where so many tokens go through at once, or else the rows of a batch."""
    if tokens is None:
        return of(config, lengths, context)
    whole = step(config, lengths, context)
    fullest = max(tokens, whole.longest, whole.share(whole.batches))
    return Batch(fullest, fullest, masked=True)


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
    tokens = _flat(rows, lengths)
    return Batch(tokens, tokens, masked=rows > 1)


def _flat(rows: int, lengths: Lengths) -> int:
    """Of rows laid end to end; the more of them, the less probable that all are long ones."""
    return ceil(rows * lengths.mean + sqrt(rows) * (lengths.longest - lengths.mean))
