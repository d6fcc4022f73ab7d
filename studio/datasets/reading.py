"""The rows of a data file, one at a time, with the place of each: json, jsonl, csv, tsv, txt (also .gz), parquet.

Memory holds one row (parquet: one batch), never the file. A row that cannot be read is yielded as a RowError with
row, line and column where reading can go on after it, and raised where it cannot. Rows count from 1; blank lines are
no rows.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from studio.datasets import json_text
from studio.datasets.bytestream import BEGIN, HEAD_BYTES, ROW_MAX_BYTES, Mark, decode, open_text, too_long
from studio.errors import RowError, UploadError

BATCH_ROWS = 256
Record = dict[str, Any]


class Kind(NamedTuple):
    """A file kind: `split` finds the rows without understanding them, `parse` makes one a record.

    `marks` is given where the places of the rows are known without looking at them.
    """

    split: Callable[[Path, Mark], Iterator[tuple[Mark, Any]]]
    parse: Callable[[Any, Mark], Record]
    marks: Callable[[Path], Iterator[Mark]] | None = None


def rows(path: Path, start: Mark = BEGIN) -> Iterator[tuple[Mark, Record | RowError]]:
    """Every row of `path` from `start` on.

    Raises:
        RowError: a row after which nothing can be read (broken JSON array, unclosed quote).
        UploadError: the file as a whole cannot be read (encoding, kind, damage).
    """
    kind = kind_of(path)
    with _explained(path):
        for mark, raw in kind.split(path, start):
            try:
                yield mark, kind.parse(raw, mark)
            except RowError as error:
                yield mark, error


def marks(path: Path) -> Iterator[Mark]:
    """The place of every row, found as cheaply as the kind allows. Raises as `rows` does."""
    kind = kind_of(path)
    with _explained(path):
        yield from kind.marks(path) if kind.marks else (mark for mark, _ in kind.split(path, BEGIN))


def kind_of(path: Path) -> Kind:
    """How `path` is read: by its extension, and for JSON by its first character.

    Raises:
        UploadError: an extension that is not read here.
    """
    suffix = format_name(path.name)
    if suffix not in READERS:
        raise UploadError(f"{path.name}: cannot read {suffix or 'a file without extension'}; use {', '.join(READERS)}")
    if suffix in (".json", ".jsonl", ".ndjson"):
        with _explained(path):
            return _json_kind(path, suffix)
    return READERS[suffix]


def stem_of(file_name: str) -> str:
    """The name without its extension; `.jsonl.gz` is one extension."""
    bare = file_name[:-3] if file_name.lower().endswith(".gz") else file_name
    return bare[: len(bare) - len(format_name(file_name))]


def format_name(file_name: str) -> str:
    """The extension that decides how a file is read, in lower case and without .gz: `.jsonl` for `A.JSONL.gz`."""
    name = file_name.lower().removesuffix(".gz")
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix if stem else ""


def _json_kind(path: Path, suffix: str) -> Kind:
    with open_text(path) as stream:
        head = stream.read(HEAD_BYTES).lstrip()
        if head.startswith(b"["):
            return JSON_ARRAY
        first_line = (head + stream.readline(ROW_MAX_BYTES)).lstrip().split(b"\n", 1)[0]
    # a .json file of one object a line is common and fine; one object over many lines is no list of rows
    return JSON_LINES if suffix != ".json" or json_text.is_object(first_line) else JSON_ARRAY


def split_lines(path: Path, start: Mark) -> Iterator[tuple[Mark, bytes]]:
    """The lines that are not blank."""
    row, offset, line = start
    with open_text(path, offset) as stream:
        while data := stream.readline(ROW_MAX_BYTES + 1):
            if len(data) > ROW_MAX_BYTES:
                raise too_long(Mark(row, offset, line))
            if not data.isspace():
                yield Mark(row, offset, line), data
                row += 1
            offset += len(data)
            line += 1


def split_array(path: Path, start: Mark) -> Iterator[tuple[Mark, Any]]:
    """The elements of the list that a JSON file holds."""
    with open_text(path, start.offset) as stream:
        yield from json_text.elements(stream, start)


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


def parse_text(data: bytes, mark: Mark) -> Record:
    return {"text": decode(data, mark).rstrip("\r\n")}


def parse_record(value: Any, mark: Mark) -> Record:
    if not isinstance(value, dict):
        raise RowError(mark.row, f"(line {mark.line}) must be an object {{…}}, found {type(value).__name__}")
    return value


def parse_cells(cells: Record | RowError, mark: Mark) -> Record:
    if isinstance(cells, RowError):
        raise cells
    return cells


@dataclass
class _Lines:
    """Decoded lines for the csv module, which pulls several for a row with line breaks inside."""

    stream: BinaryIO
    mark: Mark
    row_bytes: int = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        data = self.stream.readline(ROW_MAX_BYTES + 1)
        if not data:
            raise StopIteration
        self.row_bytes += len(data)
        if self.row_bytes > ROW_MAX_BYTES:
            raise too_long(self.mark)
        text = decode(data, self.mark)
        row, offset, line = self.mark
        self.mark = Mark(row, offset + len(data), line + 1)
        return text


def split_csv(path: Path, start: Mark) -> Iterator[tuple[Mark, Record | RowError]]:
    """The rows of a comma-separated file (or semicolon, tab, bar: by its first line) with a header."""
    return _split_table(path, start, "")


def split_tsv(path: Path, start: Mark) -> Iterator[tuple[Mark, Record | RowError]]:
    """The rows of a tab-separated file with a header."""
    return _split_table(path, start, "\t")


def _split_table(path: Path, start: Mark, delimiter: str) -> Iterator[tuple[Mark, Record | RowError]]:
    csv.field_size_limit(ROW_MAX_BYTES)
    with open_text(path) as stream:
        delimiter = delimiter or max(",;\t|", key=decode(stream.readline(ROW_MAX_BYTES), BEGIN).count)
    with open_text(path) as stream:
        lines = _Lines(stream, BEGIN)
        header = _header(next(_cells(lines, delimiter), (BEGIN, [])))
    start = max(start, lines.mark)
    with open_text(path, start.offset) as stream:
        for mark, cells in _cells(_Lines(stream, start), delimiter):
            yield mark, _record(mark, header, cells)


def _header(first: tuple[Mark, list[str]]) -> list[str]:
    names = [name.strip() for name in first[1]]
    if not all(names) or len(set(names)) != len(names) or not names:
        raise UploadError(
            f"the first line must name each column once; found {', '.join(map(repr, names)) or 'nothing'}"
        )
    return names


def _record(mark: Mark, header: list[str], cells: list[str]) -> Record | RowError:
    if len(cells) == len(header):
        return dict(zip(header, cells, strict=True))
    what = f"(line {mark.line}) has {len(cells)} fields, the header has {len(header)}: {', '.join(header)}"
    return RowError(mark.row, what)


def _cells(lines: _Lines, delimiter: str) -> Iterator[tuple[Mark, list[str]]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        mark = lines.mark
        lines.row_bytes = 0
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise RowError(mark.row, f"(line {mark.line}) is not valid CSV: {error}") from error
        if cells:
            yield mark, cells
            lines.mark = lines.mark._replace(row=mark.row + 1)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What libraries raise about a damaged file, as one sentence for the user."""
    try:
        yield
    except (EOFError, zlib.error) as error:
        raise UploadError(f"{path.name} is a damaged or cut off gzip file: {error}") from error
    except UnicodeDecodeError as error:
        raise UploadError(f"{path.name} is not valid {error.encoding}: {error.reason}. Save it as UTF-8") from error
    except OSError as error:
        raise UploadError(f"{path.name} cannot be read: {error.strerror or error}") from error


JSON_LINES = Kind(split_lines, json_text.parse_line)
JSON_ARRAY = Kind(split_array, parse_record)
READERS = {
    ".json": JSON_ARRAY,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".csv": Kind(split_csv, parse_cells),
    ".tsv": Kind(split_tsv, parse_cells),
    ".txt": Kind(split_lines, parse_text),
    ".parquet": Kind(split_batches, parse_record, count_batches),
}
