"""Tables as text: comma-, semicolon-, tab- or bar-separated, with a header."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from studio.datasets.reading.bytestream import BEGIN, ROW_MAX_BYTES, Mark, decode, open_text, too_long
from studio.errors import RowError, UploadError

Record = dict[str, Any]


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
