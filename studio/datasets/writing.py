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
    schema = pa.schema([(name, pa.string() if kind is None else kind) for name, kind in types.items()])
    loose = {name for name, kind in types.items() if kind is None}
    with pq.ParquetWriter(path, schema) as writer:
        for batch in _batches(source()):
            rows = [{name: _loose(value) if name in loose else value for name, value in row.items()} for row in batch]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


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
    import pyarrow as pa

    if one is None or other is None:
        return None
    keys, more = _keys(one), _keys(other)
    if keys and more and keys != more:
        return None
    try:
        schemas = [pa.schema([("it", one)]), pa.schema([("it", other)])]
        return pa.unify_schemas(schemas, promote_options="permissive").field("it").type
    except pa.ArrowException:
        return None


def _keys(kind: Any) -> list[str]:
    """The names inside a type, as deep as they go."""
    inner = [kind.field(number) for number in range(kind.num_fields)]
    return [name for field in inner for name in (field.name, *_keys(field.type))]


def _loose(value: Any) -> str | None:
    return None if value is None else cell_of(value)


WRITERS: dict[str, Callable[[Path, Source], None]] = {
    "jsonl": write_jsonl,
    "json": write_json,
    "csv": write_csv,
    "parquet": write_parquet,
}
# how often each reads its source
PASSES = {"jsonl": 1, "json": 1, "csv": 2, "parquet": 2}
