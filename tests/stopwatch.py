"""Time limits that a machine may be busy beside."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import psutil

BUSIEST = 4.0  # times as long as alone: beyond it, it is no longer believed that others took the time


def kept(limit_s: float, seconds: Callable[[], float]) -> bool:
    """Whether what takes `seconds()` keeps a promise, at the second try at the latest: neighbours also take the memory,
    the disk and the kernel, which no stopwatch sees."""
    return any(seconds() < limit_s for _ in range(2))


class Stopwatch:
    """Seconds as a program lives them that only counts and runs from here on: those of the clock on an idle machine,
    fewer where several share a core. A promise of two seconds is one of the product's, not of its neighbours'."""

    def __enter__(self) -> Stopwatch:
        self._pace = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
        self._begun_s, self._begun = 0.0, time.monotonic()
        while not self._own_s:
            time.sleep(0.01)
        self._begun_s, self._begun = self._own_s, time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._pace.kill()
        self._pace.wait()

    @property
    def seconds(self) -> float:
        """Since it was entered."""
        return max(self._own_s, (time.monotonic() - self._begun) / BUSIEST)

    @property
    def _own_s(self) -> float:
        times = psutil.Process(self._pace.pid).cpu_times()
        return float(times.user + times.system) - self._begun_s
