"""What the Datasets tab and `python -m studio data` list: every set with its size, rows and state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from studio.datasets.entry import Entry
from studio.datasets.index import cached, indexed
from studio.datasets.loading import Fault, scan
from studio.datasets.preview import COUNTED_BYTES
from studio.datasets.registry import Registry, size_of
from studio.errors import DatasetError

PROBED_ROWS = 20


@dataclass(frozen=True)
class Listing:
    """One line of the list. `rows` is None where a large file was not counted yet, or there is no file.

    `shape` is conversation, text, preference or feedback; empty where no row could be read. A set with a `note`
    cannot be used, and the note says why.
    """

    name: str
    shape: str
    formatting: str
    file_name: str
    bytes: int
    rows: int | None
    note: str


def listings(registry: Registry) -> list[Listing]:
    """All sets, in the order of the registry.

    Raises:
        DatasetError: the registry file is damaged.
    """
    return [_listing(registry, entry) for entry in registry.entries()]


def _listing(registry: Registry, entry: Entry) -> Listing:
    if entry.note:
        return Listing(entry.name, "", entry.formatting, entry.file_name, 0, None, entry.note)
    size = 0
    try:
        path = registry.file(entry.name)
        size = size_of(path)
        index = indexed(path, registry.cache_dir) if size <= COUNTED_BYTES else cached(path, registry.cache_dir)
        rows = index.rows if index else None
        return Listing(entry.name, _shape(path, entry), entry.formatting, entry.file_name, size, rows, "")
    except (DatasetError, FileNotFoundError) as error:
        # another process may remove a set at any moment
        return Listing(entry.name, "", entry.formatting, entry.file_name, size, None, str(error))


def _shape(path: Path, entry: Entry) -> str:
    for number, scanned in enumerate(scan(path, entry), 1):
        if not isinstance(scanned.value, Fault):
            return type(scanned.value).__name__.lower()
        if number == PROBED_ROWS:
            break
    return ""
