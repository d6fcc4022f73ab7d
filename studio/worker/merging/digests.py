"""SHA-256 of whole files, computed from their parts as these pass by."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from studio.worker.merging.stored import Bytes, Stored

PART_BYTES = 4_000_000


class Digests:
    """The hashes of all files of `stored`. Parts come in the order of a file; what does not come is read."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._hashes = {path: hashlib.sha256() for path in stored.descriptors}
        self._done = dict.fromkeys(stored.descriptors, 0)

    def add(self, path: Path, start: int, data: Bytes) -> None:
        """A part of a file, that begins at byte `start`. One that came before, as a tied weight does, is left out."""
        self._read_to(path, start)
        if self._done[path] == start:
            self._hashes[path].update(data.data)
            self._done[path] += data.size

    def finish(self) -> dict[str, str]:
        """Path -> hash in hexadecimal digits."""
        for path, descriptor in self._stored.descriptors.items():
            self._read_to(path, os.fstat(descriptor).st_size)
        return {str(path): each.hexdigest() for path, each in self._hashes.items()}

    def _read_to(self, path: Path, end: int) -> None:
        while (done := self._done[path]) < end:
            data = self._stored.load(path, done, min(PART_BYTES, end - done))
            self._hashes[path].update(data.data)
            self._done[path] += data.size
