"""What operations read from and make: the records of a set, and the entry of a set that comes of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studio.datasets.entry import Entry
from studio.datasets.index import indexed
from studio.datasets.pace import Asked, Progress, paced
from studio.datasets.reading import Record, rows
from studio.datasets.registry import Registry
from studio.errors import DatasetError, RowError
from studio.files import safe_name


@dataclass(frozen=True)
class Source:
    """A set that can be used, and how many rows its file has."""

    entry: Entry
    path: Path
    rows: int

    def records(self, progress: Progress | None = None, cancelled: Asked | None = None) -> Iterator[Record]:
        """Every record of the file.

        Raises:
            DatasetError: a row that cannot be read.
            Cancelled: as asked.
        """
        try:
            for _, record in paced(rows(self.path), self.rows, progress, cancelled):
                if isinstance(record, RowError):
                    raise record
                yield record
        except RowError as error:
            raise DatasetError(f"{self.entry.name}: {error}. Repair it first, then try again") from error


def opened(registry: Registry, name: str) -> Source:
    """The set called `name`.

    Raises:
        DatasetNotFound, DatasetError: there is none, it cannot be used, or it has no rows.
    """
    entry, path = registry.entry(name), registry.file(name)
    count = indexed(path, registry.cache_dir).rows
    if not count:
        raise DatasetError(f"{name} has no rows")
    return Source(entry, path, count)


def derived(entry: Entry, name: str, operation: str, of: Sequence[str], **settings: Any) -> Entry:
    """An entry for a new set `name` that reads its rows as `entry` does, and says what it was made `of` and how."""
    told = {key: value for key, value in settings.items() if value is not None}
    origin = {"operation": operation, "of": list(of), **told}
    return replace(
        entry, name=name.strip(), file_name="", origin=origin, num_samples=None, hub="", hub_id="", subset=None,
        folder=None, split="train",
    )  # fmt: skip


def file_name(name: str, suffix: str = ".jsonl") -> str:
    """What the file of the set `name` is called."""
    return safe_name(name.strip() + suffix)
