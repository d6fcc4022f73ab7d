"""Where the rows of a file begin: every `STRIDE`-th of them, so that a page far inside opens without reading up to it.

Kept in `data/.cache/`, under a fingerprint of the file: a changed file has a new one, and a damaged index is rebuilt.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from studio.datasets.reading import BEGIN, Mark, marks
from studio.errors import RowError
from studio.files import write_text

STRIDE = 128


@dataclass(frozen=True)
class Index:
    """`rows` in the file (up to where it can be read), and the marks of rows 1, 129, 257, …"""

    rows: int
    marks: tuple[Mark, ...]

    def before(self, row: int) -> Mark:
        """The nearest mark at or before `row`."""
        if not self.marks:
            return BEGIN
        return self.marks[min((row - 1) // STRIDE, len(self.marks) - 1)]


@dataclass
class Surveyor:
    """Collects the index of a file while something else reads it."""

    rows: int = 0
    kept: list[Mark] = field(default_factory=list)

    def see(self, mark: Mark) -> None:
        if self.rows % STRIDE == 0:
            self.kept.append(mark)
        self.rows += 1

    def index(self) -> Index:
        return Index(self.rows, tuple(self.kept))


def indexed(path: Path, cache_dir: Path) -> Index:
    """The index of `path`, from the cache or by one pass over the file.

    Raises:
        UploadError: the file as a whole cannot be read.
    """
    return cached(path, cache_dir) or save(path, survey(path), cache_dir)


def cached(path: Path, cache_dir: Path) -> Index | None:
    """The index of `path` if it was made before."""
    try:
        stored = json.loads(_place(path, cache_dir).read_text(encoding="utf-8"))
        return Index(int(stored["rows"]), tuple(Mark(*mark) for mark in stored["marks"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def save(path: Path, index: Index, cache_dir: Path) -> Index:
    """Keep `index` for the next call, if the folder can be written to and the disk has room: it is only a cache."""
    stored = {"file": path.name, "rows": index.rows, "marks": index.marks}
    with suppress(OSError):
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_text(_place(path, cache_dir), json.dumps(stored, separators=(",", ":")))
    return index


def survey(path: Path) -> Index:
    """Read through `path` once. A row that cannot be passed is the last that counts."""
    surveyor = Surveyor()
    try:
        for mark in marks(path):
            surveyor.see(mark)
    except RowError as error:
        if error.row > surveyor.rows:
            surveyor.rows = error.row
    return surveyor.index()


def fingerprint(path: Path) -> str:
    """Changes whenever the file does: its place, size and time of change."""
    status = path.stat()
    identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
    return hashlib.sha256(identity.encode()).hexdigest()[:24]


def _place(path: Path, cache_dir: Path) -> Path:
    return cache_dir / f"index-{fingerprint(path)}.json"
