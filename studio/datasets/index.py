"""Where the rows of a file begin: a mark now and then, so that a page far inside opens without reading up to it.

Kept in `data/.cache/`, under a fingerprint of the file: a changed file has a new one, and a damaged index is rebuilt.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from studio.datasets.cache import fingerprint, forget
from studio.datasets.near_copies import bring_near, near
from studio.datasets.pace import Asked, FilePace, Progress
from studio.datasets.reading import BEGIN, Mark, marks
from studio.datasets.reading.mark import is_due
from studio.errors import RowError
from studio.files import write_text


@dataclass(frozen=True)
class Index:
    """`rows` in the file (up to where it can be read), and the marks of some of them, the first one's included."""

    rows: int
    marks: tuple[Mark, ...]

    def before(self, row: int) -> Mark:
        """The nearest mark at or before `row`."""
        at = bisect_right(self.marks, row, key=lambda mark: mark.row)
        return self.marks[at - 1] if at else BEGIN


@dataclass
class Surveyor:
    """Collects the index of a file while something else reads every row of it."""

    rows: int = 0
    kept: list[Mark] = field(default_factory=list)

    def see(self, mark: Mark) -> None:
        """Take the next row into account."""
        if not self.kept or is_due(mark, self.kept[-1]):
            self.kept.append(mark)
        self.rows += 1

    def index(self) -> Index:
        """What was seen so far."""
        return Index(self.rows, tuple(self.kept))


def indexed(path: Path, cache_dir: Path, progress: Progress | None = None, cancelled: Asked | None = None) -> Index:
    """The index of `path`, from the cache or by one pass over the file. `progress` is told (done, total) bytes.

    Raises:
        UploadError: the file as a whole cannot be read.
        Cancelled: `cancelled` said so.
    """
    at = bring_near(path, cache_dir, progress, cancelled)
    return cached(path, cache_dir) or _kept(survey(at, progress, cancelled), _place(path, at, cache_dir))


def cached(path: Path, cache_dir: Path) -> Index | None:
    """The index of `path` if it was made before."""
    try:
        stored = orjson.loads(_place(path, near(path, cache_dir), cache_dir).read_bytes())
        return Index(int(stored["rows"]), tuple(Mark(*mark) for mark in stored["marks"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def save(path: Path, index: Index, cache_dir: Path) -> Index:
    """Keep `index`, made of `path` itself, for the next call; nothing else that is older is kept of `path`."""
    forget(path, cache_dir, but=fingerprint(path))
    return _kept(index, _place(path, path, cache_dir))


def survey(path: Path, progress: Progress | None = None, cancelled: Asked | None = None) -> Index:
    """Go through `path` once. A row that cannot be passed is the last that counts."""
    seen: list[Mark] = []
    pace = FilePace(path, progress, cancelled)
    try:
        for mark in marks(path):
            seen.append(mark)
            pace.at(mark)
        end = seen.pop().row
    except RowError as error:
        end = error.row + 1
    return Index(end - 1, tuple(seen))


def _kept(index: Index, place: Path) -> Index:
    # only a cache: the folder may be write-protected, the disk full
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, json.dumps({"rows": index.rows, "marks": index.marks}, separators=(",", ":")))
    return index


def _place(path: Path, at: Path, cache_dir: Path) -> Path:
    return cache_dir / f"index-{fingerprint(path)}{'' if at == path else '-near'}.json"
