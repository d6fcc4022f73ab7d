"""`data/dataset_info.json`: which data sets there are.

Edits touch only the entry they are about: every other byte of the file stays, unknown keys, order and spacing
included. Writers hold a lock on a file beside it, so two of them (a tab and a command) never lose an entry. A damaged
file is reported with its line and never overwritten.

Removing is moving: the entry and its file go to `data/.trash/<id>/` and can be restored.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from studio.datasets.cache import forget
from studio.datasets.entry import KNOWN_KEYS, Entry, dump, parse
from studio.errors import DatasetError, DatasetNotFound, PathError
from studio.files import folder_bytes, inside, lock, read_json, reason_of, write_json, write_text

FILE_NAME = "dataset_info.json"
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class _Member(NamedTuple):
    """One `"name": value` of the file and where its text lies."""

    name: str
    value: Any
    start: int
    end: int


@dataclass(frozen=True)
class Trashed:
    """A removed set that can be restored by its `id`."""

    id: str
    name: str
    removed_at: float
    bytes: int


class Registry:
    """The data sets of one folder. Holds no state: every call reads the file, which others may have changed."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.path = data_dir / FILE_NAME
        self.trash = data_dir / ".trash"
        self.cache_dir = data_dir / ".cache"

    def names(self) -> list[str]:
        """All names, in the order of the file."""
        return list(dict.fromkeys(member.name for member in self._members()))

    def entries(self) -> list[Entry]:
        """All entries, also those that cannot be used (see their note)."""
        specs = {member.name: member.value for member in self._members()}
        return [parse(name, spec, self.data_dir) for name, spec in specs.items()]

    def entry(self, name: str) -> Entry:
        """The entry called `name`.

        Raises:
            DatasetNotFound: there is none; the message lists what there is.
        """
        return parse(name, self._spec(name), self.data_dir)

    def file(self, name: str) -> Path:
        """The file of a set that can be used.

        Raises:
            DatasetNotFound: no such entry.
            DatasetError: the entry cannot be used; the message is its note.
        """
        entry = self.entry(name)
        if entry.note:
            raise DatasetError(f"dataset {name!r} cannot be used: {entry.note}")
        return inside(self.data_dir, entry.file_name)

    def add(self, entry: Entry, numbered: bool = False) -> Entry:
        """Append `entry`; the entry as it now reads. If its name is taken, `numbered` takes name-2, name-3, …

        Raises:
            DatasetError: the name is taken, or the registry file is damaged.
        """
        return self.add_all([entry], numbered)[0]

    def add_all(self, entries: Sequence[Entry], numbered: bool = False) -> list[Entry]:
        """Append several entries in one step: all of them, or none. Otherwise as `add`."""
        names = self._add([(entry.name, dump(entry)) for entry in entries], numbered)
        return [self.entry(name) for name in names]

    def _add(self, specs: Sequence[tuple[str, Any]], numbered: bool) -> list[str]:
        with self.locked():
            text, names = self._text(), []
            for name, spec in specs:
                members = _scan(text, self.path)
                names.append(_free(name, {member.name for member in members}, numbered))
                text = _inserted(text, members, names[-1], spec)
            write_text(self.path, text)
        return names

    def replace(self, entry: Entry) -> Entry:
        """Let the entry of that name say what `entry` says. Its place and the keys that are not known here stay.

        Raises:
            DatasetNotFound: no such entry.
            DatasetError: the registry file is damaged.
        """
        self.rewrite(entry.name, lambda spec: {**_unknown(spec), **dump(entry)})
        return self.entry(entry.name)

    def rewrite(self, name: str, change: Callable[[Any], Any]) -> None:
        """Replace the value of `name` by what `change` makes of it, in one step; every other byte stays.

        Raises: as `replace`.
        """
        with self.locked():
            text, spec = self._text(), self._spec(name)
            member = [each for each in _scan(text, self.path) if each.name == name][-1]
            written = _written(name, change(spec), _indent(text, [member]))
            write_text(self.path, text[: member.start] + written + text[member.end :])

    def remove(self, name: str) -> str:
        """Take `name` out; its file moves to the trash unless another entry uses it. The id to restore it by."""
        with self.locked():
            spec = self._spec(name)
            entry = parse(name, spec, self.data_dir)
            folder = self.trash_folder()
            # the record first: whatever step is interrupted, the entry can be restored
            record = {"name": name, "spec": spec, "file_name": entry.file_name, "at": time.time()}
            write_json(folder / "entry.json", record)
            text = self._text()
            write_text(self.path, _without(text, _scan(text, self.path), name))
            self.discard(entry.file_name, folder)
        return folder.name

    def trash_folder(self) -> Path:
        """A new folder in the trash."""
        folder = self.trash / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        folder.mkdir(parents=True)
        return folder

    def discard(self, file_name: str, folder: Path) -> None:
        """Move a file or folder of `data/` to the trash `folder` (as `file`), unless an entry uses it."""
        if not file_name or any(entry.file_name == file_name for entry in self.entries()):
            return
        try:
            path = inside(self.data_dir, file_name)
            forget(path, self.cache_dir)
            os.replace(path, folder / "file")
        except (OSError, PathError):
            return  # an entry without its file, or with a file that is not ours to move

    def trashed(self) -> list[Trashed]:
        """What can be restored, latest first."""
        found = (_trashed(folder) for folder in self.trash.glob("*"))
        return sorted(filter(None, found), key=lambda item: item.removed_at, reverse=True)

    def restore(self, trash_id: str) -> Entry:
        """Undo a removal.

        Raises:
            DatasetNotFound: no such id.
            DatasetError: its name or its file's name is taken by now.
        """
        folder = inside(self.trash, trash_id)
        record = _record(folder)
        if record is None:
            raise DatasetNotFound(f"nothing in the trash is called {trash_id!r}")
        kept = folder / "file"
        target = inside(self.data_dir, record["file_name"]) if kept.exists() else None
        if target is not None and target.exists():
            raise DatasetError(f"{record['file_name']} exists again: rename that file, then restore")
        self._add([(record["name"], record["spec"])], numbered=False)
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(kept, target)
        shutil.rmtree(folder)
        return self.entry(record["name"])

    def _spec(self, name: str) -> Any:
        specs = {member.name: member.value for member in self._members()}
        if name not in specs:
            known = ", ".join(list(specs)[:8]) + (", …" if len(specs) > 8 else "")
            raise DatasetNotFound(f"there is no dataset {name!r}; there are: {known or 'none yet'}")
        return specs[name]

    def _members(self) -> list[_Member]:
        return _scan(self._text(), self.path)

    def _text(self) -> str:
        try:
            return self.path.read_bytes().decode("utf-8-sig")
        except FileNotFoundError:
            return "{}\n"
        except UnicodeDecodeError as error:
            raise DatasetError(f"{self.path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error

    @contextmanager
    def locked(self, name: str = FILE_NAME) -> Iterator[None]:
        """Let one process at a time change what `name` stands for.

        Raises:
            DatasetError: the folder cannot be written to, or the disk is full.
        """
        try:
            with lock(self.data_dir / f".{name}.lock"):
                yield
        except OSError as error:
            raise DatasetError(f"{self.data_dir} could not be changed: {reason_of(error)}") from error


def _scan(text: str, path: Path) -> list[_Member]:
    """The members of the top-level object in `text`, with their places."""
    try:
        return list(_walk(text))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise DatasetError(f"{path} is damaged at {where}: {error.msg}. Mend it there; it was not changed") from error
    except RecursionError as error:
        raise DatasetError(f"{path} is damaged: it is nested too deeply. Mend it; it was not changed") from error


def _walk(text: str) -> Iterator[_Member]:
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise json.JSONDecodeError("Expecting '{': the names of the data sets", text, at)
    at = _skip(text, at + 1)
    closed = text[at : at + 1] == "}"
    while not closed:
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("Expecting a name in double quotes", text, at)
        name, colon = _DECODER.raw_decode(text, at)
        value, end = _value(text, _skip(text, colon))
        yield _Member(name, value, at, end)
        at = _skip(text, end)
        closed = text[at : at + 1] == "}"
        if not closed and text[at : at + 1] != ",":
            raise json.JSONDecodeError("Expecting ',' or '}'", text, at)
        at = at if closed else _skip(text, at + 1)
    if _skip(text, at + 1) != len(text):
        raise json.JSONDecodeError("Extra text after the closing '}'", text, _skip(text, at + 1))


def _value(text: str, colon: int) -> tuple[Any, int]:
    if text[colon : colon + 1] != ":":
        raise json.JSONDecodeError("Expecting ':'", text, colon)
    value, end = _DECODER.raw_decode(text, _skip(text, colon + 1))
    return value, end


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _inserted(text: str, members: list[_Member], name: str, spec: Any) -> str:
    indent = _indent(text, members)
    member = f"{indent}{_written(name, spec, indent)}\n"
    if members:
        end = members[-1].end
        return f"{text[:end]},\n{member}{text[end:].lstrip()}"
    return "{\n" + member + "}\n"


def _written(name: str, spec: Any, indent: str) -> str:
    """`"name": spec` as it stands in the file, on a line indented by `indent`."""
    body = json.dumps(spec, ensure_ascii=False, indent=indent).replace("\n", "\n" + indent)
    return f"{json.dumps(name, ensure_ascii=False)}: {body}"


def _unknown(spec: Any) -> dict[str, Any]:
    """What an entry says beside the keys that are read here: notes of a person, settings of other programs."""
    return {key: value for key, value in spec.items() if key not in KNOWN_KEYS} if isinstance(spec, dict) else {}


def _free(name: str, taken: set[str], numbered: bool) -> str:
    if name in taken and not numbered:
        raise DatasetError(f"there is already a dataset {name!r}: choose another name")
    return next(each for each in _numbered(name) if each not in taken)


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in count(2))


def _indent(text: str, members: list[_Member]) -> str:
    if not members:
        return "  "
    line = text[text.rfind("\n", 0, members[0].start) + 1 : members[0].start]
    return line if line and not line.strip() else "  "


def _without(text: str, members: list[_Member], name: str) -> str:
    kept = [position for position, member in enumerate(members) if member.name != name]
    if not kept:
        return "{}\n"
    parts = [text[: members[0].start]]
    for position in kept:
        if position != kept[0]:
            parts.append(text[members[position - 1].end : members[position].start])
        parts.append(text[members[position].start : members[position].end])
    return "".join([*parts, text[members[-1].end :]])


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        record = read_json(folder / "entry.json")
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"name", "spec", "file_name", "at"} <= record.keys() else None


def _trashed(folder: Path) -> Trashed | None:
    record = _record(folder)
    if record is None:
        return None
    kept = folder / "file"
    return Trashed(folder.name, record["name"], record["at"], size_of(kept) if kept.exists() else 0)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return folder_bytes(path) if path.is_dir() else path.stat().st_size
