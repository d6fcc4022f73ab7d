"""Rows in another shape or another kind of file, and several sets as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from studio.datasets.entry import Entry
from studio.datasets.formats import SHAPES, Misfit, Row, Text, shaped, to_record
from studio.datasets.incoming import publish, workshop
from studio.datasets.loading import Fault, scan
from studio.datasets.operations.sources import Source, derived, file_name, opened
from studio.datasets.pace import Asked, Progress, in_turns, paced
from studio.datasets.reading import Record
from studio.datasets.registry import Registry
from studio.datasets.writing import PASSES, read_jsonl, write, write_jsonl
from studio.errors import DatasetError

# what sets of different shapes become: the shape that holds most
COMMON_SHAPE = "openai"
LeaveOut = Callable[[Fault], None]


def convert(
    registry: Registry,
    name: str,
    shape: str | None = None,
    file_format: str = "jsonl",
    output_name: str | None = None,
    *,
    leave_out: LeaveOut | None = None,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> list[Entry]:
    """The rows of `name` in `shape` (None: as they are) in a file of `file_format` (jsonl, json, csv, parquet).

    `shape` is alpaca, sharegpt, openai, prompt_completion or text. A row that cannot be used, or that `shape` cannot
    hold, ends it with an error, unless `leave_out` takes it.

    Raises:
        DatasetError: no such set, shape or format, or a row at fault.
        Cancelled: as asked; nothing is left.
    """
    _check_shape(shape)
    source = opened(registry, name)
    name = output_name or f"{name}-{shape or file_format}"
    with workshop(registry.data_dir, name) as folder:
        path, entry = folder / file_name(name, f".{file_format}"), source.entry
        if shape is None:
            told = in_turns(progress, PASSES.get(file_format, 1))
            write(path, file_format, lambda: source.records(next(told), cancelled))
        else:
            rows, entry = _reshaped([source], shape, folder, leave_out, progress, cancelled)
            _rewritten(rows, path, file_format, cancelled)
        return publish(registry, [(path, derived(entry, name, "convert", [source.entry.name], shape=shape))])


def merge(
    registry: Registry,
    names: Sequence[str],
    shape: str | None = None,
    output_name: str | None = None,
    *,
    leave_out: LeaveOut | None = None,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> list[Entry]:
    """The rows of all `names`, one set after the other, as one set.

    Sets whose columns mean the same keep their rows as they are, unless a `shape` is given; others are brought to
    one shape (openai). All must be of one kind: conversations cannot be mixed with preferences.

    Raises: as `convert`.
    """
    if len(names) < 2:
        raise DatasetError("choose at least two datasets to merge")
    _check_shape(shape)
    sources = [opened(registry, name) for name in names]
    name = output_name or "+".join(names)
    with workshop(registry.data_dir, name) as folder:
        if shape is None and _read_alike(sources):
            rows, entry = folder / "rows", sources[0].entry
            write_jsonl(rows, lambda: _chained(sources, progress, cancelled))
        else:
            rows, entry = _reshaped(sources, shape, folder, leave_out, progress, cancelled)
        path = folder / file_name(name)
        os.replace(rows, path)
        return publish(registry, [(path, derived(entry, name, "merge", names, shape=shape))])


def _check_shape(shape: str | None) -> None:
    if shape is not None and shape not in SHAPES:
        raise DatasetError(f"{shape!r} is no shape; it must be one of {', '.join(SHAPES)}")


def _read_alike(sources: Sequence[Source]) -> bool:
    first = sources[0].entry
    return all(
        (entry.formatting, entry.columns, entry.tags, entry.ranking)
        == (first.formatting, first.columns, first.tags, first.ranking)
        for entry in (source.entry for source in sources)
    )


def _chained(sources: Sequence[Source], progress: Progress | None, cancelled: Asked | None) -> Iterator[Record]:
    total = sum(source.rows for source in sources)
    return paced(chain.from_iterable(source.records() for source in sources), total, progress, cancelled)


def _reshaped(
    sources: Sequence[Source],
    shape: str | None,
    folder: Path,
    leave_out: LeaveOut | None,
    progress: Progress | None,
    cancelled: Asked | None,
) -> tuple[Path, Entry]:
    """The rows of `sources` as JSON lines of one shape, and the entry that reads them."""
    shaper, rows = _Shaper(shape, leave_out), folder / "rows"
    total = sum(source.rows for source in sources)
    records = chain.from_iterable(map(shaper.records, sources))
    write_jsonl(rows, lambda: paced(records, total, progress, cancelled))
    if shaper.shape is None or shaper.kind is None or not rows.stat().st_size:
        raise DatasetError("no row is left: none could be used")
    return rows, shaped("", shaper.shape, shaper.kind)


@dataclass
class _Shaper:
    """Brings rows to one shape. The shape, where none was asked for, and the kind are those of the first row."""

    shape: str | None
    leave_out: LeaveOut | None
    kind: type[Row] | None = None

    def records(self, source: Source) -> Iterator[Record]:
        for scanned in scan(source.path, source.entry):
            record = self._record(scanned.mark.row, scanned.value, source.entry.name)
            if not isinstance(record, Fault):
                yield record
            elif record.fatal or self.leave_out is None:
                raise DatasetError(f"{source.entry.name}: row {record.row}: {record.what}")
            else:
                self.leave_out(record)

    def _record(self, row: int, value: Row | Fault, name: str) -> Record | Fault:
        if isinstance(value, Fault):
            return value
        self.kind = self.kind or type(value)
        if not isinstance(value, self.kind):
            kinds = f"{type(value).__name__.lower()}s and the sets before it {self.kind.__name__.lower()}s"
            raise DatasetError(f"{name} has {kinds}: they cannot be one set")
        self.shape = self.shape or ("text" if isinstance(value, Text) else COMMON_SHAPE)
        try:
            return to_record(self.shape, value)
        except Misfit as misfit:
            return Fault(row, f"{self.shape} cannot hold it: {misfit}", False, misfit.code)


def _rewritten(rows: Path, path: Path, file_format: str, cancelled: Asked | None) -> None:
    """`rows`, JSON lines, as the file `path`."""
    if file_format == "jsonl":
        os.replace(rows, path)
        return

    def again() -> Iterator[Record]:
        return paced(read_jsonl(rows), 0, None, cancelled)

    write(path, file_format, again)
