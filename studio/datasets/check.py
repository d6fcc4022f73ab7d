"""The whole of a file, row by row, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from studio.datasets.detect import SURE, Proposal, propose_for
from studio.datasets.entry import Entry
from studio.datasets.index import Index, Surveyor
from studio.datasets.loading import Fault, Scanned, scan
from studio.errors import RowError, UploadError

LISTED_FAULTS = 20
PROGRESS_ROWS = 5000


@dataclass(frozen=True)
class Report:
    """What a pass over a file found. `faults` are the first ones, `fault_count` is all of them.

    `ignored` are columns that the entry does not use. `fatal` is a sentence where the file must not be used as it
    is, else empty; faulty rows alone are left out of training and are no reason to refuse the rest.
    """

    rows: int
    usable: int
    shape: str
    faults: tuple[Fault, ...]
    fault_count: int
    ignored: tuple[str, ...]
    fatal: str

    def summary(self) -> str:
        """One or more lines for a person."""
        left_out = f", {self.fault_count} left out" if self.fault_count and not self.fatal else ""
        lines = [self.fatal] if self.fatal else [f"{self.rows} rows, {self.usable} usable{left_out}"]
        lines += [f"row {fault.row}: {fault.what}" for fault in self.faults if fault.what not in self.fatal]
        if self.fault_count > len(self.faults):
            lines.append(f"… and {self.fault_count - len(self.faults)} more rows")
        if self.ignored:
            lines.append(f"not used: {', '.join(self.ignored)}")
        return "\n".join(lines)


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
    path: Path, entry: Entry, max_bytes: int | None = None, progress: Callable[[int], None] | None = None
) -> tuple[Report, Index]:
    """Check `path`, and index it in the same pass.

    `max_bytes` bounds what a compressed file may unpack to; `progress` is told the rows checked so far, now and then.

    Raises:
        UploadError: it cannot be read at all, or it unpacks to more than that.
    """
    tally = _Tally()
    for scanned in scan(path, entry):
        tally.see(scanned)
        if max_bytes is not None and scanned.mark.offset > max_bytes:
            raise UploadError(f"{path.name} unpacks to more than {max_bytes / 1e9:.1f} GB")
        if progress is not None and scanned.mark.row % PROGRESS_ROWS == 0:
            progress(scanned.mark.row)
    return tally.report(entry), tally.surveyor.index()


@dataclass
class _Tally:
    """What has been seen of a file so far."""

    surveyor: Surveyor = field(default_factory=Surveyor)
    faults: list[Fault] = field(default_factory=list)
    fault_count: int = 0
    unreadable: Fault | None = None
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
        self.fault_count += 1
        if len(self.faults) < LISTED_FAULTS:
            self.faults.append(fault)
        if fault.fatal and self.unreadable is None:
            self.unreadable = fault

    def report(self, entry: Entry) -> Report:
        rows = self.surveyor.rows
        used = set(entry.columns.values())
        ignored = tuple(name for name in self.fields if name not in used)
        usable = rows - self.fault_count
        return Report(rows, usable, self.shape, tuple(self.faults), self.fault_count, ignored, self._fatal(usable))

    def _fatal(self, usable: int) -> str:
        if self.unreadable:
            return f"row {self.unreadable.row} cannot be read: {self.unreadable.what}"
        if not self.surveyor.rows:
            return "the file has no rows"
        return "" if usable else "no row can be used"
