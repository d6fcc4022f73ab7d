"""What a set amounts to in the tokens of one model: lengths, what is trained, what the cutoff takes.

Measured by a data run of action statistics, and kept in `data/.cache/` under a fingerprint of the file, its entry, the
tokenizer with its template, and the settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import Any

from studio import models
from studio.config.data import DataConfig
from studio.datasets.cache import fingerprint
from studio.datasets.checks.finding import Finding, describe
from studio.datasets.entry import dump
from studio.datasets.registry import Registry
from studio.files import read_record, write_json

Histogram = tuple[tuple[int, int], ...]  # (value, rows with that value), ascending
Sighting = tuple[str, int, tuple[int, ...], tuple[str, ...]]  # code, rows, numbers of the first, examples


@dataclass(frozen=True)
class Statistics:
    """Figures of the measured rows, in tokens where nothing else is said.

    `rows` are in the set, `rows_read` were looked at (fewer: an even sample), `rows_measured` of them were usable.
    A preference is one row of two sequences: it is as long as the longer one, and its tokens are those of both.

    `lengths` are those before cutting; a row is cut where its length exceeds the cutoff. `first_trained` is the place
    (from 1) of the first trained token; the whole row is dropped where that exceeds the cutoff. `untrained` rows
    have no such token at any cutoff, and of `tools_left_out` rows the model's template leaves out what their tools are
    about. Of many different values each is rounded up, by less than a hundredth.
    `prompt_lengths` and `response_lengths` count the tokens not trained and trained. `findings` tells `sightings`.
    """

    dataset: str
    model: str
    cutoff_len: int
    rows: int
    rows_read: int
    rows_measured: int
    untrained: int
    tools_left_out: int
    tokens: int
    trained: int
    kept_rows: int
    kept_tokens: int
    kept_trained: int
    packed_sequences: int
    lengths: Histogram
    first_trained: Histogram
    prompt_lengths: Histogram
    response_lengths: Histogram
    turns: Histogram
    languages: tuple[tuple[str, int], ...]
    languages_read: int
    sightings: tuple[Sighting, ...]
    seconds: float

    @property
    def is_sample(self) -> bool:
        """Whether totals of the set are extrapolated."""
        return self.rows_read < self.rows

    @property
    def scale(self) -> float:
        """Rows of the set for each row that was read."""
        return self.rows / self.rows_read if self.rows_read else 0.0

    @property
    def too_long(self) -> int:
        """Measured rows that the cutoff cuts."""
        return above(self.lengths, self.cutoff_len)

    @property
    def dropped(self) -> int:
        """Measured rows of which the cutoff leaves nothing to train."""
        return above(self.first_trained, self.cutoff_len)

    @property
    def trained_share(self) -> float:
        """Trained tokens per token kept."""
        return self.kept_trained / self.kept_tokens if self.kept_tokens else 0.0

    @property
    def packing_efficiency(self) -> float:
        """How full packed sequences are, from 0 to 1."""
        room = self.packed_sequences * self.cutoff_len
        return self.kept_tokens / room if room else 0.0

    @property
    def tokens_per_epoch(self) -> int:
        """Of the whole set, after cutting; an estimate where `is_sample`."""
        return round(self.kept_tokens * self.scale)

    def steps_per_epoch(self, batch_size: int, accumulation: int, packing: bool) -> int:
        """Optimizer steps for the whole set; an estimate where `is_sample`."""
        items = (self.packed_sequences if packing else self.kept_rows) * self.scale
        return max(1, ceil(ceil(items / batch_size) / accumulation)) if items else 0

    def to_json(self) -> dict[str, Any]:
        """The value that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Statistics:
        """The inverse of `to_json`.

        Raises:
            TypeError: `value` was written by another version.
        """
        pairs = {key: tuple(map(tuple, value[key])) for key in PAIRS if key in value}
        seen = tuple((code, count, tuple(rows), tuple(told)) for code, count, rows, told in value.get("sightings", ()))
        return cls(**{**value, **pairs, "sightings": seen})


PAIRS = ("lengths", "first_trained", "prompt_lengths", "response_lengths", "turns", "languages")


def findings(statistics: Statistics) -> tuple[Finding, ...]:
    """What the tokens give cause to say, as a check says it. Counts are of the measured rows."""
    return tuple(describe(*sighting) for sighting in statistics.sightings)


def above(histogram: Histogram, limit: int) -> int:
    """Rows whose value exceeds `limit`."""
    return sum(count for value, count in histogram if value > limit)


def percentile(histogram: Histogram, share: float) -> int:
    """The smallest value that `share` (0 to 1) of all rows do not exceed; 0 without rows."""
    totals = list(accumulate(count for _, count in histogram))
    wanted = share * totals[-1] if totals else 0
    return next((value for (value, _), total in zip(histogram, totals, strict=True) if total >= wanted), 0)


def stored(registry: Registry, config: DataConfig) -> Statistics | None:
    """The statistics that a run of `config` would make, if one has made them and nothing has changed since.

    Raises:
        DatasetError: no such set, or it cannot be used.
    """
    place = _place(registry, config)
    record = read_record(place) if place else None
    try:
        return Statistics.from_json(record) if record else None
    except (TypeError, ValueError):
        return None


def keep(registry: Registry, config: DataConfig, statistics: Statistics) -> None:
    """Keep them for `stored`, if the folder can be written to and the disk has room: it is only a cache."""
    if place := _place(registry, config):
        with suppress(OSError):
            registry.cache_dir.mkdir(parents=True, exist_ok=True)
            write_json(place, statistics.to_json())


def _place(registry: Registry, config: DataConfig) -> Path | None:
    """Where they are kept; None for a model that is not on this machine."""
    [name] = config.dataset
    folder = models.folder_of(config.model_name_or_path or "")
    if folder is None:
        return None
    file = fingerprint(registry.file(name))
    identity = {
        "entry": dump(registry.entry(name)),
        "tokenizer": models.tokenizer_fingerprint(folder),
        "settings": config.model_dump(mode="json", include=SETTINGS),
    }
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]
    return registry.cache_dir / f"statistics-{file}-{digest}.json"


SETTINGS = {
    "dataset", "cutoff_len", "default_system", "train_on_prompt", "mask_history", "template", "enable_thinking",
    "measured_rows",
}  # fmt: skip
