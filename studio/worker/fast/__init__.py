"""Faster ways to compute the same: attention, kernels, adapters, passes. Each has a plain way beside it that gives the
same result, which runs where a part is missing; the log says which one runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from studio.worker.report import say

# of a device or a version that differs from what a faster way was written for
FAULTS = (RuntimeError, ValueError, TypeError, AttributeError, AssertionError, ImportError)


@dataclass(frozen=True)
class Path:
    """Which way a `part` of the training is computed; `why` it is not the faster one, where it is not."""

    part: str
    way: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.part}: {self.way}" + (f" ({self.why})" if self.why else "")


def first_line(fault: BaseException) -> str:
    """What it says, in short; its name where it says nothing."""
    return (str(fault).strip() or type(fault).__name__).splitlines()[0]


def tell(paths: Iterable[Path]) -> None:
    """A line of log.txt for each."""
    for path in paths:
        say(f"computed by {path}")
