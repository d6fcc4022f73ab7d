"""Whose turn it is. A waiting run has its nanny already; it starts its worker when nothing is ahead of it.

Standard library and psutil only: the nanny imports this.
"""

from __future__ import annotations

import time
from pathlib import Path

from studio.runs import process

STARTING_S = 10.0
NEVER_NS = 2**63


def ahead(run: Path) -> list[Path]:
    """Runs that were claimed before `run`, took part in the queue or hold the devices, and have not ended."""
    return [other for other in sorted(run.parent.iterdir()) if _is_before(other, run) and holds_devices(other)]


def holds_devices(run: Path) -> bool:
    """Whether a run is one that trains (DEVICES marks it) and its nanny or worker lives."""
    return (run / "DEVICES").exists() and not (run / "exit.json").exists() and is_attended(run)


def is_attended(run: Path) -> bool:
    """Whether somebody looks after a run: its nanny or worker lives, or the nanny is about to say so, or a job of SLURM
    goes on that nobody here watches any more."""
    if not (run / "nanny.json").exists():
        return abs(time.time() - _claimed_ns(run) / 1e9) < STARTING_S
    return process.lives(run, "nanny") or process.lives(run, "worker") or _is_job(run)


def _is_job(run: Path) -> bool:
    return (run / "slurm.json").exists() and process.has_heartbeat(run)


def _is_before(other: Path, run: Path) -> bool:
    """By the time of the claim, because a run may be created early and started late; the clock of a file system
    ticks every few milliseconds, so that two claims may need their names to tell them apart."""
    if other.name.startswith(".") or other == run:
        return False
    return (_claimed_ns(other), other.name) < (_claimed_ns(run), run.name)


def _claimed_ns(run: Path) -> int:
    try:
        return (run / "CLAIM").stat().st_mtime_ns
    except OSError:
        return NEVER_NS
