"""Pages of a set as canonical conversations, from anywhere in a file of any size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from studio.datasets.entry import Entry
from studio.datasets.formats import Feedback, Message, Preference, Row, Text
from studio.datasets.index import cached, indexed
from studio.datasets.loading import Fault, Scanned, scan
from studio.datasets.reading import BEGIN, Mark
from studio.datasets.registry import Registry

# below this a pass over the whole file costs less than a person notices
COUNTED_BYTES = 16 << 20
SHOWN_CHARS = 8000


@dataclass(frozen=True)
class Shown:
    """One row of a page: the turns to draw, or the `error` and the beginning of what the file holds."""

    row: int
    turns: tuple[Message, ...]
    label: str = ""
    error: str = ""
    raw: str = ""


@dataclass(frozen=True)
class Page:
    """Some rows of a set. `total` is None while nobody has counted the rows of a large file (see `count`)."""

    rows: tuple[Shown, ...]
    total: int | None


def page(registry: Registry, name: str, offset: int = 0, limit: int = 10) -> Page:
    """Rows offset+1 … offset+limit of a set. The first page of a large file is there before its index is.

    Raises:
        DatasetError: no such set, or it cannot be used or read.
    """
    entry, path = registry.entry(name), registry.file(name)
    offset = max(0, offset)
    total, start = _start(path, registry.cache_dir, offset)
    return Page(tuple(_page_rows(path, entry, start, offset, limit)), total)


def count(registry: Registry, name: str) -> int:
    """The rows of a set, counted once and then remembered."""
    return indexed(registry.file(name), registry.cache_dir).rows


def sample(path: Path, entry: Entry, limit: int = 3) -> tuple[Shown, ...]:
    """The first rows of a file that is not registered yet, read as `entry` says."""
    return tuple(_page_rows(path, entry, BEGIN, 0, limit))


def _start(path: Path, cache_dir: Path, offset: int) -> tuple[int | None, Mark]:
    index = cached(path, cache_dir)
    if index is None and offset == 0 and path.stat().st_size > COUNTED_BYTES:
        return None, BEGIN
    index = index or indexed(path, cache_dir)
    return index.rows, index.before(offset + 1)


def _page_rows(path: Path, entry: Entry, start: Mark, offset: int, limit: int) -> Iterator[Shown]:
    wanted = (scanned for scanned in scan(path, entry, start) if scanned.mark.row > offset)
    return (_shown(scanned) for scanned in islice(wanted, limit))


def _shown(scanned: Scanned) -> Shown:
    raw = _raw(scanned)
    if isinstance(scanned.value, Fault):
        return Shown(scanned.mark.row, (), error=scanned.value.what, raw=raw)
    turns = tuple(_short(turn) for turn in _turns(scanned.value))
    return Shown(scanned.mark.row, turns, _label(scanned.value), raw=raw)


def _raw(scanned: Scanned) -> str:
    if scanned.record is None:
        return ""
    try:
        return json.dumps(scanned.record, ensure_ascii=False, indent=1, default=str)[:SHOWN_CHARS]
    except RecursionError:
        return "(nested too deeply to show)"


def _turns(value: Row) -> tuple[Message, ...]:
    """What to draw, in order; beside the four roles there are text, chosen and rejected."""
    if isinstance(value, Text):
        return (Message("text", value.text),)
    if isinstance(value, Preference):
        return (*value.prompt, replace(value.chosen, role="chosen"), replace(value.rejected, role="rejected"))
    return value.messages


def _label(value: Row) -> str:
    if isinstance(value, Feedback):
        return "good" if value.good else "bad"
    return ""


def _short(turn: Message) -> Message:
    if len(turn.content) <= SHOWN_CHARS:
        return turn
    hidden = len(turn.content) - SHOWN_CHARS
    return replace(turn, content=f"{turn.content[:SHOWN_CHARS]} … ({hidden} more characters)")
