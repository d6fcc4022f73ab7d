"""Every row of a file with what it says, or what is wrong with it: the pass that checks and repairs share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studio.datasets.checks.content import Content, content_of
from studio.datasets.checks.quick import Quick, quick_reader
from studio.datasets.entry import Entry
from studio.datasets.formats import Row, convert
from studio.datasets.loading import Fault
from studio.datasets.pace import TOLD_S, Asked, Progress
from studio.datasets.pace import check as asked_to_stop
from studio.datasets.reading import BEGIN, Extent, Mark, Record, Unpassable, files_of
from studio.datasets.reading.json_text import examine_line
from studio.datasets.reading.kinds import explained, kind_of
from studio.errors import RowError

TURN_ROWS = 16  # between two looks at the clock
Parse = Callable[[Any, Mark], Record]


def walk(
    path: Path, entry: Entry, progress: Progress | None = None, cancelled: Asked | None = None
) -> Iterator[tuple[Mark, Record | None, Content | Fault]]:
    """Each row: where it begins, its record, and what that says as `entry` reads it.

    The record is None where it cannot be read, and where it is a usual one like the first that was given.

    `progress` is told (done, total) bytes on disk.

    Raises:
        UploadError: the file as a whole cannot be read.
        Cancelled: `cancelled` said so.
    """
    reader, mark, pace = Reader(entry), BEGIN, Pace(path, progress, cancelled)
    try:
        for mark, raw, parse in _unparsed(path):
            quick = reader.quick
            if quick is not None and parse is examine_line and (content := quick(raw)) is not None:
                yield mark, None, content
            else:
                record, found = reader.read(mark, raw, parse)
                yield mark, record, found
            if not mark.row % TURN_ROWS:
                pace.at(mark)
    except RowError as error:
        place = error.mark if isinstance(error, Unpassable) else mark._replace(row=error.row)
        yield place, None, _fault(error, fatal=True)


class Pace:
    """Tells (done, total) bytes on disk now and then, and asks as often whether to go on."""

    def __init__(self, path: Path, progress: Progress | None, cancelled: Asked | None) -> None:
        self.extent = extent_of(path)
        self._progress, self._cancelled = progress, cancelled
        self._told = time.monotonic()

    def at(self, mark: Mark) -> None:
        """The pass has come to `mark`.

        Raises:
            Cancelled: somebody asked to stop.
        """
        if time.monotonic() < self._told + TOLD_S:
            return
        self._told = time.monotonic()
        asked_to_stop(self._cancelled)
        if self._progress is not None:
            self._progress(self.extent.done(mark), self.extent.total)


def extent_of(path: Path) -> Extent:
    """How large `path` is.

    Raises:
        UploadError: there is no such file, or it cannot be read.
    """
    with explained(path):
        return Extent(path)


def _unparsed(path: Path) -> Iterator[tuple[Mark, Any, Parse]]:
    row = 0
    for place, file in enumerate(files_of(path)):
        with explained(file):
            kind = kind_of(file)
            parse, mark = kind.examine or kind.parse, Mark(row, 0, 0, place)
            for mark, raw in kind.split(file, Mark(row + 1, 0, 1, place)):
                yield mark, raw, parse
            row = mark.row


class Reader:
    """Reads rows as `entry` says. After the first usable row, `kind` is its kind, and `quick` reads lines like it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.kind: type[Row] | None = None
        self.quick: Quick | None = None

    def read(self, mark: Mark, raw: Any, parse: Parse) -> tuple[Record | None, Content | Fault]:
        """The record that `raw` stands for, and its content or fault."""
        try:
            record = parse(raw, mark)
        except RowError as error:
            return None, _fault(error, fatal=True)
        return record, self._read_slowly(mark, record)

    def _read_slowly(self, mark: Mark, record: Record) -> Content | Fault:
        try:
            value = convert(self.entry, mark.row, record)
        except RowError as error:
            return _fault(error, fatal=False)
        if self.kind is None:
            self.kind = type(value)
            self.quick = quick_reader(self.entry, record, self.kind)
        if not isinstance(value, self.kind):
            what = f"is a {type(value).__name__.lower()}, while the rows before are each a {self.kind.__name__.lower()}"
            return Fault(mark.row, what, fatal=False, code="mixed_shapes")
        return content_of(value)


def _fault(error: RowError, fatal: bool) -> Fault:
    what = str(error).removeprefix(f"row {error.row}: ")
    return Fault(error.row, what, fatal, error.code or "unreadable")
