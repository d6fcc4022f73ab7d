"""Rows of a set replaced, deleted or added by hand, and the way back.

The set's file is replaced in one step by a new one; the old one stays in the trash (as a second name of the same
file, so it takes no time and no room while nothing else changes) until 20 later edits were made. A file that cannot
be written in place (xlsx, arrow, packed, a folder) becomes NAME.jsonl, and the entry says so.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from studio.datasets.edit.rewriting import Change, read_row, rewritten
from studio.datasets.entry import Entry
from studio.datasets.formats.fields import parse_json
from studio.datasets.incoming import placed, workshop
from studio.datasets.index import indexed
from studio.datasets.reading import Record, files_of
from studio.datasets.registry import Registry
from studio.errors import DatasetError, DatasetNotFound
from studio.files import inside, read_record, write_json

KEPT_VERSIONS = 20
RECORD = "edit.json"
KEPT = "file"


@dataclass(frozen=True)
class Edit:
    """An edit that can be undone by its `id`: what was done, and when (seconds since 1970)."""

    id: str
    what: str
    at: float


def version(registry: Registry, name: str) -> str:
    """Changes whenever the rows of a set may have: what a page shows belongs to it.

    Raises:
        DatasetNotFound, DatasetError: no such set, or it cannot be used.
    """
    return _state(registry.file(name))


def raw(registry: Registry, name: str, row: int) -> Record:
    """What the file holds as its `row`-th row.

    Raises:
        DatasetError: no such row, or it cannot be read.
    """
    path = registry.file(name)
    index = indexed(path, registry.cache_dir)
    _check_rows([row], index.rows)
    return read_row(path, index, row)


def parse(text: str) -> Record:
    """The record that a person typed as JSON.

    Raises:
        DatasetError: it is no JSON object; says where.
    """
    try:
        record = parse_json(text)
    except orjson.JSONDecodeError as error:
        raise DatasetError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    if not isinstance(record, dict):
        raise DatasetError('a row must be an object: {"field": "value", …}')
    return record


def replace_row(registry: Registry, name: str, row: int, record: Record, *, seen: str = "") -> str:
    """Let `record` stand in the place of a row; the id to undo it by.

    `seen` is the `version` that the person saw: a file that changed since is not touched.

    Raises:
        DatasetError: no such row, the file changed since, or it cannot hold the record.
    """
    return _edit(registry, name, lambda _: Change(replaced={row: record}), f"row {row} replaced", seen)


def delete_rows(registry: Registry, name: str, numbers: Sequence[int], *, seen: str = "") -> str:
    """Leave rows out; the id to undo it by. Raises as `replace_row`, and for all rows: one must stay."""
    gone = frozenset(numbers)
    what = f"row {numbers[0]} deleted" if len(gone) == 1 else f"{len(gone)} rows deleted"
    return _edit(registry, name, lambda _: Change(deleted=gone), what, seen)


def add_row(registry: Registry, name: str, record: Record, after: int | None = None, *, seen: str = "") -> str:
    """Add `record` after a row (0: before the first; None: at the end); the id to undo it by.

    Raises: as `replace_row`.
    """
    what = "a row added at the end" if after is None else f"a row added after row {after}"
    return _edit(registry, name, lambda total: Change(added={total if after is None else after: record}), what, seen)


def history(registry: Registry, name: str) -> list[Edit]:
    """The edits of a set that can be undone, latest first; they are undone in this order.

    Raises:
        DatasetNotFound, DatasetError: no such set, or it cannot be used.
    """
    by_result = {record["after"]: (edit_id, record) for edit_id, record in _records(registry, name)}
    state, edits = version(registry, name), []
    while state in by_result:
        edit_id, record = by_result.pop(state)
        edits.append(Edit(edit_id, record["what"], record["at"]))
        state = record["before"]
    return edits


def _records(registry: Registry, name: str) -> list[tuple[str, dict[str, Any]]]:
    """What is kept of edits of a set of that name, latest first."""
    records = ((folder.name, read_record(folder / RECORD)) for folder in registry.trash.glob("*"))
    return sorted(
        ((edit_id, record) for edit_id, record in records if record.get("edited") == name),
        key=lambda item: float(item[1]["at"]),
        reverse=True,
    )


def undo(registry: Registry, undo_id: str) -> Entry:
    """Take an edit back; the entry as it then reads.

    Raises:
        DatasetNotFound: no such edit is kept.
        DatasetError: the set was changed after it.
    """
    folder = inside(registry.trash, undo_id)
    with registry.locked("edit"):  # two edits that began from the same file would each undo the other
        record = read_record(folder / RECORD)
        if "edited" not in record:
            raise DatasetNotFound(f"no edit {undo_id!r} is kept")
        path = registry.file(record["edited"])
        if _state(path) != record["after"]:
            raise DatasetError(f"{record['edited']} was changed after that edit: undo the later change first")
        _take_back(registry, folder / KEPT, path, record)
    shutil.rmtree(folder)
    return registry.entry(record["edited"])


def _take_back(registry: Registry, kept: Path, path: Path, record: dict[str, Any]) -> None:
    old = inside(registry.data_dir, record["file_name"])
    if old == path:
        os.replace(kept, path)
        return
    if kept.exists():
        if old.exists():
            raise DatasetError(f"{old.name} exists again: rename that file, then undo")
        os.replace(kept, old)
    registry.rewrite(record["edited"], lambda spec: _renamed(spec, record["file_name"]))
    path.unlink()


def _edit(registry: Registry, name: str, change_of: Callable[[int], Change], what: str, seen: str) -> str:
    """Do what `change_of` says for a file of so many rows."""
    with registry.locked("edit"):
        path = registry.file(name)
        if seen and seen != _state(path):
            raise DatasetError(f"{name} was changed since it was shown: look at the rows again, then repeat the edit")
        index = indexed(path, registry.cache_dir)
        change = change_of(index.rows)
        _check_change(change, index.rows)
        with workshop(registry.data_dir, name) as folder:
            new = rewritten(path, index, change, folder)
            undo_id = _put(registry, name, path, new, what)
    for old_id, _ in _records(registry, name)[KEPT_VERSIONS:]:
        shutil.rmtree(registry.trash / old_id, ignore_errors=True)
    return undo_id


def _check_change(change: Change, total: int) -> None:
    _check_rows([*change.replaced, *change.deleted, *(max(1, row) for row in change.added)], total)
    if len(change.deleted) == total:
        raise DatasetError("one row must stay: remove the dataset instead")


def _check_rows(numbers: Sequence[int], total: int) -> None:
    for number in numbers:
        if not 1 <= number <= total:
            raise DatasetError(f"there is no row {number}: the rows are 1 to {total}")
    if not numbers:
        raise DatasetError("choose at least one row")


def _put(registry: Registry, name: str, path: Path, new: Path, what: str) -> str:
    """Let the file `new` stand for `path`; what was there goes to the trash."""
    folder = registry.trash_folder()
    file_name = registry.entry(name).file_name
    # the record first: whatever step is interrupted, nothing is lost
    states = {"before": _state(path), "after": _state(new)}
    write_json(folder / RECORD, {"edited": name, "file_name": file_name, "what": what, "at": time.time(), **states})
    if new.name == path.name:
        _keep(path, folder / KEPT)
        os.replace(new, path)
        return folder.name
    with placed(registry, [new]) as (place,):
        registry.rewrite(name, lambda spec: _renamed(spec, place.name))
    registry.discard(file_name, folder)
    return folder.name


def _keep(path: Path, kept: Path) -> None:
    try:
        os.link(path, kept)
    except OSError:
        # a file system without second names
        shutil.copy2(path, kept)


def _renamed(spec: Any, file_name: str) -> Any:
    """An entry of the registry whose file is another one."""
    key = "path" if "path" in spec and "file_name" not in spec else "file_name"
    return {**spec, key: file_name}


def _state(path: Path) -> str:
    """Changes whenever the file does, or any file in the folder; moving it does not."""
    found = [file.stat() for file in files_of(path)]
    state = "|".join(f"{status.st_size}.{status.st_mtime_ns}" for status in found)
    return blake2b(state.encode(), digest_size=8).hexdigest()
