"""Excel workbooks (.xlsx): the first visible sheet that has any rows, its first row as the header.

Cells become text as in a CSV file: whole numbers without a point, dates as 2024-05-01, truth values as true and
false. A formula counts as the value that the workbook remembers of it. A workbook can only be read from its start,
and slowly: where a page far inside is wanted, its cells are copied to a file of lines first.
"""

from __future__ import annotations

import datetime
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple
from xml.etree.ElementTree import ParseError

import orjson

from studio.datasets.reading.lines import split_lines
from studio.datasets.reading.mark import Mark, Record
from studio.datasets.reading.packing import check_unpacked
from studio.datasets.reading.table import named_columns, ragged
from studio.errors import RowError, UploadError

# the texts of all cells are held in memory
UNPACKED_MAX_BYTES = 256 << 20
LINES_MAX = 1 << 20
_REASON_CHARS = 200
_DAMAGED = (
    zipfile.BadZipFile,
    ParseError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    EOFError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    zlib.error,
)
_OLD = b"\xd0\xcf\x11\xe0"
_ERRORS = ("#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NAME?", "#NULL!", "#NUM!")


class Cells(NamedTuple):
    """A line of a sheet that is not blank: its number and its cells, without empty ones at the end."""

    line: int
    texts: list[str]


def split_sheet(path: Path, start: Mark) -> Iterator[tuple[Mark, Record | RowError]]:
    """The rows of a workbook's sheet. Marks count lines of the sheet."""
    with _workbook(path) as book:
        lines = _first_lines(book)
        header = _header(lines)
        row, offset, _, file = start
        for cells in lines:
            if cells.line > offset:
                yield Mark(row, cells.line - 1, cells.line, file), _record(cells, header, row)
                row += 1


def split_copy(path: Path, start: Mark) -> Iterator[tuple[Mark, Record | RowError]]:
    """The rows of a copy that `write_copy` made. Marks count its bytes, but lines of the sheet."""
    with open(path, "rb") as file:
        header = _header(Cells(*orjson.loads(line)) for line in islice(file, 1))
        start = max(start, Mark(1, file.tell(), 2), key=lambda mark: mark.offset)
    for mark, line in split_lines(path, start):
        cells = Cells(*orjson.loads(line))
        yield mark._replace(line=cells.line), _record(cells, header, mark.row)


def write_copy(path: Path, target: Path) -> Iterator[int]:
    """Write the cells of a workbook's sheet as lines that can be read from anywhere; yields the lines so far."""
    with _workbook(path) as book, open(target, "xb") as file:
        for cells in _first_lines(book):
            file.write(orjson.dumps([*cells]) + b"\n")
            yield cells.line


def other_sheets(path: Path) -> tuple[str, ...]:
    """The names of the visible sheets that have rows and are not read."""
    with _workbook(path) as book:
        return tuple(sheet.title for sheet in _visible(book) if any(True for _ in _lines(sheet)))[1:]


def unpacked_bytes(path: Path) -> int:
    """What a workbook says that it unpacks to."""
    with _explained(path), zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def _first_lines(book: Any) -> Iterator[Cells]:
    for sheet in _visible(book):
        lines = _lines(sheet)
        for first in lines:
            return chain([first], lines)
    return iter(())


def _visible(book: Any) -> Iterator[Any]:
    return (sheet for sheet in book.worksheets if sheet.sheet_state == "visible")


def _lines(sheet: Any) -> Iterator[Cells]:
    # what a sheet says of its own size is often wrong, and cells beyond it would be left out
    sheet.reset_dimensions()
    for line, values in enumerate(sheet.iter_rows(values_only=True), 1):
        if line > LINES_MAX:
            raise UploadError(f"the sheet {sheet.title!r} has more than {LINES_MAX} lines: save it as CSV")
        texts = [_text(value) for value in values]
        while texts and not texts[-1]:
            texts.pop()
        if texts:
            yield Cells(line, texts)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format(value, ".15g")  # as many digits as the program itself keeps
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return str(value.date())
    return str(value)


def _header(lines: Iterator[Cells]) -> list[str]:
    return named_columns([text.strip() for _, texts in islice(lines, 1) for text in texts])


def _record(cells: Cells, header: list[str], row: int) -> Record | RowError:
    missing = len(header) - len(cells.texts)
    if missing < 0:
        return ragged(Mark(row, 0, cells.line), len(cells.texts), header)
    record = dict(zip(header, [*cells.texts, *[""] * missing], strict=True))
    for name, text in record.items():
        if text in _ERRORS:
            return RowError(row, f"(line {cells.line}) column {name!r} holds the error {text}: mend the formula")
    return record


@contextmanager
def _workbook(path: Path) -> Iterator[Any]:
    import openpyxl

    with _explained(path):
        _refuse(path)
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            yield book
        finally:
            book.close()


def _refuse(path: Path) -> None:
    with open(path, "rb") as file:
        if file.read(len(_OLD)) == _OLD:
            raise UploadError(f"{path.name} has a password or is an old .xls: save it as .xlsx without a password")
    size = unpacked_bytes(path)
    check_unpacked(path.name, path.stat().st_size, size)
    if size > UNPACKED_MAX_BYTES:
        raise UploadError(f"{path.name} unpacks to more than {UNPACKED_MAX_BYTES >> 20} MB, the limit: save it as CSV")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        reason = shorten(str(error), _REASON_CHARS, placeholder=" …")  # a damaged archive is quoted whole
        raise UploadError(f"{path.name} is not an Excel workbook that can be read: {reason}") from error
