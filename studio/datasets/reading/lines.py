"""Files of one row a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from studio.datasets.reading.bytestream import ROW_MAX_BYTES, Mark, decode, open_text, too_long


def split_lines(path: Path, start: Mark) -> Iterator[tuple[Mark, bytes]]:
    """The lines that are not blank."""
    row, offset, line = start
    with open_text(path, offset) as stream:
        while data := stream.readline(ROW_MAX_BYTES + 1):
            if len(data) > ROW_MAX_BYTES:
                raise too_long(Mark(row, offset, line))
            if not data.isspace():
                yield Mark(row, offset, line), data
                row += 1
            offset += len(data)
            line += 1


def parse_text(data: bytes, mark: Mark) -> dict[str, Any]:
    return {"text": decode(data, mark).rstrip("\r\n")}
