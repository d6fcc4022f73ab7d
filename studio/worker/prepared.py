"""Encoded rows on disk: made once, used by every run that would make the same ones, memory-mapped for the training.

`saves/cache/prepared/<fingerprint>/` holds the parts of one dataset as Arrow streams of the columns that its
stage needs (see `columns`), and `figures.json`. A folder appears whole, by rename; `<fingerprint>.lock` beside it lets
one process at a time make, take or remove it. Rows without anything to learn are counted and left out.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import ipc

from studio.datasets.cache import fingerprint
from studio.datasets.entry import dump
from studio.datasets.index import cached, indexed
from studio.datasets.loading import Fault
from studio.datasets.masking import Masking
from studio.datasets.near_copies import near
from studio.errors import DatasetError, RowError
from studio.files import folder_bytes, read_record, write_json
from studio.worker.columns import COLUMNS, EncodedRow
from studio.worker.encode import Encoded
from studio.worker.pool import Tokens, processes_for, spread
from studio.worker.rows import Part, Source, parts_of, read

VERSION = 5  # of what is stored: raised when the same rows would be encoded differently
BATCH_ROWS = 512
PART_ROWS = 4096
POLL_S = 0.1
LIMIT_BYTES = 20_000_000_000
LIMIT_SHARE = 0.1  # of the disk


@dataclass
class Figures:
    """What became of the rows of a dataset, or of a part of it.

    `seen` rows could be encoded; `rows` of them are kept, `cut` of those were longer than the cutoff. `late` rows begin
    their answer after it, `silent` ones have none, the two of `alike` ones do not differ, of `lost` ones the template
    leaves out what their tools are about. `faults` could not be encoded. Of the last two the first is told in words.
    A conversation that a template rewrites as it goes on counts for each of its sequences; `more` of those there are.
    """

    seen: int = 0
    rows: int = 0
    cut: int = 0
    late: int = 0
    silent: int = 0
    lost: int = 0
    alike: int = 0
    more: int = 0
    faults: int = 0
    first_lost: str = ""
    first_fault: str = ""

    def __add__(self, other: Figures) -> Figures:
        counts = {key: value + getattr(other, key) for key, value in vars(self).items() if isinstance(value, int)}
        first_lost, first_fault = self.first_lost or other.first_lost, self.first_fault or other.first_fault
        return Figures(**counts, first_lost=first_lost, first_fault=first_fault)

    def leave_out(self, fault: Fault) -> None:
        """Count a row at fault."""
        self.first_fault = self.first_fault or f"row {fault.row} {fault.what}"
        self.faults += 1

    def keep(self, row: EncodedRow) -> bool:
        """Count an encoded row; whether it teaches anything."""
        self.seen += 1
        self.more += isinstance(row, Encoded) and row.again
        if row.flaw:
            setattr(self, row.flaw, getattr(self, row.flaw) + 1)
            self.first_lost = self.first_lost or row.lost
            return False
        self.rows += 1
        self.cut += row.cut > 0
        return True


@dataclass(frozen=True)
class Prepared:
    """Encoded rows of one dataset: the files they are in, in order, and what became of the others."""

    name: str
    files: tuple[Path, ...]
    figures: Figures


@dataclass(frozen=True)
class Recipe:
    """All that decides how the rows of a dataset are encoded."""

    source: Source
    tokens: Tokens
    masking: Masking
    stage: str = "sft"
    columns: str = "sequence"

    @property
    def schema(self) -> pyarrow.Schema:
        """The columns of the encoded rows."""
        return COLUMNS[self.columns].schema

    @property
    def fingerprint(self) -> str:
        """Changes whenever the rows would."""
        source = self.source
        identity = {
            "version": VERSION,
            "file": fingerprint(source.path),
            "entry": dump(source.entry),
            "rest": [source.limit, source.name_of_model, source.author, self.tokens.fingerprint],
            "masking": asdict(self.masking),
            "columns": self.columns,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]

    def rows(self, part: Part, figures: Figures) -> Iterator[EncodedRow]:
        """The rows of a part that teach something; `figures` learns of all.

        Raises:
            DatasetError: a row that cannot be used or encoded.
        """
        numbered = read(self.source, part, figures.leave_out, self.stage)
        try:
            yield from filter(figures.keep, COLUMNS[self.columns].encode(numbered, self.tokens.load(), self.masking))
        except RowError as error:
            raise DatasetError(f"dataset {self.source.name}, {error}") from error


@dataclass(frozen=True)
class Hooks:
    """`progress` learns the rows done and all rows (0: not known), `wait` once that another run makes the same."""

    progress: Callable[[int, int], None]
    wait: Callable[[], None]


def prepare(
    recipe: Recipe, cache_dir: Path, index_dir: Path, hooks: Hooks, processes: int | None = None, anew: bool = False
) -> Prepared:
    """The encoded rows of a dataset: those in `cache_dir`, unless they are to be made `anew`, or else made now.

    `processes` encode them if there is enough to do; None decides by the amount of text.

    Raises:
        DatasetError: a row that cannot be used or encoded, or no room.
    """
    place = cache_dir / recipe.fingerprint
    try:
        with _locked(place, hooks.wait):
            if anew or not _is_whole(place, recipe.schema):
                _make(place, recipe, index_dir, processes, hooks.progress)
            os.utime(place)  # the time of its last use
            prepared = _open(place, recipe.source.name)
        _evict(cache_dir, place)
    except OSError as error:
        where, why = error.filename or cache_dir, error.strerror or error
        raise DatasetError(f"prepared rows cannot be kept in {where} ({why}): make room there") from error
    return prepared


def write_part(recipe: Recipe, part: Part, target: Path, progress: Callable[[int], None]) -> Figures:
    """Encode a part into the file `target`; `progress` is called with the rows done so far."""
    figures = Figures()
    rows = recipe.rows(part, figures)
    with open(target, "wb") as file:
        with ipc.new_stream(file, recipe.schema) as stream:
            while batch := list(islice(rows, BATCH_ROWS)):
                stream.write_batch(pyarrow.record_batch(COLUMNS[recipe.columns].values(batch), recipe.schema))
                progress(figures.seen - figures.more + figures.faults)
        file.flush()
        os.fsync(file.fileno())  # before the rename that says it is whole
    return figures


def _make(
    place: Path, recipe: Recipe, index_dir: Path, processes: int | None, progress: Callable[[int, int], None]
) -> None:
    draft = place.with_name(f"{place.name}.draft")
    for old in (draft, place):
        shutil.rmtree(old, ignore_errors=True)
    draft.mkdir()
    try:
        source = recipe.source
        count = 1 if source.limit is not None else processes_for(source.text_bytes, processes)
        make = _make_whole if count == 1 else partial(_make_parts, processes=count)
        parts = list(make(recipe, draft, index_dir, progress))
        files = [[name, made.rows, (draft / name).stat().st_size] for name, made in parts]
        figures = sum((made for _, made in parts), Figures())
        write_json(draft / "figures.json", {"figures": asdict(figures), "files": files})
        os.replace(draft, place)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _make_whole(
    recipe: Recipe, draft: Path, index_dir: Path, progress: Callable[[int, int], None]
) -> Iterator[tuple[str, Figures]]:
    index, limit = cached(recipe.source.path, index_dir), recipe.source.limit
    total = min((count for count in (index.rows if index else None, limit) if count is not None), default=0)
    yield "all.arrow", write_part(recipe, Part(), draft / "all.arrow", lambda done: progress(done, total))


def _make_parts(
    recipe: Recipe, draft: Path, index_dir: Path, progress: Callable[[int, int], None], processes: int
) -> Iterator[tuple[str, Figures]]:
    index = indexed(recipe.source.path, index_dir)
    recipe = replace(recipe, source=replace(recipe.source, path=near(recipe.source.path, index_dir)))
    parts = parts_of(index, PART_ROWS)
    names = [f"{number:06}.arrow" for number in range(len(parts))]
    results = spread(partial(_write_named_part, recipe, draft), zip(parts, names, strict=True), processes)
    done = 0
    for name, figures in zip(names, results, strict=True):
        done += figures.seen - figures.more + figures.faults
        progress(done, index.rows)
        yield name, figures


def _write_named_part(recipe: Recipe, draft: Path, task: tuple[Part, str]) -> Figures:
    part, name = task
    return write_part(recipe, part, draft / name, lambda done: None)


def _open(place: Path, name: str) -> Prepared:
    record = read_record(place / "figures.json")
    files = [place / file for file, rows, _ in record["files"] if rows]
    return Prepared(name, tuple(files), Figures(**record["figures"]))


def _is_whole(place: Path, schema: pyarrow.Schema) -> bool:
    record = read_record(place / "figures.json")
    try:
        Figures(**record["figures"])
        return all(_has_rows(place / name, schema, rows, size) for name, rows, size in record["files"])
    except (KeyError, TypeError, ValueError, OSError):  # pyarrow's errors are ValueErrors and OSErrors
        return False


def _has_rows(path: Path, schema: pyarrow.Schema, rows: int, size: int) -> bool:
    """Whether a file is as long as it was and its stream can be followed to the end; the tokens are not looked at."""
    if path.stat().st_size != size:
        return False
    with pyarrow.memory_map(str(path)) as file, ipc.open_stream(file) as stream:
        return bool(stream.schema == schema) and sum(batch.num_rows for batch in stream) == rows


@contextmanager
def _locked(place: Path, wait: Callable[[], None]) -> Iterator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(_lock_of(place), "w") as lock:
        if not _try_lock(lock):
            wait()
            while not _try_lock(lock):
                time.sleep(POLL_S)
        yield


def _lock_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.lock")


def _try_lock(lock: Any) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _evict(cache_dir: Path, keep: Path) -> None:
    """Remove what was not used for longest until the rest fits; what a run has open stays readable to it."""
    limit = min(LIMIT_BYTES, int(LIMIT_SHARE * shutil.disk_usage(cache_dir).total))
    folders = [path for path in cache_dir.iterdir() if path.is_dir()]
    sizes = {path: folder_bytes(path) for path in folders}
    total = sum(sizes.values())
    for place in sorted(folders, key=_last_use):
        if total <= limit:
            return
        if place != keep and _remove(place):
            total -= sizes[place]


def _last_use(place: Path) -> float:
    with suppress(FileNotFoundError):
        return place.stat().st_mtime
    return 0.0


def _remove(place: Path) -> bool:
    """Remove a folder or a draft that nobody is working on."""
    with open(_lock_of(place.with_suffix("")), "w") as lock:
        if not _try_lock(lock):
            return False
        shutil.rmtree(place, ignore_errors=True)
    return True
