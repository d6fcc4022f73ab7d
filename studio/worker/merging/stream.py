"""The weights of a merge, written in one pass over the base's files and in the order of their bytes.

Tensors are worked on some lines at a time: a few megabytes stay in a processor's cache through reading, arithmetic and
rounding, which is seven times as fast as a large matrix at once, and memory does not depend on the largest tensor.
Several threads count; what they made is hashed and written in order. Nothing here knows what the changes are.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from studio.errors import ModelError
from studio.worker.merging import shards
from studio.worker.merging.digests import Digests
from studio.worker.merging.lane import Lane
from studio.worker.merging.ledger import Written
from studio.worker.merging.shards import Shard
from studio.worker.merging.stored import Bytes, Stored, as_bytes, as_tensor, opened
from studio.worker.merging.work import TYPES, Plan, Source, Tensor, width

PIECE_BYTES = 1_000_000
IN_WORK_BYTES = 32_000_000
FLUSH_BYTES = 64_000_000
THREADS_MAX = 8

Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Piece:
    """Some lines of a tensor: of its first dimension, whose other dimensions make `line` numbers."""

    tensor: Tensor
    rows: slice
    line: int

    @property
    def start(self) -> int:
        """Bytes of the stored tensor that come before."""
        return int(self.rows.start) * self.line * width(self.tensor.stored)

    @property
    def size(self) -> int:
        """Bytes as stored."""
        return int(self.rows.stop - self.rows.start) * self.line * width(self.tensor.stored)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rows.stop - self.rows.start, *self.tensor.shape[1:])


def write(plan: Plan, target: Path, shard_bytes: int, tell: Tell) -> Written:
    """Write the weights into files of at most `shard_bytes` (one tensor at least), and their index.

    `tell(done, total)` is called after every piece, in bytes.

    Raises:
        ModelError: a file is damaged, or a weight is too large for the type that it is to have.
    """
    paths = {source.path for tensor in plan.tensors for source in _sources(tensor)}
    with opened(paths) as stored, _crew() as crew:
        ordered = sorted(plan.tensors, key=lambda tensor: _place(stored, tensor))
        files = shards.split(ordered, shard_bytes)
        writer = _Writer(stored, crew, tell, plan)
        outputs = {shard.name: writer.write(shard, target / shard.name) for shard in files}
        inputs = writer.finish()
    shards.write_index(files, target)
    read = sum(os.path.getsize(path) for path in paths)
    return Written(inputs, outputs, read, plan.size_bytes)


@dataclass(frozen=True)
class _Crew:
    counting: ThreadPoolExecutor
    reading: Lane
    writing: Lane
    flushing: ThreadPoolExecutor


@contextmanager
def _crew() -> Iterator[_Crew]:
    """Threads that count, each of them alone, and one each to hash what is read, to hash what is written, to flush."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pools = [ThreadPoolExecutor(size) for size in (_threads(), 1, 1, 1)]
    try:
        yield _Crew(pools[0], Lane(pools[1]), Lane(pools[2]), pools[3])
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


class _Writer:
    def __init__(self, stored: Stored, crew: _Crew, tell: Tell, plan: Plan) -> None:
        self._stored = stored
        self._crew = crew
        self._tell = tell
        self._total = plan.size_bytes
        self._in_work_bytes = _in_work_bytes(plan)
        self._done = 0
        self._digests = Digests(stored)

    def write(self, shard: Shard, path: Path) -> str:
        """Write one file and return its hash."""
        digest = hashlib.sha256(shard.header)
        with open(path, "wb") as file:
            file.write(shard.header)
            flush = _Flush(file, self._crew.flushing)
            for piece, before, after in self._made(shard):
                if piece.tensor.source:
                    start = self._stored.start(piece.tensor.source) + piece.start
                    self._crew.reading.put(before.size, self._digests.add, piece.tensor.source.path, start, before)
                self._crew.writing.put(after.size, digest.update, after.data)
                file.write(after.data)
                flush.after(after.size)
                self._done += after.size
                self._tell(self._done, self._total)
            self._crew.writing.finish()
            flush.finish()
        return digest.hexdigest()

    def finish(self) -> dict[str, str]:
        """The hashes of all that was read."""
        self._crew.reading.finish()
        return self._digests.finish()

    def _made(self, shard: Shard) -> Iterator[tuple[Piece, Bytes, Bytes]]:
        """Every piece of a file in its order, with its bytes as they were and as they are to be."""
        working: deque[tuple[Piece, Future[tuple[Bytes, Bytes]]]] = deque()
        held = 0
        for piece in (piece for tensor in shard.tensors for piece in pieces(tensor)):
            while working and held + piece.size > self._in_work_bytes:
                done, future = working.popleft()
                held -= done.size
                yield done, *future.result()
            self._announce(piece)
            working.append((piece, self._crew.counting.submit(make, piece, self._stored)))
            held += piece.size
        for done, future in working:
            yield done, *future.result()

    def _announce(self, piece: Piece) -> None:
        if source := piece.tensor.source:
            self._stored.announce(source.path, self._stored.start(source) + piece.start + piece.size)


