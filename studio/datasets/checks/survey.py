"""The whole of a file, row by row, before anything is trained on it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from studio.datasets.checks.codes import CODES
from studio.datasets.checks.finding import Finding
from studio.datasets.checks.near_duplicates import near_rows
from studio.datasets.checks.report import Report
from studio.datasets.checks.tally import Tally, repetition
from studio.datasets.checks.walk import walk
from studio.datasets.detect import SURE, Proposal, propose_for
from studio.datasets.entry import Entry
from studio.datasets.index import Index, Surveyor
from studio.datasets.pace import Asked, Progress, in_turns
from studio.datasets.reading import Extent, unpacked_bytes
from studio.errors import RowError, UploadError


def check(path: Path, entry: Entry | None = None) -> Report:
    """Check `path` as `entry` reads it, or as it is detected.

    Raises:
        UploadError: it cannot be read at all, or nobody can tell what its columns mean.
    """
    return survey(path, entry or detected(path).entry(path.stem, path.name))[0]


def detected(path: Path) -> Proposal:
    """The proposal for a file, where it is a sure one.

    Raises:
        UploadError: it is not, or the file cannot be read.
    """
    try:
        proposal = propose_for(path)
    except RowError as error:
        raise UploadError(f"{path.name}: {error}") from error
    if proposal.confidence < SURE:
        raise UploadError(f"{path.name}: not sure what its columns mean. {proposal.reason}. Say which column is which")
    return proposal


def survey(
    path: Path,
    entry: Entry,
    *,
    near_duplicates: bool = False,
    threshold: float = 0.85,
    head_bytes: int | None = None,
    max_bytes: int | None = None,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> tuple[Report, Index]:
    """Check `path`, and index it in the same pass.

    `near_duplicates` adds a second pass, for rows that share at least `threshold` of their pieces of text with an
    earlier row. `head_bytes` ends the check at the first row after so many bytes on disk. `max_bytes` bounds what a
    compressed file may unpack to. `progress` is told (done, total) bytes on disk, at most five times a second.

    Raises:
        UploadError: it cannot be read at all, or it unpacks to more than that.
        Cancelled: `cancelled` said so.
    """
    started = time.monotonic()
    turns = list(in_turns(progress, 1 + near_duplicates))
    _refuse_bomb(path, max_bytes)
    tally, surveyor, extent = Tally(entry), Surveyor(), Extent(path)
    for mark, record, found in walk(path, entry, turns[0], cancelled):
        if head_bytes is not None and extent.done(mark) > head_bytes:
            break
        surveyor.see(mark)
        tally.see(mark.row, record, found)
        if max_bytes is not None and mark.offset > max_bytes:
            raise _unpacks_to_more(path, max_bytes)
    findings = tally.findings()
    if near_duplicates:
        findings |= _near_duplicates(path, entry, threshold, tally, turns[1], cancelled)
    report = Report(
        rows=tally.rows,
        usable=tally.rows - tally.faulty,
        bytes=extent.total,
        shape=tally.shape,
        ignored=tally.ignored,
        findings=tuple(findings[code] for code in CODES if code in findings),
        seconds=time.monotonic() - started,
        near_duplicate_threshold=threshold if near_duplicates else None,
    )
    return report, surveyor.index()


def _near_duplicates(
    path: Path, entry: Entry, threshold: float, tally: Tally, progress: Progress | None, cancelled: Asked | None
) -> dict[str, Finding]:
    rows, origins = near_rows(path, entry, threshold, progress, cancelled)
    # what repeats a row exactly has a finding of its own
    near = ~np.isin(rows, tally.repeating)
    finding = repetition("near_duplicates", rows[near], origins[near])
    return {finding.code: finding} if finding.count else {}


def _refuse_bomb(path: Path, max_bytes: int | None) -> None:
    """Refuse what says of itself that it unpacks to more; what does not say is counted while it is read."""
    if max_bytes is not None and (unpacked_bytes(path) or 0) > max_bytes:
        raise _unpacks_to_more(path, max_bytes)


def _unpacks_to_more(path: Path, max_bytes: int) -> UploadError:
    return UploadError(f"{path.name} unpacks to more than {max_bytes / 1e9:.1f} GB")
