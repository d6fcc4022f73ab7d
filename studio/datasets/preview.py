"""Pages of a set as canonical conversations, from anywhere in a file of any size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from studio.datasets.entry import Entry
from studio.datasets.formats import Feedback, Message, Preference, Row, Text, convert
from studio.datasets.index import cached, indexed
from studio.datasets.loading import Fault, Scanned, scan
from studio.datasets.near_copies import near
from studio.datasets.pace import Asked, Progress
from studio.datasets.reading import BEGIN, Extent, Mark, Record, excerpt, files_of, rows
from studio.datasets.registry import Registry
from studio.errors import DatasetError, RowError

# below this a pass over the whole file costs less than a person notices
COUNTED_BYTES = 16 << 20
SHOWN_CHARS = 8000


@dataclass(frozen=True)
class Shown:
    """One row of a page: the turns to draw, or the `error` and, in `raw`, the beginning of what the file holds.

    `line` is where the row begins in its file, `file` the name of that file where the set is a folder.
    """

    row: int
    turns: tuple[Message, ...]
    label: str = ""
    error: str = ""
    raw: str = ""
    line: int = 0
    file: str = ""


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
    path, offset = registry.file(name), max(0, offset)
    found, total = _found(registry, name, offset, limit)
    at = near(path, registry.cache_dir)
    return Page(tuple(_shown(path, at, scanned) for scanned in found), total)


def row(registry: Registry, name: str, number: int) -> tuple[Scanned, int | None]:
    """One row of a set as the worker reads it, and how many rows there are (see `Page.total`).

    Raises:
        DatasetError: no such set or row, or the set cannot be used or read.
    """
    found, total = _found(registry, name, max(0, number - 1), 1)
    if number > 0 and (scanned := next(found, None)):
        return scanned, total
    raise DatasetError(f"there is no row {number:,}: {name} has {total or 0:,} rows")


def count(registry: Registry, name: str, progress: Progress | None = None, cancelled: Asked | None = None) -> int:
    """The rows of a set, counted once and then remembered; after that any page is near.

    Raises:
        DatasetError: no such set, or it cannot be used or read.
        Cancelled: `cancelled` said so.
    """
    return indexed(registry.file(name), registry.cache_dir, progress, cancelled).rows


def sample(path: Path, entry: Entry, limit: int = 3) -> tuple[Shown, ...]:
    """The first rows of a file that is not registered yet, read as `entry` says."""
    return tuple(_shown(path, path, scanned) for scanned in islice(scan(path, entry), limit))


def reading(record: Record, entry: Entry) -> Shown:
    """A record that stands in no file (yet), read as `entry` says. What does not fit is its error."""
    try:
        value = convert(entry, 0, record)
    except RowError as error:
        return Shown(0, (), error=str(error).removeprefix("row 0: "))
    return Shown(0, tuple(map(_short, _turns(value))), _label(value))


def _found(registry: Registry, name: str, offset: int, limit: int) -> tuple[Iterator[Scanned], int | None]:
    """Rows from offset+1 on, and the rows of the set."""
    entry, path = registry.entry(name), registry.file(name)
    total, start = _start(path, registry.cache_dir, offset)
    at = near(path, registry.cache_dir)
    return _scanned(at, entry, _advanced(at, start, offset), offset, limit), total


def _start(path: Path, cache_dir: Path, offset: int) -> tuple[int | None, Mark]:
    index = cached(path, cache_dir)
    if index is None and offset == 0 and Extent(path).total > COUNTED_BYTES:
        return None, BEGIN
    index = index or indexed(path, cache_dir)
    return index.rows, index.before(offset + 1)


def _advanced(path: Path, start: Mark, offset: int) -> Mark:
    """The place of row offset+1: rows on the way there are read but not understood, which would take longer."""
    if start.row > offset:
        return start
    with suppress(RowError):  # nothing after it can be read, so there is nothing to show
        return next((mark for mark, _ in rows(path, start) if mark.row > offset), start)
    return start


def _scanned(path: Path, entry: Entry, start: Mark, offset: int, limit: int) -> Iterator[Scanned]:
    wanted = (scanned for scanned in scan(path, entry, start) if scanned.mark.row > offset)
    return islice(wanted, limit)


def _shown(path: Path, at: Path, scanned: Scanned) -> Shown:
    """A row of `path`, read from `at`."""
    mark = scanned.mark
    raw = excerpt(at, mark, SHOWN_CHARS) if scanned.record is None else _laid_out(scanned.record)
    shown = Shown(mark.row, (), raw=raw, line=mark.line, file=files_of(path)[mark.file].name if path.is_dir() else "")
    if isinstance(scanned.value, Fault):
        return replace(shown, error=scanned.value.what)
    return replace(shown, turns=tuple(map(_short, _turns(scanned.value))), label=_label(scanned.value))


def _laid_out(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, indent=1)[:SHOWN_CHARS]


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