class _Flush:
    """Sends what was written to the disk while more is made, so that little is left to wait for at the end."""

    def __init__(self, file: IO[bytes], pool: ThreadPoolExecutor) -> None:
        self._file = file
        self._pool = pool
        self._unsent = 0
        self._sending: Future[None] | None = None

    def after(self, size: int) -> None:
        """`size` more bytes were written."""
        self._unsent += size
        if self._unsent > FLUSH_BYTES and (self._sending is None or self._sending.done()):
            self.finish()
            self._unsent = 0
            self._sending = self._pool.submit(os.fdatasync, self._file.fileno())

    def finish(self) -> None:
        """Raises what went wrong on the way to the disk."""
        if self._sending:
            self._sending.result()


def pieces(tensor: Tensor) -> Iterator[Piece]:
    """A tensor in parts of about PIECE_BYTES, or in one if a change needs all of it."""
    lines = tensor.shape[0] if tensor.shape else 1
    line = math.prod(tensor.shape[1:])
    whole = any(change.whole for change in tensor.changes)
    step = lines if whole else max(1, PIECE_BYTES // max(1, line * width(tensor.stored)))
    for start in range(0, lines, step or 1):
        yield Piece(tensor, slice(start, min(start + step, lines)), line)


def make(piece: Piece, stored: Stored) -> tuple[Bytes, Bytes]:
    """The bytes of a piece as they were (none where it starts as zeros) and as they are to be written."""
    tensor = piece.tensor
    before = _load(piece, stored)
    if tensor.is_copy:
        return before, before
    weight = as_tensor(before, tensor.stored).reshape(piece.shape) if tensor.source else torch.zeros(piece.shape)
    if tensor.changes:
        weight = weight.to(torch.float32, copy=True)
        for change in tensor.changes:
            weight = change.apply(weight, stored.read, piece.rows)
    return before, as_bytes(_rounded(weight, tensor))


def _load(piece: Piece, stored: Stored) -> Bytes:
    source = piece.tensor.source
    if source is None:
        return as_bytes(torch.empty(0))
    return stored.load(source.path, stored.start(source) + piece.start, piece.size)


def _rounded(weight: torch.Tensor, tensor: Tensor) -> torch.Tensor:
    rounded = weight.to(TYPES[tensor.dtype])
    if tensor.dtype == "F16" and (rounded.isinf() & weight.isfinite()).any():
        raise ModelError(f"{tensor.name} holds numbers beyond float16: set export_dtype to bfloat16 or float32")
    return rounded


def _threads() -> int:
    return min(len(os.sched_getaffinity(0)), THREADS_MAX)


def _in_work_bytes(plan: Plan) -> int:
    """Where changes need whole tensors every thread may have one, but all together no more than the largest tensor."""
    whole = [tensor.size_bytes for tensor in plan.tensors if any(change.whole for change in tensor.changes)]
    largest = max(tensor.size_bytes for tensor in plan.tensors)
    return max(IN_WORK_BYTES, min(_threads() * max(whole, default=0), largest))


def _sources(tensor: Tensor) -> Sequence[Source]:
    own = [tensor.source] if tensor.source else []
    return [*own, *(source for change in tensor.changes for source in change.sources)]


def _place(stored: Stored, tensor: Tensor) -> tuple[str, int]:
    """Where a tensor is read: a disk is fastest, and the hash of a file possible, from front to back."""
    return (str(tensor.source.path), stored.start(tensor.source)) if tensor.source else ("", 0)
