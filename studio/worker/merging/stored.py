"""Tensors as they are stored: safetensors files opened once and read at known places, by any number of threads."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from studio import models
from studio.errors import ModelError
from studio.worker.merging.work import TYPES, Source

Bytes = npt.NDArray[np.uint8]
KEPT_TENSORS = 32  # the parts of the adapters that the tensors in work need, read once for all their lines
AHEAD_BYTES = 64_000_000  # the disk reads on while the processors count
NUMBERS = {
    **TYPES,
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
    **{"BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
}


class Stored:
    """Open safetensors files with their headers, by path."""

    def __init__(self, headers: dict[Path, dict[str, Any]], descriptors: dict[Path, int]) -> None:
        self.descriptors = descriptors
        self._headers = headers
        self._data = {path: 8 + struct.unpack("<Q", os.pread(file, 8, 0))[0] for path, file in descriptors.items()}
        self._asked = dict.fromkeys(descriptors, 0)
        self.read = lru_cache(maxsize=KEPT_TENSORS)(self._read)

    def start(self, source: Source) -> int:
        """Where in its file a tensor begins.

        Raises:
            ModelError: the file has no such tensor.
        """
        header = self._headers[source.path].get(source.name)
        if header is None:
            raise ModelError(f"{source.path} lacks {source.name}: copy the whole model again")
        return int(self._data[source.path] + header["data_offsets"][0])

    def load(self, path: Path, start: int, size: int) -> Bytes:
        """`size` bytes of a file.

        Raises:
            ModelError: it has become shorter since its header was read.
        """
        data: Bytes = np.empty(size, np.uint8)
        done = 0
        while done < size:
            count = os.preadv(self.descriptors[path], [data[done:].data], start + done)
            if not count:
                raise ModelError(f"{path} was cut short while it was read: is something else writing to it?")
            done += count
        return data

    def announce(self, path: Path, end: int) -> None:
        """All up to `end` is about to be read, and more will be."""
        asked = self._asked[path]
        if asked < end + AHEAD_BYTES // 2:
            self._asked[path] = end + AHEAD_BYTES
            os.posix_fadvise(self.descriptors[path], asked, end + AHEAD_BYTES - asked, os.POSIX_FADV_WILLNEED)

    def _read(self, source: Source) -> torch.Tensor:
        """A whole tensor: to be used, not to be changed."""
        start = self.start(source)
        header = self._headers[source.path][source.name]
        first, end = header["data_offsets"]
        return as_tensor(self.load(source.path, start, end - first), header["dtype"]).reshape(header["shape"])


@contextmanager
def opened(paths: set[Path]) -> Iterator[Stored]:
    """The files of `paths`, open until they are no longer needed.

    Raises:
        ModelError: one is missing or damaged.
    """
    headers = {path: models.read_header(path) for path in sorted(paths)}
    with ExitStack() as stack:
        yield Stored(headers, {path: stack.enter_context(open(path, "rb")).fileno() for path in headers})


def as_tensor(data: Bytes, dtype: str) -> torch.Tensor:
    """Stored bytes as numbers, without a copy."""
    return torch.from_numpy(data).view(NUMBERS[dtype])


def as_bytes(tensor: torch.Tensor) -> Bytes:
    """Numbers as bytes to store; a copy only where they do not lie one after another."""
    data: Bytes = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return data
