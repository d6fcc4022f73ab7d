"""What a merge read and wrote, how long each part took, and how much memory it needed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Written:
    """`inputs` and `outputs` are SHA-256 by file, whole paths and names. `peak_bytes` is that of this process."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    bytes_read: int
    bytes_written: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_bytes: int = 0


@dataclass
class Ledger:
    """Seconds by phase, in their order."""

    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic)

    def lap(self, name: str) -> None:
        """What took place since the last lap, or the beginning."""
        now = time.monotonic()
        self.seconds[name] = now - self._last
        self._last = now

    def close(self, written: Written) -> Written:
        """`written` with the time and the memory it took."""
        return replace(written, seconds=dict(self.seconds), peak_bytes=peak_bytes())


def peak_bytes() -> int:
    """The most memory that this process ever held; 0 where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
