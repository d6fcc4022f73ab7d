"""The rows of a data file, one at a time, with the place of each: json, jsonl, csv, tsv, txt (also .gz), parquet.

Memory holds one row (parquet: one batch), never the file. A row that cannot be read is yielded as a RowError with
row, line and column where reading can go on after it, and raised where it cannot. Rows count from 1; blank lines are
no rows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from studio.datasets.reading import json_text
from studio.datasets.reading.bytestream import BEGIN, HEAD_BYTES, ROW_MAX_BYTES, Mark, open_text
from studio.datasets.reading.columnar import count_batches, split_batches
from studio.datasets.reading.lines import parse_text, split_lines
from studio.datasets.reading.table import parse_cells, split_csv, split_tsv
from studio.errors import RowError, UploadError

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


def split_array(path: Path, start: Mark) -> Iterator[tuple[Mark, Any]]:
    """The elements of the list that a JSON file holds."""
    with open_text(path, start.offset) as stream:
        yield from json_text.elements(stream, start)


def parse_record(value: Any, mark: Mark) -> Record:
    if not isinstance(value, dict):
        raise RowError(mark.row, f"(line {mark.line}) must be an object {{…}}, found {type(value).__name__}")
    return value


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
