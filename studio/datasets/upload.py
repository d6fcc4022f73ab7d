"""A person's file becomes a registered set: copied, checked to the last row, then registered; or nothing remains."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from studio.datasets.checks import Report, detected, survey
from studio.datasets.detect import Proposal
from studio.datasets.entry import Entry
from studio.datasets.index import save
from studio.datasets.reading import READERS, format_name, stem_of
from studio.datasets.registry import FILE_NAME as REGISTRY_NAME
from studio.datasets.registry import Registry
from studio.errors import UploadError
from studio.files import safe_name

MAX_BYTES = 2 << 30
STALE_S = 24 * 3600
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Accepted:
    """What an upload became: its entry, how its columns were read and why, and what the check found."""

    entry: Entry
    proposal: Proposal
    report: Report


def accept(
    source: Path,
    name: str,
    data_dir: Path,
    proposal: Proposal | None = None,
    max_bytes: int = MAX_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> Accepted:
    """Copy `source` into `data_dir` under a safe form of `name`, check every row, register it.

    Rows at fault that can be left out do not stop it: the report counts them. Without a `proposal` the columns are
    detected. `progress` is told (done, total) bytes of the check.

    Raises:
        UploadError: too large, empty, no text, unreadable, or no usable row. Nothing is left behind.
        DatasetError: the registry is damaged.
    """
    file_name = _file_name(name)
    _check_size(source, name, max_bytes)
    with _copied(source, file_name, data_dir) as copy:
        proposal = proposal or detected(copy)
        report, index = survey(
            copy, proposal.entry("upload", file_name), max_bytes=max_bytes, progress=progress
        )
        if report.fatal:
            raise UploadError(f"{name}: {report.summary()}")
        entry = _register(copy, file_name, proposal, Registry(data_dir))
    registry = Registry(data_dir)
    save(registry.file(entry.name), index, registry.cache_dir)
    return Accepted(entry, proposal, report)


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
        return accept(source, stem + suffix, data_dir, proposal)


def _file_name(name: str) -> str:
    packed = name.lower().endswith(".gz")
    file_name = safe_name(name.removesuffix(name[-3:]) if packed else name) + (".gz" if packed else "")
    if format_name(file_name) not in READERS:
        raise UploadError(f"{file_name}: cannot read this kind of file; use {', '.join(READERS)} (or one of them .gz)")
    return file_name


def _check_size(source: Path, name: str, max_bytes: int) -> None:
    if not source.is_file():
        raise UploadError(f"{source} is not a file that can be read")
    size = source.stat().st_size
    if size == 0:
        raise UploadError(f"{name} is empty: it has no bytes at all")
    if size > max_bytes:
        raise UploadError(f"{name} has {size / 1e9:.2f} GB; the limit is {max_bytes / 1e9:.2f} GB")


@contextmanager
def _copied(source: Path, file_name: str, data_dir: Path) -> Iterator[Path]:
    """A copy inside `data_dir`, on the disk where it will stay; gone at the end unless it was moved to its place."""
    folder = data_dir / ".incoming" / uuid.uuid4().hex
    try:
        _sweep(folder.parent)
        folder.mkdir(parents=True)
        copy = folder / file_name
        _copy(source, copy)
        yield copy
    except OSError as error:
        raise UploadError(f"{file_name} could not be stored: {_reason(error)}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    with open(source, "rb") as reader, open(target, "xb") as writer:
        shutil.copyfileobj(reader, writer, _CHUNK_BYTES)
        writer.flush()
        os.fsync(writer.fileno())


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full: free some space and upload it again"
    return error.strerror or str(error)


def _sweep(incoming: Path) -> None:
    """Remove what uploads left that were killed long ago."""
    for folder in incoming.glob("*"):
        if time.time() - folder.stat().st_mtime > STALE_S:
            shutil.rmtree(folder, ignore_errors=True)


def _register(copy: Path, file_name: str, proposal: Proposal, registry: Registry) -> Entry:
    place = _claimed(registry.data_dir, file_name)
    try:
        os.replace(copy, place)
        return registry.add(proposal.entry(stem_of(place.name), place.name), numbered=True)
    except BaseException:
        place.unlink(missing_ok=True)
        raise


def _claimed(data_dir: Path, file_name: str) -> Path:
    """An empty file of that name, or of the next free one (-2, -3, …): two uploads never share one."""
    stem = stem_of(file_name)
    for name in (file_name, *(f"{stem}-{number}{file_name[len(stem) :]}" for number in range(2, 10_000))):
        with suppress(FileExistsError):
            if name != REGISTRY_NAME:
                (data_dir / name).open("x").close()
                return data_dir / name
    raise UploadError(f"{file_name}: there are thousands of files of that name; choose another one")
