"""Which files are read, and how: by the extension, and for JSON by the first character."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from studio.datasets.reading import columnar, json_text, sheet
from studio.datasets.reading.bytestream import HEAD_BYTES, is_plain, open_text
from studio.datasets.reading.lines import mark_lines, parse_text, split_lines
from studio.datasets.reading.mark import BEGIN, ROW_MAX_BYTES, Mark, Record, is_due
from studio.datasets.reading.packing import PACKED
from studio.datasets.reading.table import parse_cells, split_csv, split_tsv
from studio.errors import UploadError


def _never(path: Path) -> bool:
    return False


def _always(path: Path) -> bool:
    return True


Parse = Callable[[Any, Mark], Record]


class Kind(NamedTuple):
    """A file kind: `split` finds the rows without understanding them, `parse` makes one a record.

    `mark` gives places to start from, the end as the last one; it is given where that takes less than to split.
    `is_near` tells whether every row of a file is quickly reached from such a place. `examine` is a slower `parse`
    that also notes fields named twice, where `parse` does not.
    """

    split: Callable[[Path, Mark], Iterator[tuple[Mark, Any]]]
    parse: Parse
    mark: Callable[[Path], Iterator[Mark]] | None = None
    is_near: Callable[[Path], bool] = is_plain
    examine: Parse | None = None


def _split_array(path: Path, start: Mark) -> Iterator[tuple[Mark, Any]]:
    """The elements of the list that a JSON file holds."""
    with open_text(path, start.offset) as stream:
        yield from json_text.elements(stream, start)


JSON_LINES = Kind(split_lines, json_text.parse_line, mark_lines, examine=json_text.examine_line)
JSON_ARRAY = Kind(_split_array, json_text.parse_element)
READERS = {
    ".json": JSON_ARRAY,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".csv": Kind(split_csv, parse_cells),
    ".tsv": Kind(split_tsv, parse_cells),
    ".txt": Kind(split_lines, parse_text, mark_lines),
    ".parquet": Kind(columnar.split_parquet, columnar.parse_values, columnar.mark_parquet, columnar.is_near),
    ".arrow": Kind(columnar.split_arrow, columnar.parse_values, columnar.mark_arrow, _always),
    ".xlsx": Kind(sheet.split_sheet, parse_cells, None, _never),
}
# of the studio's own making, and never a person's
COPIES = {".cells": Kind(sheet.split_copy, parse_cells)}
JSON = (".json", ".jsonl", ".ndjson")
BINARY = (".parquet", ".arrow", ".xlsx")


def kind_of(path: Path) -> Kind:
    """How `path` is read.

    Raises:
        UploadError: no file, or an extension that is not read here.
    """
    if not path.is_file():
        raise UploadError(f"{path.name} is not a file that can be read")
    suffix = format_name(path.name)
    if suffix in COPIES:
        return COPIES[suffix]
    if suffix not in READERS:
        raise UploadError(f"{path.name}: cannot read {suffix or 'a file without extension'}; use {', '.join(READERS)}")
    if suffix in BINARY and packed_suffix(path.name):
        raise UploadError(f"{path.name}: unpack it first ({suffix} is compressed inside)")
    return _json_kind(path, suffix) if suffix in JSON else READERS[suffix]


def family_of(path: Path) -> str:
    """What the kind of `path` is called among the files of a folder."""
    suffix = format_name(path.name)
    return "json" if suffix in JSON else suffix


def packed_suffix(file_name: str) -> str:
    """`.gz` or `.zst`, as it stands in the name; empty where it is not compressed."""
    return next((file_name[-len(suffix) :] for suffix in PACKED if file_name.lower().endswith(suffix)), "")


def stem_of(file_name: str) -> str:
    """The name without its extension; `.jsonl.gz` is one extension."""
    bare = file_name.removesuffix(packed_suffix(file_name))
    return bare[: len(bare) - len(format_name(file_name))]


def format_name(file_name: str) -> str:
    """The extension that decides how a file is read, in lower case, unpacked: `.jsonl` for `A.JSONL.gz`."""
    name = file_name.removesuffix(packed_suffix(file_name)).lower()
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix if stem else ""


def thinned(marks: Iterator[Mark]) -> Iterator[Mark]:
    """Of the marks of all rows those to start from, and the end."""
    kept = None
    end = BEGIN
    for mark in marks:
        if kept is None or is_due(mark, kept):
            kept = mark
            yield mark
        end = mark._replace(row=mark.row + 1)
    yield end


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What libraries raise about a damaged file, as one sentence for the user."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UploadError(f"{path.name} is not valid {error.encoding}: {error.reason}. Save it as UTF-8") from error
    except OSError as error:
        raise UploadError(f"{path.name} cannot be read: {error.strerror or error}") from error


def _json_kind(path: Path, suffix: str) -> Kind:
    with open_text(path) as stream:
        head = stream.read(HEAD_BYTES).lstrip()
        if head.startswith(b"["):
            return JSON_ARRAY
        first_line = (head + stream.readline(ROW_MAX_BYTES)).lstrip().split(b"\n", 1)[0]
    # a .json file of one object a line is common and fine; one object over many lines is no list of rows
    return JSON_LINES if suffix != ".json" or json_text.is_object(first_line) else JSON_ARRAY
