"""Lines and tables for a terminal, a pipe or a file."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from collections.abc import Sequence

CLEAR_LINE = "\r\033[K"


def say(text: str) -> None:
    """A line that stays."""
    print(f"{CLEAR_LINE if sys.stdout.isatty() else ''}{text}", flush=True)


def tick(text: str) -> None:
    """A line that the next one replaces; where nothing can be replaced, an ordinary line."""
    if sys.stdout.isatty():
        print(f"{CLEAR_LINE}{cut(text, _columns() - 1)}", end="", flush=True)
    else:
        print(text, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; on a terminal, lines end at its edge."""
    widths = [max(width(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        line = "  ".join(cell + " " * (space - width(cell)) for cell, space in zip(row, widths, strict=True)).rstrip()
        print(cut(line, _columns()) if sys.stdout.isatty() else line)


def duration(seconds: float) -> str:
    """Seconds as 8 s, 3:05 or 2:03:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def width(text: str) -> int:
    """Columns that `text` takes: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def cut(text: str, columns: int) -> str:
    """`text`, ended by … where it is wider than `columns`."""
    if width(text) <= columns:
        return text
    while width(text) >= columns:
        text = text[:-1]
    return f"{text}…"


def _columns() -> int:
    return shutil.get_terminal_size().columns
