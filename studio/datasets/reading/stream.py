"""The rows of a file, or of a folder of files as if they were one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.datasets.reading import columnar, sheet
from studio.datasets.reading.bytestream import open_text
from studio.datasets.reading.folder import files_in, refuse_mixed
from studio.datasets.reading.kinds import BINARY, Parse, explained, family_of, format_name, kind_of, thinned
from studio.datasets.reading.lines import split_lines
from studio.datasets.reading.mark import BEGIN, Mark, Record
from studio.datasets.reading.packing import is_packed
from studio.errors import RowError


def rows(path: Path, start: Mark = BEGIN, thorough: bool = False) -> Iterator[tuple[Mark, Record | RowError]]:
    """Every row of `path` from `start` on. Memory holds some of them, never the file.

    A row that cannot be read is an error among the others where reading can go on after it. Blank lines are no rows.
    For `duplicate_keys` of a record, reading must be `thorough`, which takes longer.

    Raises:
        Unpassable: a row after which nothing can be read (a broken JSON list).
        UploadError: the file as a whole cannot be read (encoding, kind, damage).
    """
    for mark, raw, parse in unparsed(path, start, thorough):
        record: Record | RowError
        try:
            record = parse(raw, mark)
        except RowError as error:
            record = error
        yield mark, record


def unparsed(path: Path, start: Mark = BEGIN, thorough: bool = False) -> Iterator[tuple[Mark, Any, Parse]]:
    """What `rows` does before it parses: where each row begins, what was found there, and what makes it a record.

    Raises: as `rows`; `Parse` raises RowError.
    """
    row = start.row
    for place, file in enumerate(files_of(path)):
        if place < start.file:
            continue
        begin = start if place == start.file else Mark(row, 0, 1, place)
        mark = begin._replace(row=begin.row - 1)  # what a file without rows ends at
        with explained(file):
            kind = kind_of(file)
            parse = (thorough and kind.examine) or kind.parse
            for mark, raw in kind.split(file, begin):
                yield mark, raw, parse
        row = mark.row + 1


def marks(path: Path) -> Iterator[Mark]:
    """Places to start from, near enough to reach any row quickly; the last one is the end. Raises as `rows` does."""
    row = 1
    end = BEGIN
    for place, file in enumerate(files_of(path)):
        for mark in file_marks(file):
            if mark.row + row - 1 > end.row:
                yield end
            end = mark._replace(row=mark.row + row - 1, file=place)
        row = end.row
    yield end


def file_marks(file: Path) -> Iterator[Mark]:
    """The marks of one file."""
    with explained(file):
        kind = kind_of(file)
        yield from kind.mark(file) if kind.mark else thinned(mark for mark, _ in kind.split(file, BEGIN))


def excerpt(path: Path, mark: Mark, max_bytes: int) -> str:
    """What stands in the text of a file at `mark`, for a person who has to mend it; empty for a binary file.

    Raises:
        UploadError: the file cannot be read.
    """
    file = files_of(path)[mark.file]
    if format_name(file.name) in BINARY:
        return ""
    with explained(file), open_text(file, mark.offset) as stream:
        one_line = kind_of(file).split is split_lines
        return (stream.readline(max_bytes) if one_line else stream.read(max_bytes)).decode(errors="replace").strip()


def files_of(path: Path) -> tuple[Path, ...]:
    """The data files of a folder, in the order in which they are read; or the file itself.

    Raises:
        UploadError: the folder has none, or files of several kinds.
    """
    if not _is_folder(path):
        return (path,)
    files = files_in(path)
    refuse_mixed(path, {family_of(file): file for file in files})
    return files


def unpacked_bytes(path: Path) -> int | None:
    """What the files of `path` say that they unpack to, or their size; None where only unpacking can tell.

    Raises:
        UploadError: a file cannot be read.
    """
    sizes = [_unpacked_bytes(file) for file in files_of(path)]
    return None if None in sizes else sum(filter(None, sizes))


def _is_folder(path: Path) -> bool:
    with explained(path):
        return path.is_dir()


def _unpacked_bytes(file: Path) -> int | None:
    with explained(file):
        if format_name(file.name) == ".parquet":
            return columnar.unpacked_bytes(file)
        if format_name(file.name) == ".xlsx":
            return sheet.unpacked_bytes(file)
        return None if is_packed(file) else file.stat().st_size
