"""The rows of a dataset as a training reads them: from any place in the file, of one kind, placeholders filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from studio.config.train import TrainConfig
from studio.datasets.entry import Entry
from studio.datasets.formats import Conversation, Row
from studio.datasets.index import Index
from studio.datasets.loading import Fault, scan
from studio.datasets.placeholders import KEYS, unfilled
from studio.datasets.purposes import PURPOSES, misfit
from studio.datasets.reading import BEGIN, Mark, files_of
from studio.datasets.registry import Registry
from studio.errors import DatasetError, RowError


@dataclass(frozen=True)
class Source:
    """One dataset and how it is read: plain values, so that another process can read a part of it.

    `limit` counts usable rows; `name_of_model` and `author` replace {{name}} and {{author}}.
    """

    name: str
    path: Path
    entry: Entry
    limit: int | None
    name_of_model: str | None
    author: str | None

    @classmethod
    def of(cls, config: TrainConfig, registry: Registry, name: str) -> Source:
        """The dataset `name` as configured.

        Raises:
            DatasetError: no such set, or one that cannot be used.
        """
        path, entry = registry.file(name), registry.entry(name)
        limit = min((count for count in (config.max_samples, entry.num_samples) if count is not None), default=None)
        return cls(name, path, entry, limit, config.model_name, config.model_author)

    @property
    def text_bytes(self) -> int:
        """The size of its files."""
        return sum(file.stat().st_size for file in files_of(self.path))


@dataclass(frozen=True)
class Part:
    """A stretch of a file: of the `rows` from `start` on, usable or not, one in `every`; None for all that follow."""

    start: Mark = BEGIN
    rows: int | None = None
    every: int = 1


def parts_of(index: Index, rows: int) -> list[Part]:
    """A file in parts of about so many rows, in order."""
    starts: list[Mark] = []
    for mark in index.marks:
        if not starts or mark.row - starts[-1].row >= rows:
            starts.append(mark)
    ends = [*(mark.row for mark in starts[1:]), index.rows + 1]
    return [Part(start, end - start.row) for start, end in zip(starts, ends, strict=True)]


def read(
    source: Source, part: Part, leave_out: Callable[[Fault], None], stage: str | None
) -> Iterator[tuple[int, Row]]:
    """The usable rows of a part with their numbers; faulty ones go to `leave_out`.

    The rows must be of a kind that `stage` learns from; None takes any.

    Raises:
        DatasetError: a row that cannot even be read, one that does not serve the stage, a placeholder unfilled.
    """
    rows = _usable(source, part, leave_out, stage)
    try:
        yield from islice(rows, source.limit)
    except RowError as error:
        raise DatasetError(f"dataset {source.name}, {error}") from error


def _usable(
    source: Source, part: Part, leave_out: Callable[[Fault], None], stage: str | None
) -> Iterator[tuple[int, Row]]:
    kinds = PURPOSES[stage].kinds if stage else ()
    # the first row of the file decides what the others are
    known = kinds[0] if len(kinds) == 1 and part.start != BEGIN else None
    for scanned in islice(scan(source.path, source.entry, part.start, known), 0, part.rows, part.every):
        number, value = scanned.mark.row, scanned.value
        if not isinstance(value, Fault):
            yield number, _fill(source, number, _require(stage, number, value))
        elif value.fatal:
            raise RowError(number, value.what)
        else:
            leave_out(value)


def _require(stage: str | None, number: int, row: Row) -> Row:
    if stage and (why := misfit(stage, type(row))):
        raise RowError(number, why)
    return row


def _fill(source: Source, number: int, row: Row) -> Row:
    """`row` with {{name}} and {{author}} replaced."""
    if not isinstance(row, Conversation) or "{{" not in "".join(message.content for message in row.messages):
        return row
    text = "".join(message.content for message in row.messages)
    given = {"model_name": source.name_of_model, "model_author": source.author}
    if what := unfilled((mark for mark in KEYS if mark in text), given):
        raise RowError(number, what)
    messages = list(row.messages)
    for mark, key in KEYS.items():
        messages = [replace(message, content=message.content.replace(mark, given[key] or "")) for message in messages]
    return replace(row, messages=tuple(messages))
