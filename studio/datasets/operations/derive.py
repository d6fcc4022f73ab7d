"""A copy of a set, whole or without its repetitions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import blake2b

import orjson

from studio.datasets.copying import copy
from studio.datasets.entry import Entry
from studio.datasets.incoming import publish, workshop
from studio.datasets.operations.sources import derived, file_name, opened
from studio.datasets.pace import Asked, Progress
from studio.datasets.reading import Record, stem_of
from studio.datasets.registry import Registry
from studio.datasets.writing import line_of, write_jsonl

DIGEST_BYTES = 16


def duplicate(
    registry: Registry,
    name: str,
    output_name: str | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> list[Entry]:
    """The file of `name` once more, byte for byte, as a set of its own.

    Raises:
        DatasetError: no such set, or it cannot be used.
        Cancelled: as asked; nothing is left.
    """
    entry, path = registry.entry(name), registry.file(name)
    name = output_name or f"{name}-copy"
    with workshop(registry.data_dir, name) as folder:
        target = folder / file_name(name, "" if path.is_dir() else path.name[len(stem_of(path.name)) :])
        copy(path, target, progress, cancelled)
        made = replace(derived(entry, name, "duplicate", [entry.name]), num_samples=entry.num_samples)
        return publish(registry, [(target, made)])


def deduplicate(
    registry: Registry,
    name: str,
    output_name: str | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> list[Entry]:
    """`name` without the rows that say again what a row before them says, field for field; the first one stays.

    How many were left out stands in the entry's origin, as `dropped`. A row takes about 100 bytes of memory.

    Raises: as `duplicate`, and DatasetError for a row that cannot be read.
    """
    source = opened(registry, name)
    name = output_name or f"{name}-deduplicated"
    seen: set[bytes] = set()
    with workshop(registry.data_dir, name) as folder:
        path = folder / file_name(name)
        write_jsonl(path, lambda: _firsts(source.records(progress, cancelled), seen))
        made = derived(source.entry, name, "deduplicate", [source.entry.name], dropped=source.rows - len(seen))
        return publish(registry, [(path, made)])


def _firsts(records: Iterable[Record], seen: set[bytes]) -> Iterator[Record]:
    for record in records:
        digest = blake2b(_canonical(record), digest_size=DIGEST_BYTES).digest()
        if digest not in seen:
            seen.add(digest)
            yield record


def _canonical(record: Record) -> bytes:
    try:
        return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return line_of(record)
