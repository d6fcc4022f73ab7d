"""Long work that tells how far it is and stops when asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

from studio.errors import Cancelled

Progress = Callable[[int, int], None]
Asked = Callable[[], bool]
TOLD_S = 0.2

T = TypeVar("T")


def paced(items: Iterable[T], total: int, progress: Progress | None, cancelled: Asked | None) -> Iterator[T]:
    """`items`, with `progress(done, total)` told now and then and `cancelled` asked as often.

    Raises:
        Cancelled: somebody asked to stop.
    """
    check(cancelled)
    told = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        if time.monotonic() - told > TOLD_S:
            check(cancelled)
            if progress is not None:
                progress(done, total)
            told = time.monotonic()
    if progress is not None:
        progress(total, total)


def in_turns(progress: Progress | None, turns: int) -> Iterator[Progress | None]:
    """`progress` for each of the `turns` passes over the same things."""
    for turn in range(turns):
        yield None if progress is None else partial(_in_turn, progress, turn, turns)


def _in_turn(progress: Progress, turn: int, turns: int, done: int, total: int) -> None:
    progress(turn * total + done, turns * total)


def check(cancelled: Asked | None) -> None:
    """Raise Cancelled if somebody asked to stop."""
    if cancelled is not None and cancelled():
        raise Cancelled("stopped as asked; nothing of it was kept")
