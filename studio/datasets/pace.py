"""Long work that tells how far it is and stops when asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from studio.datasets.reading import Extent, Mark
from studio.errors import Cancelled

Progress = Callable[[int, int], None]
Asked = Callable[[], bool]
TOLD_S = 0.2

T = TypeVar("T")


class Pace:
    """Tells `progress(done, total)` now and then, and asks `cancelled` as often.

    Raises (also `tell`):
        Cancelled: somebody asked to stop.
    """

    def __init__(self, total: int, progress: Progress | None, cancelled: Asked | None) -> None:
        stop_if_asked(cancelled)
        self._total, self._progress, self._cancelled = total, progress, cancelled
        self._told = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to `tell` again."""
        return time.monotonic() >= self._told + TOLD_S

    def tell(self, done: int) -> None:
        """So much is done."""
        stop_if_asked(self._cancelled)
        if self._progress is not None:
            self._progress(done, self._total)
        self._told = time.monotonic()


class FilePace(Pace):
    """The pace of a pass over the file or folder `path`, in bytes on disk.

    Raises: as `Pace`, and UploadError where there is no such file.
    """

    def __init__(self, path: Path, progress: Progress | None, cancelled: Asked | None) -> None:
        self.extent = Extent(path)
        super().__init__(self.extent.total, progress, cancelled)

    def at(self, mark: Mark) -> None:
        """The pass has come to `mark`."""
        if self.is_due():
            self.tell(self.extent.done(mark))


def paced(items: Iterable[T], total: int, progress: Progress | None, cancelled: Asked | None) -> Iterator[T]:
    """`items`, with `progress(done, total)` told now and then and `cancelled` asked as often.

    Raises:
        Cancelled: somebody asked to stop.
    """
    pace = Pace(total, progress, cancelled)
    for done, item in enumerate(items, 1):
        yield item
        if pace.is_due():
            pace.tell(done)
    if progress is not None:
        progress(total, total)


def in_turns(progress: Progress | None, turns: int) -> Iterator[Progress | None]:
    """`progress` for each of the `turns` passes over the same things."""
    for turn in range(turns):
        yield None if progress is None else partial(_in_turn, progress, turn, turns)


def _in_turn(progress: Progress, turn: int, turns: int, done: int, total: int) -> None:
    progress(turn * total + done, turns * total)


def stop_if_asked(cancelled: Asked | None) -> None:
    """Raise Cancelled if somebody asked to stop."""
    if cancelled is not None and cancelled():
        raise Cancelled("stopped as asked; nothing of it was kept")
