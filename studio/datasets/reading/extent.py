"""How far into its files reading has come, in bytes on disk: what a progress bar of any kind of file shows."""

from __future__ import annotations

from functools import cache
from itertools import accumulate
from pathlib import Path

from studio.datasets.reading.kinds import explained, format_name
from studio.datasets.reading.mark import Mark
from studio.datasets.reading.packing import packed_share
from studio.datasets.reading.stream import file_marks, files_of


class Extent:
    """`total` bytes on disk, and how many of them come before a mark: exactly for plain text, about otherwise.

    Raises:
        UploadError: a file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        with explained(path):
            self._files = files_of(path)
            self._sizes = [file.stat().st_size for file in self._files]
        self._before = [0, *accumulate(self._sizes)]
        self.total = self._before[-1]
        self._bytes_per_offset = cache(_bytes_per_offset)

    def done(self, mark: Mark) -> int:
        """The bytes before `mark`."""
        here = int(mark.offset * self._bytes_per_offset(self._files[mark.file]))
        return self._before[mark.file] + min(self._sizes[mark.file], here)


def _bytes_per_offset(file: Path) -> float:
    if format_name(file.name) in (".parquet", ".arrow"):
        *_, end = file_marks(file)
        return file.stat().st_size / max(1, end.offset)
    return packed_share(file)
