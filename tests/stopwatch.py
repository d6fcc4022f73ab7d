"""Time limits that a machine may be busy beside."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil


class Stopwatch:
    """Seconds as a program lives them that only counts and runs from here on: those of the clock on an idle machine,
    fewer where several share a core. A promise of two seconds is one of the product's, not of its neighbours'."""

    def __enter__(self) -> Stopwatch:
        self._pace = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
        self._begun_s = 0.0
        while not self.seconds:
            time.sleep(0.01)
        self._begun_s = self.seconds
        return self

    def __exit__(self, *_: object) -> None:
        self._pace.kill()
        self._pace.wait()

    @property
    def seconds(self) -> float:
        times = psutil.Process(self._pace.pid).cpu_times()
        return float(times.user + times.system) - self._begun_s
