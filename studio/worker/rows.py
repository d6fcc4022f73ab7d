"""The rows of a dataset as a training reads them: from any place in the file, of one kind, placeholders filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from studio.config.train import TrainConfig
from studio.datasets.entry import Entry
from studio.datasets.formats import Conversation, Feedback, Preference, Row, Text
from studio.datasets.index import Index
from studio.datasets.loading import Fault, scan
from studio.datasets.reading import BEGIN, Mark, files_of
from studio.datasets.registry import Registry
from studio.errors import DatasetError, RowError

STAGES = {Text: "continued pre-training", Preference: "preference training", Feedback: "preference training"}


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
    source: Source, part: Part, leave_out: Callable[[Fault], None], kind: type[Row] | None = Conversation
) -> Iterator[tuple[int, Row]]:
    """The usable rows of a part with their numbers; faulty ones go to `leave_out`.

    `kind` is what the rows must be; None takes any.

    Raises:
        DatasetError: a row that cannot even be read, one of another kind than the first, a placeholder unfilled.
    """
    rows = _usable(source, part, leave_out, kind)
    try:
        yield from islice(rows, source.limit)
    except RowError as error:
        raise DatasetError(f"dataset {source.name}, {error}") from error


def _usable(
    source: Source, part: Part, leave_out: Callable[[Fault], None], kind: type[Row] | None
) -> Iterator[tuple[int, Row]]:
    known = None if part.start == BEGIN else kind  # the first row of the file decides what the others are
    for scanned in islice(scan(source.path, source.entry, part.start, known), 0, part.rows, part.every):
        number, value = scanned.mark.row, scanned.value
        if not isinstance(value, Fault):
            yield number, _fill(source, number, _require(kind, number, value))
        elif value.fatal:
            raise RowError(number, value.what)
        else:
            leave_out(value)


def _require(kind: type[Row] | None, number: int, row: Row) -> Row:
    if kind is None or isinstance(row, kind):
        return row
    raise RowError(number, f"is data for {STAGES[type(row)]}, not for sft: choose a dataset of conversations")


def _fill(source: Source, number: int, row: Row) -> Row:
    """`row` with {{name}} and {{author}} replaced."""
    if not isinstance(row, Conversation) or "{{" not in "".join(message.content for message in row.messages):
        return row
    text = "".join(message.content for message in row.messages)
    known = {"{{name}}": ("model_name", source.name_of_model), "{{author}}": ("model_author", source.author)}
    missing = [(mark, key) for mark, (key, value) in known.items() if mark in text and not value]
    if missing:
        marks, keys = (" and ".join(column) for column in zip(*missing, strict=True))
        raise RowError(number, f"contains {marks}: set {keys} to say what the model calls itself and who made it")
    messages = list(row.messages)
    for mark, (_, value) in known.items():
        messages = [replace(message, content=message.content.replace(mark, value or "")) for message in messages]
    return replace(row, messages=tuple(messages))
