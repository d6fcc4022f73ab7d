"""How many rows a training has and how long they are, from what is known of its datasets without reading them again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from studio.config.data import DataConfig
from studio.config.train import TrainConfig
from studio.config.train.method import ONLINE
from studio.datasets import index, statistics
from studio.datasets.cache import fingerprint
from studio.datasets.entry import Entry
from studio.datasets.formats import Preference, Row, Text
from studio.datasets.loading import Fault, scan
from studio.datasets.registry import Registry, size_of
from studio.datasets.statistics import Statistics, percentile
from studio.errors import DatasetError
from studio.planning.batch import Lengths, sequences

SKIMMED_BYTES = 1 << 20  # a smaller file is read through
SKIMMED_ROWS = 200  # of a larger one so many are looked at
BYTES_A_TOKEN = 3.0  # rather few: an estimate should not be too low
TEMPLATE_TOKENS = 24


@dataclass(frozen=True)
class Known:
    """One dataset: `rows` that are used (None: not counted yet), their `lengths`, and whether these were measured.

    `sequences` are how many the rows fill when they are packed; None where that is not known.
    """

    rows: int | None
    lengths: Lengths
    measured: bool
    sequences: int | None = None


def known(config: TrainConfig, registry: Registry, name: str) -> Known:
    """What is known of a dataset with the settings of a training.

    Raises:
        DatasetError: no such set, or it cannot be used.
    """
    found = statistics.stored(registry, DataConfig.measuring(name, config.model_name_or_path, config))
    entry = registry.entry(name)
    limit = min((count for count in (config.max_samples, entry.num_samples) if count is not None), default=None)
    if found and found.rows_measured:
        return _measured(config, found, limit)
    path = registry.file(name)
    skimmed = _skimmed(path, entry, config.stage in ONLINE)
    counted = index.cached(path, registry.cache_dir)
    rows = skimmed.rows or (counted.rows if counted else None)
    lengths = Lengths(min(config.cutoff_len, skimmed.longest), min(config.cutoff_len, skimmed.mean))
    return Known(rows if rows is None else min(rows, limit or rows), lengths, measured=False)


def _measured(config: TrainConfig, found: Statistics, limit: int | None) -> Known:
    rows = round(found.kept_rows * found.scale)
    share = min(1.0, limit / rows) if limit and rows else 1.0
    return Known(round(rows * share), _lengths(config, found), True, ceil(found.packed_sequences * found.scale * share))


def _lengths(config: TrainConfig, found: Statistics) -> Lengths:
    if config.stage in ONLINE:  # only prompts go in
        mean = sum(length * count for length, count in found.prompt_lengths) / found.rows_measured
        return Lengths(percentile(found.prompt_lengths, 1.0), mean)
    mean = found.kept_tokens / found.kept_rows / sequences(config) if found.kept_rows else 0.0
    return Lengths(min(found.cutoff_len, percentile(found.lengths, 1.0)), mean)


@dataclass(frozen=True)
class _Skimmed:
    """Tokens as its bytes let expect; `rows` is 0 for a file too large to be read through."""

    rows: int
    longest: int
    mean: float


_seen: dict[tuple[str, str, bool], _Skimmed] = {}


def _skimmed(path: Path, entry: Entry, prompts: bool) -> _Skimmed:
    key = (fingerprint(path), repr(entry), prompts)
    if key not in _seen:
        _seen[key] = _skim(path, entry, prompts)
    return _seen[key]


def _skim(path: Path, entry: Entry, prompts: bool) -> _Skimmed:
    whole = size_of(path) <= SKIMMED_BYTES
    sizes = []
    for scanned in scan(path, entry):
        if not isinstance(scanned.value, Fault):
            sizes.append(
                TEMPLATE_TOKENS
                + ceil(sum(len(text.encode()) for text in _texts(scanned.value, prompts)) / BYTES_A_TOKEN)
            )
        if not whole and len(sizes) == SKIMMED_ROWS:
            break
    if not sizes:
        raise DatasetError("no row of it can be used")
    # rows that were not looked at may be of any length
    longest = max(sizes) if whole else 1 << 30
    return _Skimmed(len(sizes) if whole else 0, longest, sum(sizes) / len(sizes))


def _texts(row: Row, prompts: bool) -> Iterator[str]:
    """What is computed of a row: of a preference the longer answer, of `prompts` none."""
    if isinstance(row, Text):
        yield row.text
        return
    messages = row.prompt if isinstance(row, Preference) else row.messages
    yield from (message.content for message in (messages[:-1] if prompts else messages))
    if isinstance(row, Preference) and not prompts:
        yield max(row.chosen.content, row.rejected.content, key=len)
