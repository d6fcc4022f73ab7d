"""Files that keep their rows by columns and know how many there are: parquet. Marks count rows, not bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studio.datasets.reading.bytestream import ROW_MAX_BYTES, Mark
from studio.errors import UploadError

BATCH_ROWS = 256


def split_batches(path: Path, start: Mark) -> Iterator[tuple[Mark, Any]]:
    """The rows of a parquet file. Its marks count rows, not bytes."""
    with _parquet(path) as file:
        groups, row = _groups_from(file.metadata, start.row)
        # one thread: a page of a few rows is not worth a pool of them, each with memory of its own
        for batch in file.iter_batches(_batch_rows(file.metadata), groups, use_threads=False):
            wanted = batch.slice(max(0, start.row - row))
            first = row + batch.num_rows - wanted.num_rows
            for number, record in enumerate(wanted.to_pylist(), first):
                yield _row_mark(number), record
            row += batch.num_rows


def count_batches(path: Path) -> Iterator[Mark]:
    """The marks of a parquet file, which knows how many rows it has."""
    with _parquet(path) as file:
        yield from map(_row_mark, range(1, file.metadata.num_rows + 1))


def _row_mark(row: int) -> Mark:
    return Mark(row, row - 1, row)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise UploadError(f"{path.name} is not a parquet file that can be read: {error}") from error


def _batch_rows(metadata: Any) -> int:
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    row_bytes: int = sum(group.total_byte_size for group in groups) // max(1, metadata.num_rows)
    return max(1, min(BATCH_ROWS, ROW_MAX_BYTES // max(1, row_bytes)))


def _groups_from(metadata: Any, row: int) -> tuple[list[int], int]:
    """The row groups from the one that holds `row` on, and the number of the first row in them."""
    first = 1
    for group in range(metadata.num_row_groups):
        count = metadata.row_group(group).num_rows
        if first + count > row:
            return list(range(group, metadata.num_row_groups)), first
        first += count
    return [], first
