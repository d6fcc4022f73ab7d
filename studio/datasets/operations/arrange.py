"""The same rows in another order, or some of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import compress
from pathlib import Path

from studio.datasets.entry import Entry
from studio.datasets.incoming import publish, workshop
from studio.datasets.operations.sources import Source, derived, file_name, opened
from studio.datasets.pace import Asked, Progress, stop_if_asked
from studio.datasets.registry import Registry, size_of
from studio.datasets.writing import line_of, write_jsonl
from studio.errors import DatasetError

# rows of one bucket are in memory together; a packed file may unpack to ten times its size
BUCKET_BYTES = 64 << 20
UNPACKED_TIMES = 10
BUCKETS_MAX = 256


def shuffle(
    registry: Registry,
    name: str,
    seed: int = 42,
    output_name: str | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> list[Entry]:
    """All rows of `name` in an order drawn by `seed`.

    Every row is dealt to a random bucket on disk, then each bucket is shuffled in memory: any order is as likely as
    any other, for files of any size, read once from front to back.

    Raises:
        DatasetError: a set or row that cannot be read.
        Cancelled: as asked; nothing is left.
    """
    source = opened(registry, name)
    name = output_name or f"{name}-shuffled"
    chance = random.Random(seed)
    with workshop(registry.data_dir, name) as folder:
        buckets = _dealt(source, folder, chance, progress, cancelled)
        path = folder / file_name(name)
        with open(path, "xb") as file:
            for bucket in buckets:
                stop_if_asked(cancelled)
                file.writelines(_shuffled(bucket, chance))
        return publish(registry, [(path, derived(source.entry, name, "shuffle", [source.entry.name], seed=seed))])


def _dealt(
    source: Source, folder: Path, chance: random.Random, progress: Progress | None, cancelled: Asked | None
) -> list[Path]:
    count = min(BUCKETS_MAX, 1 + size_of(source.path) * UNPACKED_TIMES // BUCKET_BYTES)
    paths = [folder / f"bucket-{number}" for number in range(count)]
    with ExitStack() as stack:
        files = [stack.enter_context(open(path, "xb")) for path in paths]
        for record in source.records(progress, cancelled):
            files[chance.randrange(count)].write(line_of(record))
    return paths


def _shuffled(bucket: Path, chance: random.Random) -> list[bytes]:
    lines = bucket.read_bytes().splitlines(keepends=True)
    bucket.unlink()
    chance.shuffle(lines)
    return lines


def sample(
    registry: Registry,
    name: str,
    rows: int | None = None,
    fraction: float | None = None,
    seed: int = 42,
    output_name: str | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> list[Entry]:
    """`rows` rows of `name`, or a `fraction` of them, drawn by `seed`; they keep their order.

    Raises: as `shuffle`; DatasetError also for a sample of nothing, or of more than there is.
    """
    source = opened(registry, name)
    count = size(source, rows, fraction)
    name = output_name or f"{name}-sample"
    with workshop(registry.data_dir, name) as folder:
        path = folder / file_name(name)
        write_jsonl(path, lambda: compress(source.records(progress, cancelled), drawn(source.rows, count, seed)))
        return publish(
            registry, [(path, derived(source.entry, name, "sample", [source.entry.name], rows=count, seed=seed))]
        )


def size(source: Source, rows: int | None, fraction: float | None) -> int:
    """How many rows `rows` or else `fraction` of a set are.

    Raises:
        DatasetError: neither was given, or it is none of them, or more than there are.
    """
    if rows is None and fraction is None:
        raise DatasetError("say how many rows: a number, or a fraction such as 0.1")
    count = rows if rows is not None else round(source.rows * (fraction or 0))
    if not 1 <= count <= source.rows:
        raise DatasetError(f"{source.entry.name} has {source.rows} rows; {count} cannot be taken of them")
    return count


def drawn(total: int, count: int, seed: int) -> Iterator[bool]:
    """Whether each of `total` things is among the `count` that are drawn: any choice is as likely as any other."""
    chance = random.Random(seed)
    for left in range(total, 0, -1):
        taken = chance.randrange(left) < count
        count -= taken
        yield taken
