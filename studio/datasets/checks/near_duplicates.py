"""Rows nearly the same as an earlier row: most of their pieces of 16 bytes are common (MinHash, by rensa).

A sketch of so many small numbers stands for a row: two rows agree in about as many of them as their pieces are alike.
Rows that agree in a whole band of their sketches are candidates, and the whole sketches decide. In memory are about
100 bytes a row; sketches wait in a temporary file, 192 bytes a row.
"""

from __future__ import annotations

import math
import mmap
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from studio.datasets.checks.duplicates import Places, runs
from studio.datasets.checks.walk import walk
from studio.datasets.entry import Entry
from studio.datasets.loading import Fault
from studio.datasets.pace import Asked, Progress, stop_if_asked
from studio.errors import UploadError

WIDTH = 192
BANDS = 12
MISSED = 0.01  # of the pairs exactly as alike as the threshold
BAND_MAX = WIDTH // BANDS
BATCH_ROWS = 64
BATCH_BYTES = 1 << 20
PAIRS_AT_ONCE = 2000
PIECE_BYTES = 16
_SEED = 42
_FACTOR = 0x9E3779B97F4A7C15


def near_rows(
    path: Path, entry: Entry, threshold: float, progress: Progress | None = None, cancelled: Asked | None = None
) -> tuple[Places, Places]:
    """The numbers of rows that are at least so much alike to an earlier one, in order, and for each such a one.

    A row is compared with the first and the last of those that share a band with it, not with all of them.

    Raises:
        UploadError: the file cannot be read, or there is no room for the sketches.
        Cancelled: `cancelled` said so.
    """
    banded = BANDS * _band_width(threshold)
    numbers, bands = array("q"), [array("I") for _ in range(BANDS)]
    try:
        with tempfile.TemporaryFile() as file:
            for rows, texts in _batches(path, entry, progress, cancelled):
                numbers.extend(rows)
                sketches = _sketches(texts)
                file.write(sketches.astype(np.uint8).tobytes())  # one byte of each number is enough to compare
                _note(sketches[:, :banded], bands)
            file.flush()
            nearest = _nearest(bands, file, len(numbers), threshold, cancelled)
    except OSError as error:
        raise UploadError(f"{path.name}: no room to look for near-duplicates: {error.strerror or error}") from error
    later = np.flatnonzero(nearest < np.arange(len(numbers)))
    rows_at = np.frombuffer(numbers, np.int64)
    return rows_at[later], rows_at[nearest[later]]


def _band_width(threshold: float) -> int:
    """Numbers in a band, so that pairs at the threshold agree in one of the bands almost always."""
    chance = 1 - MISSED ** (1 / BANDS)
    return BAND_MAX if threshold >= 1 else max(1, min(BAND_MAX, int(math.log(chance) / math.log(threshold))))


def _batches(
    path: Path, entry: Entry, progress: Progress | None, cancelled: Asked | None
) -> Iterator[tuple[list[int], list[bytes]]]:
    """Some usable rows at a time: their numbers and texts."""
    rows: list[int] = []
    texts: list[bytes] = []
    for mark, _, said in walk(path, entry, progress, cancelled):
        if isinstance(said, Fault):
            continue
        rows.append(mark.row)
        texts.append("\n".join(said[1]).lower().encode("utf-8", "surrogatepass")[:BATCH_BYTES])
        if len(rows) == BATCH_ROWS or sum(map(len, texts)) > BATCH_BYTES:
            yield rows, texts
            rows, texts = [], []
    if rows:
        yield rows, texts


def _sketches(texts: Sequence[bytes]) -> npt.NDArray[np.uint32]:
    """One row of WIDTH numbers for each text."""
    from rensa import RMinHash

    between = bytes(PIECE_BYTES)  # so that no piece reaches into the next text
    hashes = _piece_hashes(np.frombuffer(between.join([*texts, b""]), np.uint8))
    ends = np.cumsum([len(text) + PIECE_BYTES for text in texts]) - PIECE_BYTES
    pieces = [hashes[end - len(text) : end] for end, text in zip(ends, texts, strict=True)]
    offsets = np.cumsum([0, *map(len, pieces)]).astype(np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(pieces), offsets, WIDTH, _SEED)
    return np.array(matrix.to_rows(), np.uint32)


def _piece_hashes(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """The hash of the piece that begins at each byte: pieces of 2, 4, 8 and 16 bytes from those half as long."""
    hashes = data.astype(np.uint64) + np.uint64(1)
    factor, length = _FACTOR, 1
    while length < PIECE_BYTES:
        hashes = hashes[:-length] * np.uint64(factor) + hashes[length:]
        factor, length = factor * factor % 2**64, 2 * length
    return (hashes ^ hashes >> np.uint64(32)) * np.uint64(_FACTOR)


def _note(sketches: npt.NDArray[np.uint32], bands: list[array[int]]) -> None:
    """Keep one hash a band."""
    for place, part in enumerate(np.split(sketches, BANDS, axis=1)):
        mixed = np.zeros(len(sketches), np.uint64)
        for column in part.T:
            mixed = (mixed ^ column) * np.uint64(_FACTOR)
        bands[place].frombytes((mixed >> np.uint64(32)).astype(np.uint32).tobytes())


def _nearest(bands: list[array[int]], file: BinaryIO, rows: int, threshold: float, cancelled: Asked | None) -> Places:
    """For each place the first one found that is alike, or itself."""
    nearest = np.arange(rows)
    if rows:
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        sketches = np.frombuffer(held, np.uint8).reshape(rows, WIDTH)
        for band in bands:
            stop_if_asked(cancelled)
            order, later, starts = runs(np.frombuffer(band, np.uint32))
            for origins in (starts, later - 1):
                for one, other in _alike(order[later], order[origins], sketches, threshold):
                    np.minimum.at(nearest, one, other)
                    held.madvise(mmap.MADV_DONTNEED)  # else all of the file gathers in memory
    return nearest


def _alike(
    ones: Places, others: Places, sketches: npt.NDArray[np.uint8], threshold: float
) -> Iterator[tuple[Places, Places]]:
    """The pairs whose sketches agree in enough numbers, allowing for those that agree by chance."""
    needed = threshold + (1 - threshold) / 256
    for start in range(0, len(ones), PAIRS_AT_ONCE):
        one, other = ones[start : start + PAIRS_AT_ONCE], others[start : start + PAIRS_AT_ONCE]
        agree = (sketches[one] == sketches[other]).mean(axis=1) >= needed
        yield one[agree], other[agree]
