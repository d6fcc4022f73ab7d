"""A data file once more, with some rows changed.

Text (json, jsonl, csv, tsv, txt) keeps every byte of the other rows. Parquet is written anew in its own schema.
Everything else (xlsx, arrow, packed files, folders) becomes JSON lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.datasets.edit.splicing import Cut, adding, deleting, layout_of, replacing, splice
from studio.datasets.index import Index
from studio.datasets.reading import Mark, Record, format_name, rows, stem_of
from studio.datasets.writing import write_jsonl
from studio.errors import DatasetError, RowError

PARQUET_ROWS = 1000


@dataclass(frozen=True)
class Change:
    """What becomes of some rows, by their number. `added` stand after that row (0: before the first)."""

    replaced: Mapping[int, Record] = field(default_factory=dict)
    deleted: frozenset[int] = frozenset()
    added: Mapping[int, Record] = field(default_factory=dict)

    def within(self, first: int, last: int) -> Change:
        """What of it is about the rows from `first` to `last`."""
        rows = range(first, last + 1)
        return Change(
            {row: record for row, record in self.replaced.items() if row in rows},
            frozenset(row for row in self.deleted if row in rows),
            {row: record for row, record in self.added.items() if max(1, row) in rows},
        )


def rewritten(path: Path, index: Index, change: Change, folder: Path) -> Path:
    """A new file in `folder` with the rows of `path` after `change`.

    Raises:
        DatasetError: a row that this kind of file cannot hold, or one that cannot be read where all must be.
    """
    if layout_of(path):
        splice(path, folder / path.name, _cuts(path, index, change))
        return folder / path.name
    if not path.is_dir() and format_name(path.name) == ".parquet":
        _rewrite_parquet(path, folder / path.name, change, {row: read_row(path, index, row) for row in change.replaced})
        return folder / path.name
    target = folder / f"{path.name if path.is_dir() else stem_of(path.name)}.jsonl"
    write_jsonl(target, lambda: _changed(rows(path), change))
    return target


def read_row(path: Path, index: Index, row: int) -> Record:
    """What `path` holds as its `row`-th row.

    Raises:
        DatasetError: there is none, or it cannot be read.
    """
    for mark, record in rows(path, index.before(row)):
        if mark.row == row:
            if isinstance(record, RowError):
                raise record
            return dict(record)
    raise DatasetError(f"row {row} cannot be found: the file was changed meanwhile, look at it again")


def _cuts(path: Path, index: Index, change: Change) -> list[Cut]:
    cuts = [cut for row, record in change.replaced.items() for cut in replacing(path, index, row, record)]
    cuts += [cut for row, record in change.added.items() for cut in adding(path, index, row, record)]
    return sorted(cuts + (deleting(path, index, sorted(change.deleted)) if change.deleted else []))


def _changed(read: Iterable[tuple[Mark, Record | RowError]], change: Change) -> Iterator[Record]:
    if 0 in change.added:
        yield change.added[0]
    for mark, record in read:
        if mark.row in change.replaced:
            yield change.replaced[mark.row]
        elif mark.row not in change.deleted:
            if isinstance(record, RowError):
                raise record
            yield record
        if mark.row in change.added:
            yield change.added[mark.row]


def _rewrite_parquet(path: Path, target: Path, change: Change, shown: Mapping[int, Record]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file, pq.ParquetWriter(target, file.schema_arrow) as writer:
        first = 1
        for batch in file.iter_batches(PARQUET_ROWS):
            last = first + batch.num_rows - 1
            here = change.within(first, last)
            table = pa.Table.from_batches([batch])
            writer.write_table(table if here == Change() else _rewrite_batch(table, first, here, shown))
            first = last + 1


def _rewrite_batch(table: Any, first: int, change: Change, shown: Mapping[int, Record]) -> Any:
    """The rows of `table` after `change`, in its schema; the first is the `first` of the file."""
    import pyarrow as pa

    old = {row: record for row, record in enumerate(table.to_pylist(), first)}
    replaced = {
        # what the person left as it was shown stays as it is: a date that is shown as text is a date all the same
        row: _checked(
            {name: old[row].get(name) if shown[row].get(name) == value else value for name, value in new.items()},
            table.schema,
        )
        for row, new in change.replaced.items()
    }
    added = {row: _checked(record, table.schema) for row, record in change.added.items()}
    marked = ((Mark(row, row - 1, row), record) for row, record in old.items())
    changed = list(_changed(marked, Change(replaced, change.deleted, added)))
    return pa.Table.from_pylist(changed, schema=table.schema)


def _checked(record: Record, schema: Any) -> Record:
    """`record`, if the columns can hold it.

    Raises:
        DatasetError: they cannot.
    """
    import pyarrow as pa

    try:
        (held,) = pa.Table.from_pylist([record], schema=schema).to_pylist()
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"a column of a parquet file holds one type: {error}") from error
    if held != {**dict.fromkeys(schema.names), **record}:
        raise DatasetError(f"the columns of the file are {', '.join(schema.names)}, and they cannot hold this row")
    return record
