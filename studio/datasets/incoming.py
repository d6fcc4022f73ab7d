"""Files on their way into `data/`: made in a folder beside their place, moved there whole, or gone without a trace.

The folder is locked by the process that fills it. Where that process was killed the lock is free, and whoever makes
the next folder removes what it left.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from studio.datasets.entry import Entry
from studio.datasets.pace import Asked, Progress, check
from studio.datasets.reading import READERS, format_name, stem_of
from studio.datasets.registry import FILE_NAME as REGISTRY_NAME
from studio.datasets.registry import Registry
from studio.errors import UploadError

# a folder younger than this may not be locked yet
FRESH_S = 60
COPY_BYTES = 16 << 20
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


@contextmanager
def workshop(data_dir: Path, what: str) -> Iterator[Path]:
    """A folder on the disk of `data_dir` in which `what` is made; gone at the end, however it ends.

    Raises:
        UploadError: the disk is full, or cannot be written.
    """
    folder = data_dir / ".incoming" / uuid.uuid4().hex
    try:
        _sweep(folder.parent)
        folder.mkdir(parents=True)
        with _locked(folder):
            yield folder
    except OSError as error:
        raise UploadError(f"{what} could not be stored: {_reason(error)}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(registry: Registry, made: Sequence[tuple[Path, Entry]]) -> list[Entry]:
    """Move each file or folder to `data/` under its own name and register all entries in one step.

    A name that is taken gets a number (name-2, name-3, …), files and entries alike.

    Raises:
        DatasetError: the registry is damaged; nothing is left of the files.
    """
    places: list[Path] = []
    try:
        for path, _ in made:
            places.append(_moved(path, registry.data_dir))
        entries = [replace(entry, file_name=place.name) for (_, entry), place in zip(made, places, strict=True)]
        return registry.add_all(entries, numbered=True)
    except BaseException:
        for place in places:
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        raise


def copy(source: Path, target: Path, progress: Progress | None = None, cancelled: Asked | None = None) -> None:
    """Copy a file, or the data files of a folder, to the new `target`; `progress` is told bytes.

    The kernel does it, sharing the blocks where the file system can.

    Raises:
        Cancelled: as asked; what was copied so far is left to the caller.
    """
    if source.is_dir():
        target.mkdir()
    parts = [(part, target / part.name) for part in data_files(source)] if source.is_dir() else [(source, target)]
    total, done = sum(part.stat().st_size for part, _ in parts), 0
    for part, place in parts:
        for count in _copied(part, place):
            done += count
            check(cancelled)
            if progress is not None:
                progress(done, max(done, total))


def data_files(folder: Path) -> list[Path]:
    """The files in `folder` that can be read as data, by name."""
    found = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in found if format_name(path.name) in READERS)


def _copied(source: Path, target: Path) -> Iterator[int]:
    """Copy piece by piece, and tell the size of each."""
    with open(source, "rb") as reader, open(target, "xb") as writer:
        yield from _pieces(reader.fileno(), writer.fileno())
        os.fsync(writer.fileno())


def _pieces(reader: int, writer: int) -> Iterator[int]:
    try:
        while count := os.copy_file_range(reader, writer, COPY_BYTES):
            yield count
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
    # also after the kernel's way: files that it takes for empty (in /proc, on some network disks) are read all the same
    while data := os.read(reader, COPY_BYTES):
        yield _write_all(writer, data)


def _write_all(descriptor: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(data)


def _moved(path: Path, data_dir: Path) -> Path:
    """Where `path` now is: in `data_dir`, under its name or the next free one (-2, -3, …)."""
    stem = "" if path.is_dir() else stem_of(path.name)
    suffix = path.name[len(stem) :] if stem else ""
    for name in (path.name, *(f"{stem or path.name}-{number}{suffix}" for number in range(2, 10_000))):
        with suppress(FileExistsError):
            if name != REGISTRY_NAME:
                return _claimed(path, data_dir / name)
    raise UploadError(f"{path.name}: there are thousands of files of that name; choose another one")


def _claimed(path: Path, place: Path) -> Path:
    """Move `path` to `place`, which nobody else takes meanwhile."""
    if path.is_dir():
        place.mkdir()
    else:
        place.open("x").close()
    os.replace(path, place)
    return place


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(incoming: Path) -> None:
    """Remove the folders whose makers are gone."""
    for folder in incoming.glob("*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > FRESH_S and _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full: free some space and try again"
    return error.strerror or str(error)
