"""Processes as (pid, start time, host), so that a reused pid or a zombie is never taken for a living worker."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

RUN_VARIABLE = "SEEDBED_RUN"
HEARTBEAT_MAX_AGE_S = 60.0
# psutil derives start times from the boot time, which NTP may shift by a second while a process lives
START_TOLERANCE_S = 2.0


@dataclass(frozen=True)
class Identity:
    """One process for ever: `started` is in unix seconds."""

    pid: int
    started: float
    host: str

    @classmethod
    def of(cls, pid: int | None = None) -> Identity:
        """The identity of a living process, by default of this one."""
        process = psutil.Process(pid)
        return cls(process.pid, process.create_time(), socket.gethostname())

    @classmethod
    def from_json(cls, value: Any) -> Identity | None:
        """The identity written in a run's nanny.json or worker.json; None where there is none."""
        return cls(value["pid"], value["started"], value["host"]) if value else None

    def to_json(self) -> dict[str, Any]:
        """The value that `from_json` reads back."""
        return asdict(self)


def is_alive(identity: Identity | None, heartbeat_at: float | None = None) -> bool:
    """Whether that very process lives. One of another host is judged by the age of its heartbeat."""
    if identity is None:
        return False
    if identity.host != socket.gethostname():
        return heartbeat_at is not None and time.time() - heartbeat_at < HEARTBEAT_MAX_AGE_S
    return _same(identity) is not None


def _same(identity: Identity) -> psutil.Process | None:
    try:
        process = psutil.Process(identity.pid)
        if abs(process.create_time() - identity.started) > START_TOLERANCE_S:
            return None
        return process if process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) else None
    except psutil.NoSuchProcess:
        return None


def of_run(run: Path) -> list[psutil.Process]:
    """Every living process that carries the run's name in its environment: the worker and all it started."""
    marker = str(run)
    return [process for process in psutil.process_iter() if _environment(process).get(RUN_VARIABLE) == marker]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return {}
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def kill(processes: Iterable[psutil.Process], number: int = signal.SIGKILL) -> None:
    """Send a signal to each; one that is gone already is fine."""
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
