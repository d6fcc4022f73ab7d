"""Files that keep rows by columns: parquet, and arrow as a file or a stream. Marks count rows, not bytes.

Values become what JSON can hold, so that every kind of file gives the same records.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studio.datasets.reading.mark import MARK_ROWS, Mark, Record
from studio.datasets.reading.packing import check_unpacked
from studio.errors import RowError, UploadError

BATCH_ROWS = 256
BATCH_BYTES = 4 << 20
# a row group is decoded from its beginning: in larger ones a row far inside is far away
NEAR_BYTES = 32 << 20
# each batch on the way to a row takes a little time, however little of it is read
COPY_ROWS = 8192
ROWS_PER_BYTE_MAX = 100
_BUFFER_BYTES = 1 << 20
_ARROW_FILE = b"ARROW1"
_UNREADABLE = (ValueError, OverflowError, KeyError)


def split_parquet(path: Path, start: Mark) -> Iterator[tuple[Mark, Any]]:
    """The rows of a parquet file."""
    return _split(path, _parquet_batches(path, start.offset), start)


def split_arrow(path: Path, start: Mark) -> Iterator[tuple[Mark, Any]]:
    """The rows of an arrow file or stream, which is mapped into memory, not read."""
    return _split(path, _arrow_batches(path, start.offset), start)


def mark_parquet(path: Path) -> Iterator[Mark]:
    """The marks of a parquet file, which knows how many rows it has."""
    with _parquet(path) as file:
        return _marks(path, file.metadata.num_rows)


def mark_arrow(path: Path) -> Iterator[Mark]:
    """The marks of an arrow file: its batches are counted, not decoded."""
    return _marks(path, sum(batch.num_rows for batch in _arrow_batches(path, 0)))


def parse_values(record: Record | RowError, mark: Mark) -> Record:
    """What was split is a record already."""
    if isinstance(record, RowError):
        raise record
    return record


def is_near(path: Path) -> bool:
    """Whether every row of a parquet file is quickly reached."""
    with _parquet(path) as file:
        metadata = file.metadata
        return all(metadata.row_group(group).total_byte_size <= NEAR_BYTES for group in range(metadata.num_row_groups))


def unpacked_bytes(path: Path) -> int:
    """What the columns of a parquet file say that they unpack to."""
    with _parquet(path) as file:
        return _unpacked_bytes(file.metadata)


def write_arrow(path: Path, target: Path) -> Iterator[int]:
    """Write the rows of a parquet file as an arrow file of small batches; yields the rows written so far."""
    import pyarrow as pa

    with _parquet(path) as file, pa.ipc.new_file(target, file.schema_arrow) as writer:
        rows = 0
        for batch in file.iter_batches(COPY_ROWS, use_threads=False):
            writer.write_batch(batch)
            rows += batch.num_rows
            yield rows
    # the library would keep 100 MB for next time, while the studio lives on for weeks
    pa.default_memory_pool().release_unused()


def _marks(path: Path, rows: int) -> Iterator[Mark]:
    # a null costs nothing there: some bytes may claim any number of rows
    if rows > ROWS_PER_BYTE_MAX * path.stat().st_size:
        raise UploadError(f"{path.name} says that it has {rows} rows, too many for its size: it is damaged or a bomb")
    return (Mark(row + 1, row, row + 1) for row in (*range(0, rows, MARK_ROWS), rows))


def _split(path: Path, batches: Iterator[Any], start: Mark) -> Iterator[tuple[Mark, Record | RowError]]:
    row, offset, _, file = start
    for piece in (piece for batch in _counted(path, batches) for piece in _pieces(batch)):
        for record in _records(piece, row):
            yield Mark(row, offset, offset + 1, file), record
            row += 1
            offset += 1


def _counted(path: Path, batches: Iterator[Any]) -> Iterator[Any]:
    """`batches`, as long as they are no bomb: a thousand rows may point at one long text, which no header tells."""
    packed_bytes, unpacked_bytes = path.stat().st_size, 0
    for batch in batches:
        unpacked_bytes += _value_bytes(batch)
        check_unpacked(path.name, packed_bytes, unpacked_bytes)
        yield batch


def _value_bytes(batch: Any) -> int:
    """Bytes of all values, those counted each time that a dictionary keeps but once."""
    return sum(map(_column_bytes, batch.columns))


def _column_bytes(column: Any) -> int:
    if not _holds_dictionary(column.type):
        return int(column.nbytes)
    column.validate(full=True)  # its offsets and indices are followed here
    return _followed_bytes(column)


def _followed_bytes(column: Any) -> int:
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_struct(column.type):
        return sum(map(_followed_bytes, column.flatten()))
    if types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
        return int(column.nbytes) + _followed_bytes(column.flatten())
    if types.is_dictionary(column.type) and _is_bytes(column.type.value_type):
        return int(pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0)
    return int(column.nbytes)


def _holds_dictionary(kind: Any) -> bool:
    from pyarrow import types

    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return types.is_dictionary(kind) or any(map(_holds_dictionary, inner))


def _is_bytes(kind: Any) -> bool:
    """Whether values of an arrow type are runs of bytes."""
    from pyarrow import types

    return any(
        is_kind(kind) for is_kind in (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    )


def _pieces(batch: Any) -> Iterator[Any]:
    """A batch in parts that are small as Python values."""
    row_bytes = _value_bytes(batch) // max(1, batch.num_rows)
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, row_bytes)))
    return (batch.slice(first, rows) for first in range(0, batch.num_rows, rows))


def _records(batch: Any, row: int) -> list[Record | RowError]:
    try:
        return _plain_rows(batch)
    except _UNREADABLE:
        return [_record(batch.slice(at, 1), row + at) for at in range(batch.num_rows)]


def _record(batch: Any, row: int) -> Record | RowError:
    try:
        record: Record = _plain_rows(batch)[0]
    except _UNREADABLE as error:
        return RowError(row, f"holds a value that cannot be read: {error}")
    return record


def _plain_rows(batch: Any) -> list[Any]:
    batch.validate(full=True)  # offsets of a damaged file lead anywhere in memory
    records = batch.to_pylist(maps_as_pydicts="strict")
    if all(_is_plain(column.type) for column in batch.schema):
        return list(records)
    return [_plain(record) for record in records]


def _is_plain(kind: Any) -> bool:
    """Whether the values of an arrow type are what JSON can hold."""
    from pyarrow import types

    if types.is_struct(kind):
        return all(_is_plain(field.type) for field in kind)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    simple = (types.is_string, types.is_large_string, types.is_boolean, types.is_integer, types.is_null)
    return any(is_kind(kind) for is_kind in simple)


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: dates as text, bytes that are no text as an object, NaN (pandas' null) as null."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, bytes):
        return _text(value)
    return value if value is None or isinstance(value, str | int) else str(value)


def _number(value: float) -> float | None:
    if math.isinf(value):
        raise ValueError("an infinite number")
    return None if math.isnan(value) else value


def _text(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        # never a text: nobody trains on base64 without a word
        return {"base64": base64.b64encode(value).decode()}


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with _explained(path, "a parquet"), pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
        check_unpacked(path.name, path.stat().st_size, _unpacked_bytes(file.metadata))
        _refuse_same_names(path, file.schema_arrow.names)
        yield file


@contextmanager
def _arrow(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    with _explained(path, "an arrow"), pa.memory_map(str(path)) as data:
        is_file = data.read(len(_ARROW_FILE)) == _ARROW_FILE
        data.seek(0)
        with pa.ipc.open_file(data) if is_file else pa.ipc.open_stream(data) as file:
            _refuse_same_names(path, file.schema.names)
            yield file


@contextmanager
def _explained(path: Path, kind: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, ValueError, OverflowError, RecursionError) as error:
        raise UploadError(f"{path.name} is not {kind} file that can be read: {error}") from error


def _refuse_same_names(path: Path, names: list[str]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UploadError(f"{path.name} has several columns called {twice[0]!r}: rename them")


def _unpacked_bytes(metadata: Any) -> int:
    total_bytes: int = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return total_bytes


def _parquet_batches(path: Path, skip_rows: int) -> Iterator[Any]:
    with _parquet(path) as file:
        groups, skip_rows = _groups_from(file.metadata, skip_rows)
        # one thread: a page of a few rows is not worth a pool of them, each with memory of its own
        batches = file.iter_batches(_batch_rows(file.metadata), groups, use_threads=False)
        yield from _from_row(batches, skip_rows)


def _arrow_batches(path: Path, skip_rows: int) -> Iterator[Any]:
    with _arrow(path) as file:
        count = getattr(file, "num_record_batches", None)
        yield from _from_row(iter(file) if count is None else map(file.get_batch, range(count)), skip_rows)


def _from_row(batches: Iterator[Any], skip_rows: int) -> Iterator[Any]:
    for batch in batches:
        batch.validate()
        if skip_rows < batch.num_rows:
            yield batch.slice(skip_rows)
        skip_rows = max(0, skip_rows - batch.num_rows)


def _batch_rows(metadata: Any) -> int:
    row_bytes: int = _unpacked_bytes(metadata) // max(1, metadata.num_rows)
    return max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, row_bytes)))


def _groups_from(metadata: Any, skip_rows: int) -> tuple[list[int], int]:
    """The row groups from the one that holds the row after `skip_rows` on, and the rows to skip in them."""
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if skip_rows < rows:
            return list(range(group, metadata.num_row_groups)), skip_rows
        skip_rows -= rows
    return [], 0
