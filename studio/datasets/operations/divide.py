"""One set divided into several."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from studio.datasets.entry import Entry
from studio.datasets.formats import shown
from studio.datasets.incoming import publish, workshop
from studio.datasets.operations.arrange import drawn, size
from studio.datasets.operations.sources import Source, derived, file_name, opened
from studio.datasets.pace import Asked, Progress
from studio.datasets.reading import Record
from studio.datasets.registry import Registry
from studio.datasets.writing import line_of
from studio.errors import DatasetError

PARTS = ("train", "validation")
PARTS_MAX = 50
PART_CHARS = 40


def split(
    registry: Registry,
    name: str,
    fraction: float | None = None,
    column: str | None = None,
    seed: int = 42,
    output_name: str | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> list[Entry]:
    """Divide `name`: a random `fraction` and the rest (NAME-train, NAME-validation), or one set for each value of
    `column` (NAME-VALUE).

    Rows keep their order.

    Raises:
        DatasetError: neither or both were given, a part would be empty, or the column has too many values or none.
        Cancelled: as asked; nothing is left.
    """
    if (fraction is None) == (column is None):
        raise DatasetError("say how to split: either by a fraction such as 0.9, or by a column")
    source = opened(registry, name)
    records = source.records(progress, cancelled)
    labelled = _by_value(records, column) if column else _by_chance(records, source, fraction or 0, seed)
    labels = () if column else PARTS
    settings = {"column": column} if column else {"fraction": fraction, "seed": seed}
    base = output_name or name
    with workshop(registry.data_dir, base) as folder:
        made = [
            (path, derived(source.entry, f"{base}-{label}", "split", [name], part=label, **settings))
            for label, path in _dealt(labelled, labels, folder, base).items()
        ]
        return publish(registry, made)


def _by_chance(records: Iterable[Record], source: Source, fraction: float, seed: int) -> Iterator[tuple[str, Record]]:
    count = size(source, None, fraction)
    if count == source.rows:
        raise DatasetError(f"{source.entry.name} has {source.rows} rows: {fraction} of them leave none for the rest")
    for taken, record in zip(drawn(source.rows, count, seed), records, strict=True):
        yield PARTS[0] if taken else PARTS[1], record


def _by_value(records: Iterable[Record], column: str) -> Iterator[tuple[str, Record]]:
    for row, record in enumerate(records, 1):
        if column not in record:
            raise DatasetError(f"row {row} has no column {column!r}; it has {', '.join(record)}")
        yield _label(record[column], row, column), record


def _label(value: Any, row: int, column: str) -> str:
    if isinstance(value, list | dict):
        raise DatasetError(f"row {row}: {column!r} must hold a text, a number, true or false, found {shown(value)}")
    text = value.strip() if isinstance(value, str) else json.dumps(value, default=str)
    return text[:PART_CHARS] or "empty"


def _dealt(labelled: Iterable[tuple[str, Record]], labels: Iterable[str], folder: Path, base: str) -> dict[str, Path]:
    """A file for each label with its records; `labels` are those that come first, whatever the first row's is."""
    files: dict[str, BinaryIO] = {}
    paths: dict[str, Path] = dict.fromkeys(labels, folder)
    with ExitStack() as stack:
        for label, record in labelled:
            if label not in files:
                if len(files) == PARTS_MAX:
                    raise DatasetError(f"there are more than {PARTS_MAX} different values: choose another column")
                # in folders of their own: names that differ may become the same when they are made safe
                part = folder / str(len(files))
                part.mkdir()
                paths[label] = part / file_name(f"{base}-{label}")
                files[label] = stack.enter_context(paths[label].open("xb"))
            files[label].write(line_of(record))
    return paths
