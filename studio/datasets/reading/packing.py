"""Compressed files as streams, and the limit on what they may unpack to.

A few kilobytes can unpack to terabytes. Reading stops where a file has unpacked to more than any data set has, or
to so many times its size that it can only be meant as a bomb.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from studio.errors import UploadError

PACKED = (".gz", ".zst")
UNPACKED_MAX_BYTES = 64 << 30
RATIO_MAX = 250
# repeated rows pack well: below this no ratio is suspicious
RATIO_FROM_BYTES = 256 << 20
_BUFFER_BYTES = 1 << 18
_TRIED_BUFFERS = 8
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


def is_packed(path: Path) -> bool:
    """Whether the content of `path`, whatever its name, is compressed by gzip or zstandard."""
    return _magic(path).startswith((_GZIP, _ZSTD))


def unpacked(path: Path) -> BinaryIO:
    """The content of `path`, unpacked if it is compressed.

    Raises (while reading):
        UploadError: it is damaged, or it unpacks to more than the limits.
    """
    if not is_packed(path):
        return open(path, "rb")
    return io.BufferedReader(_guarded(path), _BUFFER_BYTES)


def packed_share(path: Path) -> float:
    """About how many bytes on disk are behind each byte of content."""
    if not is_packed(path):
        return 1.0
    with _guarded(path) as stream:
        given = sum(len(stream.read(_BUFFER_BYTES)) for _ in range(_TRIED_BUFFERS))
        return stream.packed_bytes() / max(1, given)


def check_unpacked(name: str, packed_bytes: int, unpacked_bytes: int) -> None:
    """Refuse what unpacks to too much.

    Raises:
        UploadError: names the limit.
    """
    if unpacked_bytes > UNPACKED_MAX_BYTES:
        raise UploadError(f"{name} unpacks to more than {UNPACKED_MAX_BYTES >> 30} GB, the limit: split it")
    if unpacked_bytes > max(RATIO_FROM_BYTES, RATIO_MAX * packed_bytes):
        raise UploadError(
            f"{name} unpacks to more than {RATIO_MAX} times its size, the limit (a zip bomb?): "
            "if it is meant so, unpack it first"
        )


class _Guarded(io.RawIOBase):
    """What a compressed file unpacks to, counted."""

    def __init__(self, name: str, packed: Any, stream: Any) -> None:
        self._name = name
        self._packed = packed
        self._stream = stream
        self._given_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count: int = self._stream.readinto(buffer)
        except (EOFError, zlib.error, OSError) as error:
            raise UploadError(f"{self._name} is damaged or cut off and cannot be unpacked: {error}") from error
        self._given_bytes += count
        check_unpacked(self._name, self.packed_bytes(), self._given_bytes)
        return count

    def packed_bytes(self) -> int:
        """How much of the file was needed for what was given so far."""
        return int(self._packed.tell())

    def close(self) -> None:
        self._stream.close()
        self._packed.close()
        super().close()


def _guarded(path: Path) -> _Guarded:
    return _gunzipped(path) if _magic(path).startswith(_GZIP) else _unzstd(path)


def _gunzipped(path: Path) -> _Guarded:
    packed = open(path, "rb")  # noqa: SIM115 closed with the stream
    return _Guarded(path.name, packed, gzip.GzipFile(fileobj=packed))


def _unzstd(path: Path) -> _Guarded:
    # of the libraries that unpack zstandard this one notices where a file was cut off
    import pyarrow as pa

    packed = pa.OSFile(str(path))
    return _Guarded(path.name, packed, pa.CompressedInputStream(packed, "zstd"))


def _magic(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(len(_ZSTD))
