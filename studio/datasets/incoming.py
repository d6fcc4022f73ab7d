"""Files on their way into `data/`: made in a folder on the same disk, moved to their place whole, then registered."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from studio.datasets.entry import Entry
from studio.datasets.reading import stem_of
from studio.datasets.registry import FILE_NAME as REGISTRY_NAME
from studio.datasets.registry import Registry
from studio.datasets.scratch import scratch
from studio.errors import UploadError
from studio.files import reason_of


@contextmanager
def workshop(data_dir: Path, what: str) -> Iterator[Path]:
    """A folder on the disk of `data_dir` in which `what` is made; gone at the end, however it ends.

    Raises:
        UploadError: the disk is full, or cannot be written.
    """
    try:
        with scratch(data_dir / ".incoming") as folder:
            yield folder
    except OSError as error:
        raise UploadError(f"{what} could not be stored: {reason_of(error)}") from error


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
