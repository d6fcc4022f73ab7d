"""The whole of a file, row by row, before anything is trained on it."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from studio.datasets.checks.codes import CODES
from studio.datasets.checks.finding import Sightings, describe
from studio.datasets.checks.report import Report
from studio.datasets.detect import SURE, Proposal, propose_for
from studio.datasets.entry import Entry
from studio.datasets.index import Index, Surveyor
from studio.datasets.loading import Fault, Scanned, scan
from studio.datasets.pace import TOLD_S, Asked, Progress
from studio.datasets.pace import check as asked_to_stop
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
    max_bytes: int | None = None,
    progress: Progress | None = None,
    cancelled: Asked | None = None,
) -> tuple[Report, Index]:
    """Check `path`, and index it in the same pass.

    `near_duplicates` adds a second pass, for rows that share at least `threshold` of their pieces of text with an
    earlier row. `max_bytes` bounds what a compressed file may unpack to. `progress` is told (done, total) bytes, at
    most five times a second.

    Raises:
        UploadError: it cannot be read at all, or it unpacks to more than that.
        Cancelled: `cancelled` said so.
    """
    started = time.monotonic()
    tally, size = _Tally(), path.stat().st_size
    pace = _Pace(path.name, size, max_bytes, progress, cancelled)
    for scanned in scan(path, entry):
        tally.see(scanned)
        pace.at(scanned.mark.offset)
    return tally.report(entry, size, time.monotonic() - started), tally.surveyor.index()


@dataclass
class _Pace:
    """Tells how far the check is, and ends it where it must not go on."""

    name: str
    size: int
    max_bytes: int | None
    progress: Progress | None
    cancelled: Asked | None
    told: float = field(default_factory=time.monotonic)

    def at(self, offset: int) -> None:
        if self.max_bytes is not None and offset > self.max_bytes:
            raise UploadError(f"{self.name} unpacks to more than {self.max_bytes / 1e9:.1f} GB")
        if time.monotonic() < self.told + TOLD_S:
            return
        self.told = time.monotonic()
        asked_to_stop(self.cancelled)
        if self.progress is not None:
            self.progress(min(offset, self.size), self.size)


@dataclass
class _Tally:
    """What has been seen of a file so far."""

    surveyor: Surveyor = field(default_factory=Surveyor)
    sightings: defaultdict[str, Sightings] = field(default_factory=lambda: defaultdict(Sightings))
    faulty: int = 0
    shape: str = ""
    fields: dict[str, None] = field(default_factory=dict)

    def see(self, scanned: Scanned) -> None:
        self.surveyor.see(scanned.mark)
        self.fields.update(dict.fromkeys(scanned.record or ()))
        if isinstance(scanned.value, Fault):
            self._see_fault(scanned.value)
        elif not self.shape:
            self.shape = type(scanned.value).__name__.lower()

    def _see_fault(self, fault: Fault) -> None:
        self.faulty += 1
        cannot = " cannot be read" if fault.fatal else ""
        self.sightings[fault.code].see(fault.row, f"row {fault.row}{cannot}: {fault.what}")

    def report(self, entry: Entry, size: int, seconds: float) -> Report:
        rows = self.surveyor.rows
        used = set(entry.columns.values())
        ignored = tuple(name for name in self.fields if name not in used)
        findings = {code: seen.finding(code) for code, seen in self.sightings.items()}
        if not rows:
            findings["no_rows"] = describe("no_rows", 1)
        elif self.faulty == rows:
            findings["nothing_usable"] = describe("nothing_usable", rows)
        if ignored:
            findings["unused_columns"] = describe("unused_columns", len(ignored), (), (", ".join(ignored),))
        ordered = tuple(findings[code] for code in CODES if code in findings)
        return Report(rows, rows - self.faulty, size, self.shape, ignored, ordered, seconds, False)
