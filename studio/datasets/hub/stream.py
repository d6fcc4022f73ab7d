"""A file fetched over HTTP: told byte by byte, stopped at once, taken up again where the connection broke off."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full, Queue

import httpx

from studio.datasets.pace import Asked, stop_if_asked
from studio.errors import DatasetError

POLL_S = 0.2
TIMEOUT = httpx.Timeout(30, connect=10)
ATTEMPTS = 5
PAUSE_S = 1.0


@dataclass(frozen=True)
class RemoteFile:
    """A file of a hub: its path there, its bytes, its SHA-256 where the hub tells it."""

    path: str
    bytes: int
    url: str
    sha256: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def fetched(file: RemoteFile, target: Path, cancelled: Asked | None) -> Iterator[int]:
    """Write `file` to the new `target`; yields the size of each piece as it arrives.

    Raises:
        DatasetError: the connection broke off again and again, the server refused, or what came is not the file.
        Cancelled: as asked, also while the server is silent.
    """
    done, digest = 0, hashlib.sha256()
    with open(target, "xb") as writer:
        for data in _persistently(file, cancelled):
            writer.write(data)
            digest.update(data)
            done += len(data)
            yield len(data)
    if done != file.bytes or (file.sha256 and digest.hexdigest() != file.sha256):
        raise DatasetError(f"{file.path} arrived damaged ({done:,} of {file.bytes:,} bytes): download it again")


def _persistently(file: RemoteFile, cancelled: Asked | None) -> Iterator[bytes]:
    """The content of `file`, over as many connections as it takes, but no more than ATTEMPTS without any progress."""
    done = failures = 0
    while True:
        try:
            for data in _polled(_Connection(file, done), cancelled):
                done, failures = done + len(data), 0
                yield data
        except httpx.TransportError as error:
            failures += 1
            if failures == ATTEMPTS:
                raise DatasetError(f"{file.path}: the connection broke off: {error}") from error
            _wait(PAUSE_S, cancelled)
        else:
            return


def _wait(seconds: float, cancelled: Asked | None) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stop_if_asked(cancelled)
        time.sleep(POLL_S)


class _Connection(threading.Thread):
    """Reads on its own, so that whoever waits for the next piece can be stopped meanwhile."""

    def __init__(self, file: RemoteFile, start: int) -> None:
        super().__init__(daemon=True)
        self.file, self.start_byte = file, start
        self.pieces: Queue[bytes | Exception | None] = Queue(maxsize=8)
        self.given_up = threading.Event()

    def run(self) -> None:
        try:
            for data in self._read():
                self._put(data)
            self._put(None)
        except (httpx.HTTPError, DatasetError) as error:
            self._put(error)

    def _read(self) -> Iterator[bytes]:
        # as it is: a packed answer has other sizes than the file, and cannot be taken up in its middle
        headers = {**self.file.headers, "Accept-Encoding": "identity"}
        if self.start_byte:
            headers["Range"] = f"bytes={self.start_byte}-"
        with httpx.stream("GET", self.file.url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as answer:
            if answer.status_code not in (200, 206):
                raise DatasetError(f"{self.file.path}: the server answered {answer.status_code} {answer.reason_phrase}")
            skipped = self.start_byte if answer.status_code == 200 else 0
            for data in answer.iter_bytes():
                yield data[skipped:]
                skipped = max(0, skipped - len(data))

    def _put(self, piece: bytes | Exception | None) -> None:
        while not self.given_up.is_set():
            try:
                return self.pieces.put(piece, timeout=POLL_S)
            except Full:
                continue


def _polled(connection: _Connection, cancelled: Asked | None) -> Iterator[bytes]:
    connection.start()
    try:
        while True:
            stop_if_asked(cancelled)
            try:
                piece = connection.pieces.get(timeout=POLL_S)
            except Empty:
                continue
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:
        connection.given_up.set()
