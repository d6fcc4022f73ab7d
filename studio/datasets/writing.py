"""Records written as a file of rows: jsonl, json, csv, parquet. A batch of rows is in memory, never the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from studio.datasets.reading import Record
from studio.errors import DatasetError

BATCH_ROWS = 1000
# called again for formats that must know all columns before the first row
Source = Callable[[], Iterable[Record]]


def write(path: Path, file_format: str, source: Source) -> None:
    """Write the records of `source` to the new file `path`.

    Raises:
        DatasetError: an unknown format, or a value that it cannot hold.
    """
    if file_format not in WRITERS:
        raise DatasetError(f"cannot write {file_format!r}; it must be one of {', '.join(WRITERS)}")
    WRITERS[file_format](path, source)


def line_of(record: Any) -> bytes:
    """`record`, or any value, as one line of JSON.

    Raises:
        DatasetError: it is nested too deeply, or holds half of a character.
    """
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # integers beyond 64 bits and deep nesting: what only the slow way can write
        return _slow_line(record)


def _slow_line(record: Any) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"
    except RecursionError as error:
        raise DatasetError("a row is nested too deeply to be written") from error
    except UnicodeEncodeError as error:
        raise DatasetError("a row holds half of a character, which no file can hold") from error


def write_jsonl(path: Path, source: Source) -> None:
    """One object a line."""
    with open(path, "xb") as file:
        file.writelines(map(line_of, source()))


def read_jsonl(path: Path) -> Iterator[Record]:
    """The records of a file that `write_jsonl` wrote."""
    with open(path, "rb") as file:
        yield from map(json.loads, file)


def write_json(path: Path, source: Source) -> None:
    """One list of objects, each on its line."""
    with open(path, "xb") as file:
        before = b"[\n"
        for record in source():
            file.write(before + line_of(record).rstrip(b"\n"))
            before = b",\n"
        file.write(b"\n]\n" if before == b",\n" else b"[]\n")


def write_csv(path: Path, source: Source) -> None:
    """A header and one line a row; what is no text stands as JSON."""
    names = list(dict.fromkeys(name for record in source() for name in record))
    with open(path, "x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([cell_of(record.get(name)) for name in names] for record in source())


def cell_of(value: Any) -> str:
    """A value as it stands in a table: text as it is, anything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else line_of(value).decode().rstrip("\n")


def write_parquet(path: Path, source: Source) -> None:
    """Columns with the types that all rows agree on; a column whose values do not agree holds JSON text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types: dict[str, Any] = {}
    for batch in _batches(source()):
        for name in dict.fromkeys(name for record in batch for name in record):
            types[name] = _common(types.get(name, pa.null()), _type([record.get(name) for record in batch]))
    loose = {name for name, kind in types.items() if kind is None or _has_hollow(kind)}
    schema = pa.schema([(name, pa.string() if name in loose else kind) for name, kind in types.items()])
    try:
        with pq.ParquetWriter(path, schema) as writer:
            for batch in _batches(source()):
                writer.write_table(pa.Table.from_pylist([_loosened(row, loose) for row in batch], schema=schema))
    except pa.ArrowException as error:
        raise DatasetError(f"parquet cannot hold these rows: {error}. Choose jsonl") from error


def _loosened(record: Record, loose: set[str]) -> Record:
    """`record` with JSON text in its `loose` columns."""
    spelled = {name: cell_of(record[name]) for name in loose if record.get(name) is not None}
    return {**record, **spelled}


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    records = iter(records)
    while batch := list(islice(records, BATCH_ROWS)):
        yield batch


def _type(values: list[Any]) -> Any:
    """The arrow type of `values`; None where they would not come back as they are.

    Objects with different keys would: each would get the keys of all the others, as nulls.
    """
    import pyarrow as pa

    try:
        column = pa.array(values)
        return column.type if column.to_pylist() == values else None
    except (pa.ArrowException, OverflowError):
        return None


def _common(one: Any, other: Any) -> Any:
    """The type that holds both, or None."""
    from pyarrow import types

    if one is None or other is None or one == other:
        return one if one == other else None
    if types.is_null(one) or types.is_null(other):
        return other if types.is_null(one) else one
    if types.is_list(one) and types.is_list(other):
        return _list_of(_common(one.value_type, other.value_type))
    if types.is_struct(one) and types.is_struct(other):
        return _struct_of(one, other)
    numbers = {str(one), str(other)} == {"int64", "double"}
    return (one if types.is_floating(one) else other) if numbers else None


def _list_of(kind: Any) -> Any:
    import pyarrow as pa

    return None if kind is None else pa.list_(kind)


def _struct_of(one: Any, other: Any) -> Any:
    import pyarrow as pa

    if [field.name for field in one] != [field.name for field in other]:
        return None
    fields = {field.name: _common(field.type, other.field(field.name).type) for field in one}
    return None if None in fields.values() else pa.struct(list(fields.items()))


def _has_hollow(kind: Any) -> bool:
    """Whether there are objects without any key in it, which parquet cannot hold."""
    from pyarrow import types

    if types.is_list(kind):
        return _has_hollow(kind.value_type)
    return types.is_struct(kind) and (kind.num_fields == 0 or any(_has_hollow(field.type) for field in kind))


WRITERS: dict[str, Callable[[Path, Source], None]] = {
    "jsonl": write_jsonl,
    "json": write_json,
    "csv": write_csv,
    "parquet": write_parquet,
}
# how often each reads its source
PASSES = {"jsonl": 1, "json": 1, "csv": 2, "parquet": 2}
