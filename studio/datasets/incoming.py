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
from studio.datasets.reading import stem_of
from studio.datasets.registry import FILE_NAME as REGISTRY_NAME
from studio.datasets.registry import Registry
from studio.errors import UploadError

# a folder younger than this may not be locked yet
FRESH_S = 60


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
    with placed(registry, [path for path, _ in made]) as places:
        entries = [replace(entry, file_name=place.name) for (_, entry), place in zip(made, places, strict=True)]
        return registry.add_all(entries, numbered=True)


@contextmanager
def placed(registry: Registry, made: Sequence[Path]) -> Iterator[list[Path]]:
    """Move files or folders to `data/`, each under its own name or the next free one; gone again after an error."""
    places: list[Path] = []
    try:
        for path in made:
            places.append(claimed(path, registry.data_dir))
        yield places
    except BaseException:
        for place in places:
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        raise


def claimed(path: Path, data_dir: Path) -> Path:
    """Where `path` now is: in `data_dir`, under its name or the next free one (-2, -3, …)."""
    stem = "" if path.is_dir() else stem_of(path.name)
    suffix = path.name[len(stem) :] if stem else ""
    for name in (path.name, *(f"{stem or path.name}-{number}{suffix}" for number in range(2, 10_000))):
        with suppress(FileExistsError):
            if name != REGISTRY_NAME:
                return _taken(path, data_dir / name)
    raise UploadError(f"{path.name}: there are thousands of files of that name; choose another one")


def _taken(path: Path, place: Path) -> Path:
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
