"""A folder as a zip that is never written: its size is known beforehand, and it can be read from any byte on.

Stored, not packed: weights do not shrink. Every header holds its file's checksum, so programs that read a zip from
front to back can too; a file is therefore read once for it before its bytes are sent, and its checksum remembered.
Layout: APPNOTE 6.3.9, with 64-bit fields where a number needs them.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

FULL = 0xFFFFFFFF
FULL_COUNT = 0xFFFF
ZIP64_VERSION, UTF8 = 45, 0x800
MADE_ON_UNIX = 3 << 8 | ZIP64_VERSION
READABLE = 0o100644 << 16
PIECE_BYTES = 1 << 20


class Changed(OSError):
    """A file is not any more what it was when the archive was begun."""


@dataclass(frozen=True)
class Entry:
    """One file of the archive; `offset` is where its header begins."""

    name: bytes
    path: Path
    size_bytes: int
    mtime_ns: int
    offset: int

    @property
    def head_bytes(self) -> int:
        return 30 + len(self.name) + len(_wide(self.size_bytes, self.size_bytes))

    @property
    def end(self) -> int:
        return self.offset + self.head_bytes + self.size_bytes


@dataclass(frozen=True)
class Archive:
    """All files of a folder, below one folder of the name that was asked for."""

    entries: tuple[Entry, ...]

    @property
    def size_bytes(self) -> int:
        return self.directory_offset + sum(map(_record_bytes, self.entries)) + len(_end(self))

    @property
    def directory_offset(self) -> int:
        return self.entries[-1].end if self.entries else 0

    @property
    def tag(self) -> str:
        """Changes whenever the content does."""
        states = [(each.name, each.size_bytes, each.mtime_ns) for each in self.entries]
        return hashlib.sha256(repr(states).encode()).hexdigest()[:32]


def archive(folder: Path, name: str) -> Archive:
    """The files of `folder`, named `name`/…; links are left out."""
    entries: list[Entry] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        status, inner = path.stat(), f"{name}/{path.relative_to(folder).as_posix()}"
        offset = entries[-1].end if entries else 0
        entries.append(Entry(os.fsencode(inner), path, status.st_size, status.st_mtime_ns, offset))
    return Archive(tuple(entries))


def read(archive: Archive, start: int = 0, stop: int | None = None) -> Generator[bytes]:
    """The bytes from `start` up to `stop`. Empty pieces say that a checksum takes its time.

    Raises:
        Changed: a file has become another meanwhile.
    """
    stop, at = archive.size_bytes if stop is None else stop, 0
    for length, piece in _parts(archive):
        first, last = max(start - at, 0), min(stop - at, length)
        if first < last:
            yield from piece(first, last)
        at += length


Part = tuple[int, Callable[[int, int], Iterator[bytes]]]


def _parts(archive: Archive) -> Iterator[Part]:
    for entry in archive.entries:
        yield entry.head_bytes, partial(_cut, partial(_head, entry))
        yield entry.size_bytes, partial(_content, entry)
    yield archive.size_bytes - archive.directory_offset, partial(_cut, partial(_directory, archive))


def _cut(make: Callable[[], Generator[bytes, None, bytes]], first: int, last: int) -> Iterator[bytes]:
    made = yield from make()
    yield made[first:last]


def _content(entry: Entry, first: int, last: int) -> Iterator[bytes]:
    with open(entry.path, "rb") as file:
        _require_same(entry, os.fstat(file.fileno()))
        file.seek(first)
        while first < last:
            data = file.read(min(PIECE_BYTES, last - first))
            if not data:
                raise Changed(f"{entry.path} became shorter while it was sent")
            first += len(data)
            yield data


def _head(entry: Entry) -> Generator[bytes, None, bytes]:
    crc = yield from _checksum(entry)
    extra = _wide(entry.size_bytes, entry.size_bytes)
    size = min(entry.size_bytes, FULL)
    numbers = (ZIP64_VERSION, UTF8, 0, *_moment(entry), crc, size, size, len(entry.name), len(extra))
    return struct.pack("<4s5H3L2H", b"PK\3\4", *numbers) + entry.name + extra


def _directory(archive: Archive) -> Generator[bytes, None, bytes]:
    records = []
    for entry in archive.entries:
        crc = yield from _checksum(entry)
        records.append(_record(entry, crc))
    return b"".join(records) + _end(archive)


def _record(entry: Entry, crc: int) -> bytes:
    extra = _wide(entry.size_bytes, entry.size_bytes, entry.offset)
    size = min(entry.size_bytes, FULL)
    numbers = (MADE_ON_UNIX, ZIP64_VERSION, UTF8, 0, *_moment(entry), crc, size, size, len(entry.name), len(extra))
    tail = (0, 0, 0, READABLE, min(entry.offset, FULL))
    return struct.pack("<4s6H3L5H2L", b"PK\1\2", *numbers, *tail) + entry.name + extra


def _record_bytes(entry: Entry) -> int:
    return len(_record(entry, 0))


def _end(archive: Archive) -> bytes:
    count, offset = len(archive.entries), archive.directory_offset
    length = sum(map(_record_bytes, archive.entries))
    wide = b""
    if count >= FULL_COUNT or offset >= FULL or length >= FULL:
        wide = struct.pack(
            "<4sQ2H2L4Q", b"PK\6\6", 44, MADE_ON_UNIX, ZIP64_VERSION, 0, 0, count, count, length, offset
        ) + struct.pack("<4sLQL", b"PK\6\7", 0, offset + length, 1)
    few = min(count, FULL_COUNT)
    return wide + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, few, few, min(length, FULL), min(offset, FULL), 0)


def _wide(*numbers: int) -> bytes:
    """The 64-bit field for those numbers that do not fit into 32 bits; empty where all do."""
    large = [number for number in numbers if number >= FULL]
    return struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""


def _moment(entry: Entry) -> tuple[int, int]:
    """Time and date as DOS wrote them: since 1980, in steps of two seconds."""
    year, month, day, hour, minute, second, *_ = time.localtime(entry.mtime_ns / 1e9)
    return hour << 11 | minute << 5 | second // 2, max(0, year - 1980) << 9 | month << 5 | day


_checksums: dict[tuple[Path, int, int], int] = {}


def _checksum(entry: Entry) -> Generator[bytes, None, int]:
    """Reads the whole file unless that was done before; yields nothing now and then, so that it can be given up."""
    key = (entry.path, entry.size_bytes, entry.mtime_ns)
    if key not in _checksums:
        crc = 0
        for piece in _content(entry, 0, entry.size_bytes):
            crc = zlib.crc32(piece, crc)
            yield b""
        _checksums[key] = crc
    return _checksums[key]


def _require_same(entry: Entry, status: os.stat_result) -> None:
    if (status.st_size, status.st_mtime_ns) != (entry.size_bytes, entry.mtime_ns):
        raise Changed(f"{entry.path} was changed while it was sent")
