"""What a check found in a whole file, as a value, as JSON, and kept for later."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studio.datasets.cache import fingerprint
from studio.datasets.checks.codes import CODES
from studio.datasets.checks.finding import Finding, describe
from studio.datasets.entry import Entry, dump
from studio.files import write_text

SHOWN_ROWS = 5


@dataclass(frozen=True)
class Report:
    """What a pass over a file found. `findings` are in the order of CODES, so the gravest come first.

    `rows` in the file, `usable` of them; `bytes` on disk; `shape` is the kind of the first usable row (conversation,
    text, preference, feedback, or empty); `ignored` are columns that the entry does not use. Near-duplicates are rows
    alike by at least `near_duplicate_threshold` (0..1); None where they were not searched.
    """

    rows: int
    usable: int
    bytes: int
    shape: str
    ignored: tuple[str, ...]
    findings: tuple[Finding, ...]
    seconds: float
    near_duplicate_threshold: float | None

    @property
    def left_out(self) -> int:
        """Rows that a training leaves out."""
        return self.rows - self.usable

    @property
    def fatal(self) -> str:
        """One sentence where the file must not be trained on as it is, else empty."""
        return next((_sentence(finding) for finding in self.findings if finding.severity == "fatal"), "")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What a person should have seen before a run starts."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    @property
    def counts(self) -> str:
        """How many rows there are, and how many of them a training takes."""
        left_out = f", {self.left_out:,} left out" if self.left_out else ""
        return f"{self.rows:,} rows, {self.usable:,} usable{left_out}"

    def summary(self) -> str:
        """One or more lines for a person."""
        lines = [self.fatal or self.counts]
        for finding in self.findings:
            lines.append(_line(finding))
            lines += [f"  {example}" for example in finding.examples[:SHOWN_ROWS] if example not in self.fatal]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report as plain values, `fatal` among them."""
        return {**asdict(self), "fatal": self.fatal}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Report:
        """The report that `to_json` made.

        Raises:
            KeyError, TypeError, ValueError: it did not.
        """
        findings = tuple(_finding(each) for each in stored["findings"])
        alone = ("rows", "usable", "bytes", "shape", "seconds", "near_duplicate_threshold")
        rest = {key: stored[key] for key in alone}
        return cls(ignored=tuple(stored["ignored"]), findings=findings, **rest)


def stored(path: Path, entry: Entry, cache_dir: Path) -> Report | None:
    """The report of an earlier check of this very file, read in this very way."""
    try:
        return Report.from_json(json.loads(_place(path, entry, cache_dir).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def keep(path: Path, entry: Entry, report: Report, cache_dir: Path) -> None:
    """Keep `report` for `stored`, if the folder can be written to and the disk has room: it is only a cache."""
    with suppress(OSError):
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_text(_place(path, entry, cache_dir), json.dumps(report.to_json(), ensure_ascii=False))


def _place(path: Path, entry: Entry, cache_dir: Path) -> Path:
    reading = {key: value for key, value in dump(entry).items() if key in ("columns", "tags", "formatting", "ranking")}
    # codes belong to the key: a newer version that looks for more must not show what an older one found
    identity = json.dumps([reading, sorted(CODES)], sort_keys=True)
    return cache_dir / f"check-{fingerprint(path)}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.json"


def _finding(stored: dict[str, Any]) -> Finding:
    return describe(stored["code"], int(stored["count"]), tuple(stored["rows"]), tuple(stored["examples"]))


def _sentence(finding: Finding) -> str:
    return finding.examples[0] if finding.examples else finding.title[0].lower() + finding.title[1:]


def _line(finding: Finding) -> str:
    rows = ", ".join(map(str, finding.rows[:SHOWN_ROWS]))
    more = ", …" if finding.count > SHOWN_ROWS else ""
    where = f" (row{'s' if finding.count > 1 else ''} {rows}{more})" if rows else ""
    return f"{finding.severity}: {finding.title}: {finding.count:,}{where}. {finding.advice}"
