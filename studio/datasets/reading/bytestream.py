"""A data file as a stream of UTF-8 bytes, whatever it is on disk: plain, compressed, with a byte order mark, UTF-16.

Offsets count bytes of that stream. What is not text is refused with its likely nature.
"""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import BinaryIO, cast

from studio.datasets.reading.packing import is_packed, unpacked
from studio.errors import UploadError

HEAD_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20
_SIGNATURES = {
    b"PAR1": "parquet data (name it .parquet)",
    b"ARROW1": "arrow data (name it .arrow)",
    b"PK\x03\x04": "a zip archive or an Office document (a sheet is read if it is named .xlsx; unpack an archive)",
    b"\xd0\xcf\x11\xe0": "an old Office document (save the sheet as .xlsx or CSV)",
    b"\x1f\x8b": "compressed twice, the second time by gzip (unpack it once)",
    b"\x28\xb5\x2f\xfd": "compressed twice, the second time by zstandard (unpack it once)",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"SQLite format 3": "an SQLite database",
    b"BZh": "bzip2-compressed (unpack it first)",
    b"\xfd7zXZ": "xz-compressed (unpack it first)",
    b"\x80\x04\x95": "a Python pickle, which is never opened here",
}
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def open_text(path: Path, offset: int = 0) -> BinaryIO:
    """The content of `path` as UTF-8 bytes from `offset` on, without a byte order mark.

    Raises:
        UploadError: the file is not text.
    """
    with unpacked(path) as stream:
        head = stream.read(HEAD_BYTES)
    _refuse_binary(head, path.name)
    bom = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
    encoding = _UTF16.get(head[:2])
    stream = unpacked(path)
    if encoding:
        stream = _buffered(_Recoder(stream, encoding))
    try:
        stream = _at(stream, bom + offset)
    except BaseException:
        stream.close()
        raise
    # an old Macintosh ended its lines so; offsets stay as they are
    return _buffered(_Newlines(stream)) if b"\r" in head and b"\n" not in head else stream


def is_plain(path: Path) -> bool:
    """Whether `path` is on disk as it is read, so that any offset is as near as the first."""
    with open(path, "rb") as file:
        return file.read(2) not in _UTF16 and not is_packed(path)


def _refuse_binary(head: bytes, name: str) -> None:
    if head.startswith(_UTF32):
        raise UploadError(f"{name} is UTF-32: save it as UTF-8")
    if head.startswith(tuple(_UTF16)):
        return
    for signature, nature in _SIGNATURES.items():
        if head.startswith(signature):
            raise UploadError(f"{name} is not text: it is {nature}")
    if b"\0" in head:
        where = head.index(b"\0")
        raise UploadError(f"{name} is not text: byte {where} is zero (UTF-16 without its mark? save it as UTF-8)")


def _at(stream: BinaryIO, offset: int) -> BinaryIO:
    if stream.seekable():
        stream.seek(offset)
        return stream
    while offset > 0 and (data := stream.read(min(offset, _CHUNK_BYTES))):
        offset -= len(data)
    return stream


def _buffered(raw: io.RawIOBase) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(raw, _CHUNK_BYTES))


class _Newlines(io.RawIOBase):
    """Line ends of CR alone read as LF."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Recoder(io.RawIOBase):
    """UTF-16 read as UTF-8."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        stream.read(len(codecs.BOM_UTF16))
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
