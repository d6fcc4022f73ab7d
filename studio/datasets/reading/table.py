"""Tables as text: comma-, semicolon-, tab- or bar-separated, with a header.

A row that breaks the rules is one error, and reading goes on at the line after its first: a quote that is never
closed costs its own row, not the rest of the file.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from studio.datasets.reading.bytestream import open_text
from studio.datasets.reading.mark import BEGIN, MARK_BYTES, ROW_MAX_BYTES, Mark, Record, decode, too_long
from studio.errors import RowError, UploadError

# a row over several lines: what is longer has lost its closing quote
QUOTED_MAX_BYTES = 4 << 20


def split_csv(path: Path, start: Mark) -> Iterator[tuple[Mark, Record | RowError]]:
    """The rows of a comma-separated file (or semicolon, tab, bar: by its first line) with a header."""
    return _split_table(path, start, "")


def split_tsv(path: Path, start: Mark) -> Iterator[tuple[Mark, Record | RowError]]:
    """The rows of a tab-separated file with a header."""
    return _split_table(path, start, "\t")


def parse_cells(cells: Record | RowError, mark: Mark) -> Record:
    """What was split is a record already."""
    if isinstance(cells, RowError):
        raise cells
    return cells


def named_columns(names: list[str]) -> list[str]:
    """The header of a table.

    Raises:
        UploadError: a column without a name, or two of one name.
    """
    if not all(names) or len(set(names)) != len(names) or not names:
        raise UploadError(
            f"the first line must name each column once; found {', '.join(map(repr, names)) or 'nothing'}"
        )
    return names


def ragged(mark: Mark, found: int, header: list[str]) -> RowError:
    """The error for a row of more or fewer fields than the header."""
    what = f"(line {mark.line}) has {found} fields, the header has {len(header)}: {', '.join(header)}"
    return RowError(mark.row, what)


def guessed_delimiter(path: Path) -> str:
    """What stands most often in the first line: a comma, semicolon, tab or bar."""
    with open_text(path) as stream:
        return max(",;\t|", key=decode(stream.readline(ROW_MAX_BYTES), BEGIN).count)


def _split_table(path: Path, start: Mark, delimiter: str) -> Iterator[tuple[Mark, Record | RowError]]:
    csv.field_size_limit(ROW_MAX_BYTES)
    delimiter = delimiter or guessed_delimiter(path)
    with open_text(path) as stream:
        lines = _Lines(stream, BEGIN)
        header = _header(next(_cells(lines, delimiter), (BEGIN, [])))
    if start.offset < lines.mark.offset:
        start = start._replace(offset=lines.mark.offset, line=lines.mark.line)
    with open_text(path, start.offset) as stream:
        for mark, cells in _cells(_Lines(stream, start), delimiter):
            yield mark, _record(mark, header, cells)


def _header(first: tuple[Mark, list[str] | RowError]) -> list[str]:
    _, cells = first
    if isinstance(cells, RowError):
        raise UploadError(f"the first line must name each column once; {cells}")
    return named_columns([name.strip() for name in cells])


def _record(mark: Mark, header: list[str], cells: list[str] | RowError) -> Record | RowError:
    if isinstance(cells, RowError):
        return cells
    return dict(zip(header, cells, strict=True)) if len(cells) == len(header) else ragged(mark, len(cells), header)


def _cells(lines: _Lines, delimiter: str) -> Iterator[tuple[Mark, list[str] | RowError]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        mark = lines.begin_row()
        cells: list[str] | RowError
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, RowError) as error:
            cells = _broken(mark, error)
            lines.back_to_second_line()
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
        if cells:
            yield mark, cells
            lines.mark = lines.mark._replace(row=mark.row + 1)


def _broken(mark: Mark, error: csv.Error | RowError) -> RowError:
    if isinstance(error, RowError):
        return error
    if str(error) == "unexpected end of data":
        return _unclosed(mark)
    return RowError(mark.row, f"(line {mark.line}) is not valid CSV: {error}")


def _unclosed(mark: Mark) -> RowError:
    return RowError(mark.row, f"(line {mark.line}) opens a quote that is never closed: close it, or write it twice")


@dataclass
class _Lines:
    """Decoded lines for the csv module, which pulls several for a row with line breaks inside.

    `mark` is the place of the next line; `taken` are the lines of the row being read, `waiting` those to read again.
    """

    stream: BinaryIO
    mark: Mark
    begun: Mark = BEGIN
    taken: list[bytes] = field(default_factory=list)
    taken_bytes: int = 0
    waiting: deque[bytes] = field(default_factory=deque)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        data = self.waiting.popleft() if self.waiting else self.stream.readline(ROW_MAX_BYTES + 1)
        if not data:
            raise StopIteration
        self._take(data)
        if len(data) > ROW_MAX_BYTES:
            raise too_long(self.begun)
        if self.taken_bytes > QUOTED_MAX_BYTES and len(self.taken) > 1:
            raise _unclosed(self.begun)
        return decode(data, self.begun)

    def begin_row(self) -> Mark:
        """The place of the row that begins here."""
        self.begun, self.taken, self.taken_bytes = self.mark, [], 0
        return self.mark

    def back_to_second_line(self) -> None:
        """Read all but the first line of the row again."""
        first, *others = self.taken
        self.waiting.extendleft(reversed(others))
        self.mark = self.begun
        self._take(first)
        while not self.mark.line > self.begun.line and (data := self.stream.readline(MARK_BYTES)):
            self._take(data)

    def _take(self, data: bytes) -> None:
        self.taken.append(data)
        self.taken_bytes += len(data)
        row, offset, line, file = self.mark
        self.mark = Mark(row, offset + len(data), line + data.endswith(b"\n"), file)
