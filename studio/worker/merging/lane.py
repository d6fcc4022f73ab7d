"""Work done in the background by one thread, in its order, with a limit on the bytes that wait for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

WAITING_BYTES = 32_000_000


class Lane:
    """One thread and its queue. An error of the work is raised by the next call here."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._waiting: deque[tuple[int, Future[Any]]] = deque()
        self._bytes = 0

    def put(self, size: int, work: Callable[..., Any], *arguments: Any) -> None:
        """Have `work` done, which holds `size` bytes until then; waits while too many are held."""
        while self._waiting and self._bytes + size > WAITING_BYTES:
            self._settle()
        self._waiting.append((size, self._pool.submit(work, *arguments)))
        self._bytes += size

    def finish(self) -> None:
        """All of it is done when this returns."""
        while self._waiting:
            self._settle()

    def _settle(self) -> None:
        size, future = self._waiting.popleft()
        self._bytes -= size
        future.result()
