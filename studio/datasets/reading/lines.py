"""Files of one row a line. Blank lines are no rows.

Lines are cut from large blocks, never read one by one: what is counted goes at 2 GB a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from studio.datasets.reading.bytestream import open_text
from studio.datasets.reading.mark import BEGIN, MARK_BYTES, ROW_MAX_BYTES, Mark, Record, decode, too_long


def split_lines(path: Path, start: Mark) -> Iterator[tuple[Mark, bytes]]:
    """The lines that are not blank, without their ends; of a line over the limit only so much that this shows."""
    row, offset, line, file = start
    with open_text(path, offset) as stream:
        for lines, size_bytes in _blocks(stream):
            end = offset + size_bytes
            for data in lines:
                if data and not data.isspace():
                    yield Mark(row, offset, line, file), data
                    row += 1
                offset += len(data) + 1
                line += 1
            offset = end


def mark_lines(path: Path) -> Iterator[Mark]:
    """Where the blocks begin, and the end."""
    row, offset, line, file = BEGIN
    due = 0
    with open_text(path) as stream:
        for lines, size_bytes in _blocks(stream):
            if offset >= due:
                yield Mark(row, offset, line, file)
                due = offset + MARK_BYTES
            row += len(lines) - lines.count(b"") - sum(map(bytes.isspace, lines))
            offset += size_bytes
            line += len(lines)
    yield Mark(row, offset, line, file)


def parse_text(data: bytes, mark: Mark) -> Record:
    """A document a line."""
    if len(data) > ROW_MAX_BYTES:
        raise too_long(mark)
    return {"text": decode(data, mark).rstrip("\r")}


def _blocks(stream: BinaryIO) -> Iterator[tuple[list[bytes], int]]:
    """Lines without their ends, many at a time, and the bytes that they take in the file."""
    begun, left_out_bytes = b"", 0
    while data := stream.read(MARK_BYTES):
        lines = data.split(b"\n")
        if len(begun) > ROW_MAX_BYTES:
            left_out_bytes += len(lines[0])
        else:
            begun += lines[0]
        if len(lines) == 1:
            continue
        yield [begun], len(begun) + 1 + left_out_bytes
        begun, left_out_bytes = lines.pop(), 0
        yield lines[1:], len(data) - len(lines[0]) - 1 - len(begun)
    if begun:
        yield [begun], len(begun) + left_out_bytes
