"""Whose turn it is. A waiting run has its nanny already; it starts its worker when nothing is ahead of it.

Standard library only: the nanny imports this.
"""

from __future__ import annotations

import time
from pathlib import Path

from studio.files import read_json
from studio.runs.process import Identity, is_alive

STARTING_S = 10.0
NEVER_NS = 2**63


def ahead(run: Path) -> list[Path]:
    """Runs that were claimed before `run`, took part in the queue or hold the devices, and have not ended."""
    return [other for other in sorted(run.parent.iterdir()) if _is_before(other, run) and holds_devices(other)]


def holds_devices(run: Path) -> bool:
    """Whether a run is one that trains (DEVICES marks it) and its nanny or worker lives."""
    if not (run / "DEVICES").exists() or (run / "exit.json").exists():
        return False
    if not (run / "nanny.json").exists():
        return is_starting(run)
    status = read_json(run / "status.json") or {}
    names = ("nanny.json", "worker.json")
    return any(is_alive(Identity.from_json(read_json(run / name)), status.get("at")) for name in names)


def is_starting(run: Path) -> bool:
    """Whether a run was claimed a moment ago, so that its nanny may not have said so yet."""
    return abs(time.time() - _claimed_ns(run) / 1e9) < STARTING_S


def _is_before(other: Path, run: Path) -> bool:
    """By the time of the claim: ids sort by creation, but a run may be created early and started late."""
    if other.name.startswith(".") or other == run:
        return False
    return _claimed_ns(other) < _claimed_ns(run)


def _claimed_ns(run: Path) -> int:
    try:
        return (run / "CLAIM").stat().st_mtime_ns
    except FileNotFoundError:
        return NEVER_NS
