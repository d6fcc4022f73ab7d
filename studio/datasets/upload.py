"""A person's file or folder becomes a registered set: copied, looked at, then registered; or nothing remains."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from studio.datasets.checks import Report, detected, keep, survey
from studio.datasets.copying import copy
from studio.datasets.detect import Proposal
from studio.datasets.entry import Entry
from studio.datasets.incoming import publish, workshop
from studio.datasets.index import save
from studio.datasets.pace import Asked, Progress
from studio.datasets.reading import READERS, Extent, format_name, packed_suffix, stem_of
from studio.datasets.registry import Registry
from studio.errors import UploadError
from studio.files import safe_name

MAX_BYTES = 2 << 30
# a file of this size is checked to its last row before it is registered, of a larger one only so much
CHECKED_BYTES = 16 << 20


@dataclass(frozen=True)
class Accepted:
    """What an upload became: its entry, how its columns were read and why, and what the check found.

    `whole` is false where only the beginning of a large file was checked: the rest is for a data run.
    """

    entry: Entry
    proposal: Proposal
    report: Report
    whole: bool


def accept(
    source: Path,
    name: str,
    data_dir: Path,
    proposal: Proposal | None = None,
    *,
    owned: bool = False,
    max_bytes: int | None = MAX_BYTES,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> Accepted:
    """Bring a file, or the data files of a folder, into `data_dir` under a safe form of `name`; check and register it.

    Rows at fault do not stop it where any row is usable: the report tells them, and what is fatal among them keeps the
    set from trainings until it is repaired. Without a `proposal` the columns are detected. A file of our own that
    nobody else writes (`owned`) is not copied where the disk is the same: it gets a second name there, and the caller
    removes the first. `progress` is told bytes.

    Raises:
        UploadError: too large, empty, no text, unreadable as a whole, or no usable row.
        DatasetError, Cancelled: the registry is damaged; as asked. Nothing is left behind.
    """
    registry = Registry(data_dir)
    if not source.is_file() and not source.is_dir():
        raise UploadError(f"{source} is not a file that can be read")
    file_name = safe_name(name) if source.is_dir() else _file_name(name)
    whole = _size(source, name, max_bytes) <= CHECKED_BYTES
    with workshop(data_dir, file_name) as folder:
        place = folder / file_name
        if not (owned and _linked(source, place)):
            copy(source, place, progress, cancelled)
        proposal = proposal or detected(place)
        entry = proposal.entry(stem_of(file_name) or file_name, file_name)
        head_bytes = None if whole else CHECKED_BYTES
        report, index = survey(place, entry, head_bytes=head_bytes, max_bytes=max_bytes, cancelled=cancelled)
        if not report.usable:
            raise UploadError(f"{name}: {report.summary()}")
        (entry,) = publish(registry, [(place, entry)])
    if whole:
        save(registry.file(entry.name), index, registry.cache_dir)
        keep(registry.file(entry.name), entry, report, registry.cache_dir)
    return Accepted(entry, proposal, report, whole)


def paste(text: str, name: str, data_dir: Path, proposal: Proposal | None = None) -> Accepted:
    """Register rows that were typed or pasted: JSON objects, one a line, or one JSON list of them.

    Raises:
        UploadError: as `accept`.
    """
    stem = name.strip() or "pasted"
    suffix = ".json" if text.lstrip().startswith("[") else ".jsonl"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"rows{suffix}")
        source.write_text(text, encoding="utf-8", errors="surrogatepass")
        return accept(source, stem + suffix, data_dir, proposal, owned=True)


def _file_name(name: str) -> str:
    packed = packed_suffix(name)
    file_name = safe_name(name[: len(name) - len(packed)]) + packed
    if format_name(file_name) not in READERS:
        raise UploadError(f"{file_name}: cannot read this kind of file; use {', '.join(READERS)} (or one of them .gz)")
    return file_name


def _size(source: Path, name: str, max_bytes: int | None) -> int:
    """Bytes of the source, if they are within reason."""
    size = Extent(source).total
    if size == 0:
        raise UploadError(f"{name} is empty: it has no bytes at all")
    if max_bytes is not None and size > max_bytes:
        raise UploadError(f"{name} has {size / 1e9:.2f} GB; the limit is {max_bytes / 1e9:.2f} GB")
    return size


def _linked(source: Path, place: Path) -> bool:
    """Whether the file could get a second name in place of a copy."""
    try:
        os.link(source, place)
    except OSError:
        return False
    return True
