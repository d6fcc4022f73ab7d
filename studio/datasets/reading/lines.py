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
        for block, left_out_bytes in _blocks(stream):
            end = offset + len(block) + left_out_bytes
            for data in _lines(block):
                if data and not data.isspace():
                    yield Mark(row, offset, line, file), data
                    row += 1
                offset += len(data) + 1
                line += 1
            offset = end


def mark_lines(path: Path) -> Iterator[Mark]:
    """Where the blocks begin, and the end."""
    row, offset, line, file = BEGIN
    with open_text(path) as stream:
        for block, left_out_bytes in _blocks(stream):
            yield Mark(row, offset, line, file)
            lines = _lines(block)
            row += len(lines) - lines.count(b"") - sum(map(bytes.isspace, lines))
            offset += len(block) + left_out_bytes
            line += len(lines)
    yield Mark(row, offset, line, file)


def parse_text(data: bytes, mark: Mark) -> Record:
    """A document a line."""
    if len(data) > ROW_MAX_BYTES:
        raise too_long(mark)
    return {"text": decode(data, mark).rstrip("\r")}


def _blocks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Blocks of whole lines, each with the bytes that were left out of its last line because that is too long."""
    while block := stream.read(MARK_BYTES):
        rest = b"" if block.endswith(b"\n") else stream.readline(ROW_MAX_BYTES)
        cut_off = len(rest) == ROW_MAX_BYTES and not rest.endswith(b"\n")
        yield block + rest, _skip_line(stream) if cut_off else 0


def _skip_line(stream: BinaryIO) -> int:
    skipped = 0
    while data := stream.readline(MARK_BYTES):
        skipped += len(data)
        if data.endswith(b"\n"):
            break
    return skipped


def _lines(block: bytes) -> list[bytes]:
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines
