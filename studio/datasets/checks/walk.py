"""Every row of a file with what it says, or what is wrong with it: the pass that checks and repairs share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.datasets.checks.content import Content, content_of
from studio.datasets.checks.quick import Quick, quick_reader
from studio.datasets.entry import Entry
from studio.datasets.formats import Row
from studio.datasets.loading import Fault, read, stuck
from studio.datasets.pace import Asked, FilePace, Progress
from studio.datasets.reading import BEGIN, Mark, Parse, Record, unparsed
from studio.datasets.reading.json_text import examine_line
from studio.errors import RowError

TURN_ROWS = 16  # between two looks at the clock


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
    reader, mark, pace = Reader(entry), BEGIN, FilePace(path, progress, cancelled)
    try:
        for mark, raw, parse in unparsed(path, thorough=True):
            quick = reader.quick
            if quick is not None and parse is examine_line and (content := quick(raw)) is not None:
                yield mark, None, content
            else:
                record, found = reader.read(mark, raw, parse)
                yield mark, record, found
            if not mark.row % TURN_ROWS:
                pace.at(mark)
    except RowError as error:
        place, fault = stuck(error, mark)
        yield place, None, fault


class Reader:
    """Reads rows as `entry` says. After the first usable row, `kind` is its kind, and `quick` reads lines like it."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.kind: type[Row] | None = None
        self.quick: Quick | None = None

    def read(self, mark: Mark, raw: Any, parse: Parse) -> tuple[Record | None, Content | Fault]:
        """The record that `raw` stands for, and its content or fault."""
        try:
            parsed: Record | RowError = parse(raw, mark)
        except RowError as error:
            parsed = error
        _, record, value = read(self.entry, mark, parsed, self.kind)
        if isinstance(value, Fault):
            return record, value
        if self.kind is None:
            self.kind = type(value)
            self.quick = quick_reader(self.entry, record or (), self.kind)
        return record, content_of(value)
