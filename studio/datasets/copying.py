"""Files copied by the kernel, which shares their blocks where the file system can."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from studio.datasets.pace import Asked, Progress, stop_if_asked
from studio.datasets.reading import files_of

PIECE_BYTES = 16 << 20
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def copy(source: Path, target: Path, progress: Progress | None = None, cancelled: Asked | None = None) -> None:
    """Copy a file, or the data files of a folder, to the new `target`; `progress` is told bytes.

    Raises:
        Cancelled: as asked; what was copied so far is left to the caller.
    """
    folder = source.is_dir()
    if folder:
        target.mkdir()
    parts = [(part, target / part.name if folder else target) for part in files_of(source)]
    total, done = sum(part.stat().st_size for part, _ in parts), 0
    for part, place in parts:
        for count in _copied(part, place):
            done += count
            stop_if_asked(cancelled)
            if progress is not None:
                progress(done, max(done, total))


def _copied(source: Path, target: Path) -> Iterator[int]:
    """Copy piece by piece, and tell the size of each."""
    with open(source, "rb") as reader, open(target, "xb") as writer:
        yield from copy_range(reader.fileno(), writer.fileno())
        os.fsync(writer.fileno())


def copy_range(reader: int, writer: int, start: int = 0, end: int | None = None) -> Iterator[int]:
    """Copy the bytes from `start` to `end` (None: all) of one open file to where the other stands, piece by piece."""
    left = (os.fstat(reader).st_size if end is None else end) - start
    os.lseek(reader, start, os.SEEK_SET)
    try:
        while left > 0 and (count := os.copy_file_range(reader, writer, min(left, PIECE_BYTES))):
            left -= count
            yield count
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
    while left > 0 and (data := os.read(reader, min(left, PIECE_BYTES))):
        left -= write_all(writer, data)
        yield len(data)


def write_all(descriptor: int, data: bytes) -> int:
    """Write `data` to an open file; how many bytes these are."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(data)
