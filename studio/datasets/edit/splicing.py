"""Rows of a text file replaced, left out or added at their bytes: every other byte stays as it is."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from studio.datasets.copying import copy_range, write_all
from studio.datasets.index import Index
from studio.datasets.reading import Mark, Record, format_name, open_text, rows
from studio.datasets.reading.bytestream import is_plain
from studio.datasets.reading.table import guessed_delimiter
from studio.datasets.writing import cell_of, line_of
from studio.errors import DatasetError, RowError

LINES, ARRAY, TABLE, TEXT = "lines", "array", "table", "text"
LAYOUTS = {".jsonl": LINES, ".ndjson": LINES, ".json": LINES, ".csv": TABLE, ".tsv": TABLE, ".txt": TEXT}
# rows that lie nearer together than this are found in one pass
NEAR_ROWS = 1000
INDENT_MAX_BYTES = 200


class Cut(NamedTuple):
    """Bytes of a file, and what stands there instead."""

    start: int
    end: int
    text: bytes


@dataclass(frozen=True)
class Span:
    """A row in its file: its own bytes, what separates it from the next (or ends the file), the spaces before it."""

    row: int
    start: int
    body: bytes
    tail: bytes
    indent: bytes

    @property
    def body_end(self) -> int:
        return self.start + len(self.body)

    @property
    def end(self) -> int:
        return self.body_end + len(self.tail)


def layout_of(path: Path) -> str:
    """How the rows of a text file stand in it; empty for a file that cannot be edited in place."""
    layout = "" if path.is_dir() else LAYOUTS.get(format_name(path.name), "")
    if not layout or not is_plain(path):
        return ""
    if layout == LINES:
        with open_text(path) as stream:
            return ARRAY if stream.read(1 << 16).lstrip().startswith(b"[") else LINES
    return layout


def replacing(path: Path, index: Index, row: int, record: Record) -> list[Cut]:
    """What puts `record` in the place of a row.

    Raises:
        DatasetError: the file cannot hold it.
    """
    (span,) = _spans(path, index, [row])
    return [Cut(span.start, span.body_end, _text(path, record, span))]


def adding(path: Path, index: Index, after: int, record: Record) -> list[Cut]:
    """What puts `record` after a row; after row 0 is before the first. Raises as `replacing`."""
    (span,) = _spans(path, index, [max(1, after)])
    text, between = _text(path, record, span), _between(path, span)
    if after == 0:
        return [Cut(span.start, span.start, text + between)]
    return [Cut(span.body_end, span.body_end, between + text)]


def deleting(path: Path, index: Index, numbers: Sequence[int]) -> list[Cut]:
    """What leaves rows out. At least one must stay."""
    gone = sorted(set(numbers))
    cuts = [Cut(span.start, span.end, b"") for span in _spans(path, index, gone)]
    if layout_of(path) != ARRAY or gone[-1] != index.rows:
        return cuts
    # no comma may stand before the closing bracket: the last rows go with what is before them, not after
    left_out = set(gone)
    kept = next(row for row in range(index.rows, 0, -1) if row not in left_out)
    last_kept, last = _spans(path, index, [kept, index.rows])
    return [*(cut for cut in cuts if cut.start < last_kept.start), Cut(last_kept.body_end, last.body_end, b"")]


def splice(path: Path, target: Path, cuts: Sequence[Cut]) -> None:
    """`path` with `cuts`, which are in order and apart, as the new file `target`."""
    with open(path, "rb") as reader, open(target, "xb") as writer:
        source, sink, at = reader.fileno(), writer.fileno(), 0
        for cut in cuts:
            for _ in copy_range(source, sink, at, cut.start):
                pass
            write_all(sink, cut.text)
            at = cut.end
        for _ in copy_range(source, sink, at):
            pass
        os.fsync(sink)


def _spans(path: Path, index: Index, numbers: Sequence[int]) -> Iterator[Span]:
    """The rows of these numbers, which go up."""
    with open(path, "rb") as file:
        bom = len(codecs.BOM_UTF8) if file.read(3) == codecs.BOM_UTF8 else 0
        array = layout_of(path) == ARRAY
        near: Iterator[tuple[Mark, int | None]] = iter(())
        reached = -NEAR_ROWS
        for number in numbers:
            if number - reached > NEAR_ROWS:
                near = _bounds(path, index.before(number))
            mark, end = next((bounds for bounds in near if bounds[0].row == number), (None, None))
            if mark is None:
                raise DatasetError(f"{path.name} has no row {number} that can be found")
            reached = number
            yield _span(file, mark, mark.offset + bom, None if end is None else end + bom, array)


def _bounds(path: Path, start: Mark) -> Iterator[tuple[Mark, int | None]]:
    """The mark of each row from `start` on, and where the next one begins."""
    before: Mark | None = None
    for mark, _ in rows(path, start):
        if before is not None:
            yield before, mark.offset
        before = mark
    if before is not None:
        yield before, None


def _span(file: BinaryIO, mark: Mark, start: int, end: int | None, array: bool) -> Span:
    line_start = max(0, start - INDENT_MAX_BYTES)
    file.seek(line_start)
    indent = file.read(start - line_start).rpartition(b"\n")[2]
    data = file.read(-1 if end is None else end - start)
    body = data.rstrip().removesuffix(b"]" if end is None else b",").rstrip() if array else data.rstrip(b"\r\n")
    return Span(mark.row, start, body, data[len(body) :], indent if not indent.strip() else b"")


def _between(path: Path, span: Span) -> bytes:
    """What stands between two rows."""
    newline = b"\r\n" if b"\r\n" in span.tail else b"\n"
    return b"," + newline + span.indent if layout_of(path) == ARRAY else newline


def _text(path: Path, record: Record, span: Span) -> bytes:
    """`record` as it stands in the file, laid out as the row in `span`."""
    layout = layout_of(path)
    if layout == TEXT:
        return _plain_line(record)
    if layout == TABLE:
        return _table_line(path, record)
    line = line_of(record).rstrip(b"\n")
    if layout == LINES or b"\n" not in span.body:
        return line
    spread = json.dumps(json.loads(line), ensure_ascii=False, indent=_indent_unit(span))
    return spread.encode().replace(b"\n", b"\n" + span.indent)


def _indent_unit(span: Span) -> str:
    line = span.body.split(b"\n")[1]
    spaces = line[: len(line) - len(line.lstrip())]
    return spaces.removeprefix(span.indent).decode() or "  "


def _plain_line(record: Record) -> bytes:
    text = record.get("text")
    if set(record) != {"text"} or not isinstance(text, str) or not text.strip() or "\n" in text or "\r" in text:
        raise DatasetError('a row of a text file is one line: {"text": "…"} without line breaks')
    return text.encode()


def _table_line(path: Path, record: Record) -> bytes:
    header = next((list(row) for _, row in rows(path) if not isinstance(row, RowError)), list(record))
    if unknown := [name for name in record if name not in header]:
        raise DatasetError(f"the table has no column {unknown[0]!r}; its columns are {', '.join(header)}")
    line = io.StringIO()
    delimiter = "\t" if format_name(path.name) == ".tsv" else guessed_delimiter(path)
    csv.writer(line, delimiter=delimiter, lineterminator="").writerow([cell_of(record.get(name)) for name in header])
    return line.getvalue().encode()
