"""The rows of a registered set as canonical values: what the worker trains on and what the preview shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from studio.datasets.entry import Entry
from studio.datasets.formats import Row, convert
from studio.datasets.reading import BEGIN, Mark, Record, Unpassable, rows
from studio.datasets.registry import Registry
from studio.errors import RowError

# rows that can be read, but not as a row: the file is as its author wants it, and the others are fine
LEFT_OUT = ("wrong_type", "too_deep")


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that cannot be used. `fatal`: it cannot even be read, so the file must be mended.

    Other faults (an empty answer, a wrong role) leave the row out and the rest usable. `code` names the kind of fault.
    """

    row: int
    what: str
    fatal: bool
    code: str


class Scanned(NamedTuple):
    """One row: where it begins, what the file holds (None where unreadable), what it means."""

    mark: Mark
    record: Record | None
    value: Row | Fault


def load(
    registry: Registry, name: str, limit: int | None = None, leave_out: Callable[[Fault], None] | None = None
) -> Iterator[tuple[int, Row]]:
    """The first `limit` usable rows of a set, with their numbers from 1.

    A row at fault ends it with an error, unless `leave_out` takes it; a fatal fault always ends it.

    Raises:
        DatasetError: no such set, a set that cannot be used, or a file that cannot be read.
        RowError: a row at fault.
    """
    entry, path = registry.entry(name), registry.file(name)
    wanted = min((count for count in (limit, entry.num_samples) if count is not None), default=None)
    given = 0
    for scanned in scan(path, entry):
        if given == wanted:
            return
        if isinstance(scanned.value, Fault):
            _pass_on(scanned.value, leave_out)
        else:
            yield scanned.mark.row, scanned.value
            given += 1


def _pass_on(fault: Fault, leave_out: Callable[[Fault], None] | None) -> None:
    if fault.fatal or leave_out is None:
        raise RowError(fault.row, fault.what)
    leave_out(fault)


def scan(
    path: Path, entry: Entry, start: Mark = BEGIN, kind: type[Row] | None = None, thorough: bool = False
) -> Iterator[Scanned]:
    """Every row from `start` on, faulty ones included; all usable ones are of one kind, by default that of the first.

    `thorough` reading is slower and notes fields named twice (see `duplicate_keys`).

    Raises:
        UploadError: the file as a whole cannot be read.
    """
    mark = start
    try:
        for mark, record in rows(path, start, thorough):
            scanned = read(entry, mark, record, kind)
            if kind is None and not isinstance(scanned.value, Fault):
                kind = type(scanned.value)
            yield scanned
    except RowError as error:
        place, fault = stuck(error, mark)
        yield Scanned(place, None, fault)


def stuck(error: RowError, last: Mark) -> tuple[Mark, Fault]:
    """The place and fault of a row after which nothing can be read; `last` is where the row before it begins."""
    place = error.mark if isinstance(error, Unpassable) else last._replace(row=error.row)
    return place, _fault(error, fatal=True)


def read(entry: Entry, mark: Mark, record: Record | RowError, kind: type[Row] | None) -> Scanned:
    """What a row means, as `entry` reads it; `kind` is that of the rows before, if there were usable ones."""
    if isinstance(record, RowError):
        return Scanned(mark, None, _fault(record, fatal=record.code not in LEFT_OUT))
    try:
        value = convert(entry, mark.row, record)
    except RowError as error:
        return Scanned(mark, record, _fault(error, fatal=False))
    if kind is not None and not isinstance(value, kind):
        what = f"is a {type(value).__name__.lower()}, while the rows before it are each a {kind.__name__.lower()}"
        return Scanned(mark, record, Fault(mark.row, what, fatal=False, code="mixed_shapes"))
    return Scanned(mark, record, value)


def _fault(error: RowError, fatal: bool) -> Fault:
    code = error.code or ("unreadable" if fatal else "wrong_type")
    return Fault(error.row, str(error).removeprefix(f"row {error.row}: "), fatal, code)
