"""Copies in the cache that can be entered anywhere, of large files that cannot (see `reading.near`).

A copy is only a convenience: where the disk has no room, pages far inside take as long as reading up to them.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from studio.datasets.cache import fingerprint
from studio.datasets.pace import Asked, FilePace, Progress
from studio.datasets.reading import Extent
from studio.datasets.reading.near import is_near, write_near
from studio.datasets.scratch import scratch
from studio.files import folder_bytes

# less than this is read through before a person notices
SMALL_BYTES = 512 << 10
DISK_SHARE = 0.5


def near(path: Path, cache_dir: Path) -> Path:
    """The copy of `path`, if one was made; else `path`."""
    copy = _place(path, cache_dir)
    if not copy.is_dir():
        return path
    return copy if path.is_dir() else next(copy.iterdir(), path)


def bring_near(path: Path, cache_dir: Path, progress: Progress | None, cancelled: Asked | None) -> Path:
    """`near`, after a copy was made if that is worth it and the disk has room.

    Raises:
        UploadError: the file cannot be read.
        Cancelled: `cancelled` said so.
    """
    copy = near(path, cache_dir)
    if copy == path and Extent(path).total > SMALL_BYTES and not is_near(path):
        with suppress(OSError):
            _make(path, cache_dir, progress, cancelled)
    return near(path, cache_dir)


def _make(path: Path, cache_dir: Path, progress: Progress | None, cancelled: Asked | None) -> None:
    with scratch(cache_dir, ".copy-") as draft:
        room = shutil.disk_usage(cache_dir).free * DISK_SHARE
        pace = FilePace(path, progress, cancelled)
        for mark in write_near(path, draft):
            pace.at(mark)
            if folder_bytes(draft) > room:
                return
        os.rename(draft, _place(path, cache_dir))


def _place(path: Path, cache_dir: Path) -> Path:
    return cache_dir / f"copy-{fingerprint(path)}"
