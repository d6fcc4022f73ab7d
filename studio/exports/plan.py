"""What an export will do, said before it starts: the same sentences on the page and on the command line."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from studio.errors import ConfigError, Problem

GB = 1e9


@dataclass(frozen=True)
class Plan:
    """`title` is one sentence in Markdown, `lines` what else to know, `warnings` what to think about first.

    `bytes` is what will be written, None where that cannot be told beforehand.
    """

    title: str
    bytes: int | None
    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def require_room(folder: Path, needed_bytes: int, what: str) -> None:
    """Refuse before anything is written.

    Raises:
        ConfigError: the disk of `folder` has less left than `what` needs.
    """
    free = free_bytes(folder)
    if needed_bytes > free:
        raise ConfigError([Problem("disk", f"{what} needs {size(needed_bytes)}, {size(free)} are free: make room")])


def free_bytes(folder: Path) -> int:
    """What is left on the disk of `folder`, which need not exist yet."""
    return shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free


def size(count: float) -> str:
    """Bytes for people: 1.23 GB, 45.6 MB, 7.89 kB."""
    unit, divisor = next((pair for pair in (("GB", GB), ("MB", 1e6)) if count >= pair[1]), ("kB", 1e3))
    return f"{count / divisor:.3g} {unit}"
