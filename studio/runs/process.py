"""Processes as (pid, start time, host), so that a reused pid or a zombie is never taken for a living worker."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from studio.files import read_record

RUN_VARIABLE = "SEEDBED_RUN"
HEARTBEAT_MAX_AGE_S = 60.0
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)  # loaded before any fork that calls it


@dataclass(frozen=True)
class Identity:
    """One process for ever.

    `started` is in clock ticks since the boot that `boot` names: setting the clock moves no process, and after a
    restart of the machine none of them lives.
    """

    pid: int
    started: int
    boot: str
    host: str

    @classmethod
    def of(cls, pid: int | None = None) -> Identity:
        """The identity of a process that has not been reaped, by default of this one."""
        pid = pid or os.getpid()
        return cls(pid, int(_stat(pid)[19]), _boot(), socket.gethostname())

    @classmethod
    def read(cls, path: Path) -> Identity | None:
        """The identity in a run's nanny.json or worker.json; None where there is no whole one."""
        value = read_record(path)
        try:
            return cls(int(value["pid"]), int(value["started"]), str(value["boot"]), str(value["host"]))
        except (KeyError, TypeError, ValueError):
            return None

    def to_json(self) -> dict[str, Any]:
        """The value that `read` reads back."""
        return asdict(self)


def lives(run: Path, name: str) -> bool:
    """Whether the `nanny` or `worker` of a run directory lives. One of another host is judged by the heartbeat."""
    identity = Identity.read(run / f"{name}.json")
    if identity is None:
        return False
    return is_alive(identity) if identity.host == socket.gethostname() else has_heartbeat(run)


def is_alive(identity: Identity) -> bool:
    """Whether that very process of this machine lives."""
    try:
        stat = _stat(identity.pid)
    except ProcessLookupError:
        return False
    return int(stat[19]) == identity.started and identity.boot == _boot() and stat[0] not in ("Z", "X")


def of_run(run: Path) -> set[psutil.Process]:
    """Every living process that carries the run's name in its environment, and their descendants.

    The worker and all it started, that is, but for an orphan that hides its environment (a changed process title
    does); those are known to the nanny alone, as its children.
    """
    marker = str(run)
    marked = [process for process in psutil.process_iter() if _environment(process).get(RUN_VARIABLE) == marker]
    return {*marked, *(child for process in marked for child in _descendants(process))}


def descendants(run: Path) -> set[psutil.Process]:
    """Every process below this one that is of `run`: other runs that it has started have nannies of their own."""
    return set(_own(psutil.Process(), str(run)))


def kill(processes: Iterable[psutil.Process], number: int = signal.SIGKILL) -> None:
    """Send a signal to each; one that is gone already is fine."""
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def kernel_kills() -> int:
    """How many processes of this machine the kernel has ended for lack of memory, since it booted."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold spaces and brackets: the state comes first."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        raise ProcessLookupError(f"no process {pid}") from error
    return text.rpartition(")")[2].split()


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # some sandboxes hide it
        return ""


def has_heartbeat(run: Path) -> bool:
    """Whether the status of a run was written a moment ago."""
    at = read_record(run / "status.json").get("at")
    return isinstance(at, int | float) and time.time() - at < HEARTBEAT_MAX_AGE_S


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return {}
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _own(process: psutil.Process, marker: str) -> Iterator[psutil.Process]:
    """The descendants of a process, without the families of those that bear another run's name. One that hides its
    environment is taken for its parent's."""
    for child in _children(process):
        if _environment(child).get(RUN_VARIABLE, marker) == marker:
            yield child
            yield from _own(child, marker)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    return _children(process, recursive=True)


def _children(process: psutil.Process, recursive: bool = False) -> list[psutil.Process]:
    try:
        return process.children(recursive)
    except psutil.NoSuchProcess:
        return []


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends; also what a fork calls before its exec."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
