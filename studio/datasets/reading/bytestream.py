"""A data file as a stream of UTF-8 bytes, whatever it is on disk: plain, gzipped, with a byte order mark, UTF-16.

Offsets count bytes of that stream. What is not text is refused with its likely nature.
"""

from __future__ import annotations

import codecs
import gzip
import io
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from studio.errors import RowError, UploadError

ROW_MAX_BYTES = 16 << 20
HEAD_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20
_SIGNATURES = {
    b"PAR1": "parquet data (name it .parquet)",
    b"PK\x03\x04": "a zip archive or an Office document (save the sheet as CSV)",
    b"\xd0\xcf\x11\xe0": "an old Office document (save the sheet as CSV)",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"SQLite format 3": "an SQLite database",
    b"\x28\xb5\x2f\xfd": "zstandard-compressed (unpack it first)",
    b"BZh": "bzip2-compressed (unpack it first)",
    b"\xfd7zXZ": "xz-compressed (unpack it first)",
    b"ARROW1": "arrow data (save it as parquet)",
    b"\x80\x04\x95": "a Python pickle, which is never opened here",
}
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class Mark(NamedTuple):
    """Where a row begins: its number (from 1), the bytes before it, its line (from 1). Reading can start there."""

    row: int
    offset: int
    line: int


BEGIN = Mark(1, 0, 1)


def open_text(path: Path, offset: int = 0) -> BinaryIO:
    """The content of `path` as UTF-8 bytes from `offset` on, without a byte order mark.

    Raises:
        UploadError: the file is not text.
    """
    stream = _unpacked(path)
    try:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        return _positioned(stream, head, path, offset)
    except BaseException:
        stream.close()
        raise


def decode(data: bytes, mark: Mark) -> str:
    """`data` as text.

    Raises:
        UploadError: it is not UTF-8; names the row and line of `mark`.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} in row {mark.row} (line {mark.line})"
        raise UploadError(
            f"the file is not UTF-8 ({found}): save it as UTF-8 (it may be GBK or Latin-1 now)"
        ) from error


def too_long(mark: Mark) -> RowError:
    """The error for a row that no model could be trained on and that would fill the memory."""
    return RowError(mark.row, f"(line {mark.line}) is longer than {ROW_MAX_BYTES >> 20} MB: split it")


def _unpacked(path: Path) -> BinaryIO:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else open(path, "rb")


def _positioned(stream: BinaryIO, head: bytes, path: Path, offset: int) -> BinaryIO:
    if head.startswith(_UTF32):
        raise UploadError(f"{path.name} is UTF-32: save it as UTF-8")
    for mark, encoding in _UTF16.items():
        if head.startswith(mark):
            stream.seek(len(mark))
            return _at(cast(BinaryIO, io.BufferedReader(_Recoder(stream, encoding), _CHUNK_BYTES)), offset)
    _refuse_binary(head, path.name)
    bom = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
    stream.seek(bom + offset)
    return stream


def _refuse_binary(head: bytes, name: str) -> None:
    for signature, nature in _SIGNATURES.items():
        if head.startswith(signature):
            raise UploadError(f"{name} is not text: it is {nature}")
    if b"\0" in head:
        where = head.index(b"\0")
        raise UploadError(f"{name} is not text: byte {where} is zero (UTF-16 without its mark? save it as UTF-8)")


def _at(stream: BinaryIO, offset: int) -> BinaryIO:
    while offset > 0:
        data = stream.read(min(offset, _CHUNK_BYTES))
        if not data:
            break
        offset -= len(data)
    return stream


class _Recoder(io.RawIOBase):
    """UTF-16 read as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._ready:
            data = self._stream.read(_CHUNK_BYTES)
            self._ready = self._decoder.decode(data, final=not data).encode()
            if not data:
                break
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()
