"""What a run says of itself while it waits for machines, before there is a process that trains."""

from __future__ import annotations

import time
from pathlib import Path

from studio.files import read_record, write_json

QUEUED = "queued"  # the phase of a job that SLURM has not begun


def tell(run_dir: Path, phase: str, message: str) -> None:
    """The status of a run that has not begun, in the form in which its worker goes on with it; also a heartbeat."""
    status = {"phase": phase, "step": 0, "total_steps": 0, "message": message, "eta_s": None, "at": time.time()}
    write_json(run_dir / "status.json", status)


def phase(run_dir: Path) -> str:
    """The phase in the status of a run; empty where there is none."""
    return str(read_record(run_dir / "status.json").get("phase", ""))


def is_asked_to_stop(run_dir: Path) -> bool:
    """Whether a person has asked for its end."""
    return (run_dir / "STOP").exists() or (run_dir / "STOP_NOW").exists()
