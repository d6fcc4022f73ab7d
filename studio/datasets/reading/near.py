"""Files that can be entered anywhere, and copies that can of those that cannot.

What is compressed or UTF-16 is reached only through all that comes before it, as is a line of a workbook, or a row
deep inside a parquet file of one piece.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from studio.datasets.reading import columnar, sheet
from studio.datasets.reading.bytestream import open_text
from studio.datasets.reading.kinds import explained, format_name, kind_of, stem_of
from studio.datasets.reading.mark import Mark
from studio.datasets.reading.stream import files_of

_CHUNK_BYTES = 1 << 20


def is_near(path: Path) -> bool:
    """Whether every row of a file, or of each file of a folder, is quickly reached."""
    return all(_is_near(file) for file in files_of(path))


def write_near(path: Path, folder: Path) -> Iterator[Mark]:
    """Write a copy that is near of each file of `path` into `folder`, in the same order; yields how far it is.

    Raises:
        UploadError: a file cannot be read.
        OSError: the copy cannot be written.
    """
    for place, file in enumerate(files_of(path)):
        stem, suffix = f"{place:05d}-{stem_of(file.name)}"[:100], format_name(file.name)
        with explained(file):
            for offset in _write(file, suffix, folder / stem):
                yield Mark(1, offset, 1, place)


def _is_near(file: Path) -> bool:
    with explained(file):
        return kind_of(file).is_near(file)


def _write(file: Path, suffix: str, target: Path) -> Iterator[int]:
    if _is_near(file):
        shutil.copyfile(file, target.with_name(target.name + suffix))
        return iter(())
    if suffix == ".parquet":
        return columnar.write_arrow(file, target.with_name(target.name + ".arrow"))
    if suffix == ".xlsx":
        return sheet.write_copy(file, target.with_name(target.name + ".cells"))
    return _write_text(file, target.with_name(target.name + suffix))


def _write_text(file: Path, target: Path) -> Iterator[int]:
    with open_text(file) as stream, open(target, "xb") as copy:
        while data := stream.read(_CHUNK_BYTES):
            copy.write(data)
            yield copy.tell()
