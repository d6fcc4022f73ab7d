"""The rows of a training: read, placeholders filled in, encoded, and those without anything to learn left out."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from studio.config.train import TrainConfig
from studio.datasets.formats import Conversation, Feedback, Preference, Row, Text
from studio.datasets.loading import Fault, load
from studio.datasets.masking import Masking
from studio.datasets.registry import Registry
from studio.errors import DatasetError, RowError
from studio.worker.encode import Encoded, encode

BATCH_ROWS = 128
STAGES = {Text: "continued pre-training", Preference: "preference training", Feedback: "preference training"}


@dataclass(frozen=True)
class Rows:
    """Encoded rows and, in words, what happened to the others."""

    train: list[Encoded]
    validation: list[Encoded]
    remarks: list[str]


@dataclass(frozen=True)
class Source:
    """The conversations of one dataset, numbered as in its file, and the faults that kept others out."""

    name: str
    rows: list[tuple[int, Conversation]]
    faults: list[Fault]

    @property
    def remark(self) -> str:
        """The faults in a sentence; empty without any."""
        if not self.faults:
            return ""
        first = f"row {self.faults[0].row} {self.faults[0].what}"
        return f"dataset {self.name}: {len(self.faults)} faulty rows left out, first {first}"


def read(config: TrainConfig) -> list[Source]:
    """All conversations of the configured datasets.

    Raises:
        DatasetError: an unknown dataset, an unreadable row (named), a row of another kind, a placeholder unfilled.
    """
    registry = Registry(Path(config.dataset_dir))
    return [_read(config, registry, name) for name in config.dataset]


def tokenise(
    config: TrainConfig,
    sources: list[Source],
    tokenizer: PreTrainedTokenizerBase,
    cutoff_len: int,
    progress: Callable[[int, int], None],
) -> Rows:
    """Encode all rows; `progress(done, total)` is called after every batch of them.

    Raises:
        DatasetError: nothing is left to train on, with the reasons.
    """
    masking = Masking(cutoff_len, config.default_system, config.train_on_prompt, config.mask_history)
    total = sum(len(source.rows) for source in sources)
    encoded: list[Encoded] = []
    for source in sources:
        for start in range(0, len(source.rows), BATCH_ROWS):
            encoded += _encode(source.name, source.rows[start : start + BATCH_ROWS], tokenizer, masking)
            progress(len(encoded), total)
    remarks = [source.remark for source in sources if source.faults]
    kept = _usable(encoded, masking, remarks)
    train, validation = _split(kept, config.val_size, config.seed)
    return Rows(train, validation, remarks)


def _read(config: TrainConfig, registry: Registry, name: str) -> Source:
    source = Source(name, [], [])
    try:
        for number, row in load(registry, name, limit=config.max_samples, leave_out=source.faults.append):
            source.rows.append((number, _fill(config, number, _conversation(number, row))))
    except RowError as error:
        raise DatasetError(f"dataset {name}, {error}") from error
    return source


def _conversation(number: int, row: Row) -> Conversation:
    if isinstance(row, Conversation):
        return row
    raise RowError(number, f"is data for {STAGES[type(row)]}, not for sft: choose a dataset of conversations")


def _fill(config: TrainConfig, number: int, row: Conversation) -> Conversation:
    """`row` with {{name}} and {{author}} replaced."""
    text = "".join(message.content for message in row.messages)
    if "{{" not in text:
        return row
    known = {
        "{{name}}": ("model_name", config.model_name),
        "{{author}}": ("model_author", config.model_author),
    }
    missing = [(mark, key) for mark, (key, value) in known.items() if mark in text and not value]
    if missing:
        marks, keys = (" and ".join(column) for column in zip(*missing, strict=True))
        raise RowError(number, f"contains {marks}: set {keys} to say what the model calls itself and who made it")
    messages = list(row.messages)
    for mark, (_, value) in known.items():
        messages = [replace(message, content=message.content.replace(mark, value or "")) for message in messages]
    return replace(row, messages=tuple(messages))


def _encode(
    name: str, rows: Sequence[tuple[int, Conversation]], tokenizer: PreTrainedTokenizerBase, masking: Masking
) -> list[Encoded]:
    try:
        return list(encode(rows, tokenizer, masking))
    except RowError as error:
        raise DatasetError(f"dataset {name}, {error}") from error


def _usable(encoded: list[Encoded], masking: Masking, remarks: list[str]) -> list[Encoded]:
    """Rows that teach something; a remark is added on each kind of row that is cut or left out."""
    kept = [row for row in encoded if row.trained]
    dropped = Counter(_why_empty(row, masking) for row in encoded if not row.trained)
    remarks += [f"{count} of {len(encoded)} rows left out: {why}" for why, count in dropped.items()]
    if not kept:
        raise DatasetError("there is nothing to train on. " + ("; ".join(remarks) or "The datasets have no rows"))
    if cut := sum(row.cut > 0 for row in kept):
        remarks.append(f"{cut} of {len(kept)} rows are longer than {masking.cutoff_len} tokens and were cut there")
    return kept


def _why_empty(row: Encoded, masking: Masking) -> str:
    if row.cut:
        return f"their answer begins after cutoff_len ({masking.cutoff_len} tokens); raise it"
    return "they have no answer by the assistant"


def _split(rows: list[Encoded], val_size: float, seed: int) -> tuple[list[Encoded], list[Encoded]]:
    """`rows` divided by chance, the same for the same seed, into training and validation."""
    if not val_size:
        return rows, []
    held_out = int(val_size) if val_size >= 1 else max(1, round(val_size * len(rows)))
    if held_out >= len(rows):
        raise DatasetError(f"val_size {val_size:g} would hold out all {len(rows)} rows: lower it")
    chosen = set(random.Random(seed).sample(range(len(rows)), held_out))
    return (
        [row for index, row in enumerate(rows) if index not in chosen],
        [row for index, row in enumerate(rows) if index in chosen],
    )
