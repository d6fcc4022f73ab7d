"""A new set in which some of what a check found is put right. The old file is never changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from studio.datasets import incoming
from studio.datasets.entry import Entry
from studio.datasets.formats import convert
from studio.datasets.pace import Asked, Progress
from studio.datasets.reading import Record, rows
from studio.datasets.registry import Registry
from studio.datasets.writing import line_of
from studio.errors import DatasetError, RowError

# a record as it shall be, or None where its row is left out
Mend = Callable[[int, Record], Record | None]


@dataclass(frozen=True)
class Source:
    """The file that is repaired, how it is read, and from which likeness on rows count as near-duplicates."""

    path: Path
    entry: Entry
    threshold: float


class Repair(NamedTuple):
    """What a button says, and what is done to each row in turn."""

    en: str
    zh: str
    begin: Callable[[Source], Mend]


def repair(
    registry: Registry,
    name: str,
    repairs: Sequence[str],
    output_name: str | None = None,
    *,
    threshold: float = 0.85,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> tuple[Entry, dict[str, int]]:
    """Write a set anew as JSON lines with `repairs` (names in REPAIRS) done, and register it as `output_name`.

    Returns the new entry, which is read as the old one, and how many rows each repair changed or left out.

    Raises:
        DatasetError: an unknown repair, no such set, a row that cannot be read and may not be left out.
        Cancelled: `cancelled` said so; nothing is left behind.
    """
    if unknown := [each for each in repairs if each not in REPAIRS]:
        raise DatasetError(f"there is no repair {', '.join(unknown)}; there are {', '.join(REPAIRS)}")
    entry, path = registry.entry(name), registry.file(name)
    job = _Job(Source(path, entry, threshold), [each for each in REPAIRS if each in repairs])
    new = replace(entry, name=output_name or f"{name}-repaired", num_samples=None)
    with incoming.workshop(registry.data_dir, new.name) as folder:
        made = folder / f"{new.name}.jsonl"
        with open(made, "xb") as file:
            file.writelines(map(line_of, job.records()))
        (added,) = incoming.publish(registry, [(made, new)])
    return added, dict(job.counts)


class _Job:
    """The rows of a source with repairs done, and how often each did something."""

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        self.source = source
        self.mends = {name: REPAIRS[name].begin(source) for name in names}
        self.counts: Counter[str] = Counter(dict.fromkeys(names, 0))

    def records(self) -> Iterator[Record]:
        for mark, record in rows(self.source.path):
            if isinstance(record, RowError):
                self._leave_out(record)
                continue
            mended = self._mended(mark.row, record)
            if mended is not None:
                yield mended

    def _leave_out(self, error: RowError) -> None:
        if "drop_faulty" not in self.mends:
            raise error
        self.counts["drop_faulty"] += 1

    def _mended(self, row: int, record: Record) -> Record | None:
        for name, mend in self.mends.items():
            before, mended = record, mend(row, record)
            if mended != before:
                self.counts[name] += 1
            if mended is None:
                return None
            record = mended
        return record


def _dropping_faulty(source: Source) -> Mend:
    def mend(row: int, record: Record) -> Record | None:
        try:
            convert(source.entry, row, record)
        except RowError:
            return None
        return record

    return mend


REPAIRS: dict[str, Repair] = {
    "drop_faulty": Repair("Leave out rows that cannot be used", "去掉无法使用的行", _dropping_faulty),
}
