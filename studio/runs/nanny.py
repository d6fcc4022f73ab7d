"""The nanny: starts one worker, passes on requests to stop, writes down how it ended. Outlives the studio.

    python -m studio.runs.nanny RUN_DIR WORKER_ARG...

It knows nothing of what the worker does. It never retries, never reads metrics, and imports only the standard
library and psutil, so that a waiting nanny costs 15 MB and no CPU.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.files import read_json, write_json
from studio.runs import queue
from studio.runs.process import RUN_VARIABLE, Identity, kill, of_run

POLL_S = 0.1
WAIT_POLL_S = 0.5
STOPPED_CODE = 10
RESERVE_BYTES = 4096

# after STOP: how long the worker may take to save (large models take minutes), then how long each stronger
# request is given; STOP_NOW is there for the impatient
STOP_LADDER = ((600.0, signal.SIGINT), (10.0, signal.SIGTERM), (5.0, signal.SIGKILL))
STOP_NOW_LADDER = ((0.0, signal.SIGTERM), (1.0, signal.SIGKILL))
PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Ladder:
    """Stronger and stronger requests to end, each after its patience has run out."""

    rungs: tuple[tuple[float, signal.Signals], ...]
    climbed: int = 0
    since: float = field(default_factory=time.monotonic)

    def due(self) -> signal.Signals | None:
        """The signal whose time has come, once."""
        if self.climbed == len(self.rungs):
            return None
        patience_s, number = self.rungs[self.climbed]
        if time.monotonic() - self.since < patience_s:
            return None
        self.climbed += 1
        self.since = time.monotonic()
        return number


def main(run: Path, command: list[str]) -> None:
    """Be the nanny of `command` in the run directory `run` until it has ended."""
    _adopt_orphans()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: (run / "STOP").touch())
    _insist(lambda: write_json(run / "nanny.json", Identity.of().to_json()))
    _reserve(run)
    status = _watch(run, _start(run, command)) if _wait_for_turn(run) else STOPPED_CODE << 8
    _kill_strays(run)
    _write_exit(run, status)


def _adopt_orphans() -> None:
    """Make orphaned descendants our children instead of init's: vLLM's engine outlives its server otherwise."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait_for_turn(run: Path) -> bool:
    """Wait while earlier runs hold the devices. False if the run was stopped before its turn."""
    while (run / "WAIT").exists() and queue.ahead(run):
        if _stop_requested(run):
            return False
        time.sleep(WAIT_POLL_S)
    (run / "WAIT").unlink(missing_ok=True)
    return not _stop_requested(run)


def _start(run: Path, command: list[str]) -> int:
    environment = {**os.environ, RUN_VARIABLE: str(run), "PYTHONUNBUFFERED": "1"}
    worker = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    _insist(lambda: write_json(run / "worker.json", {**Identity.of(worker.pid).to_json(), "cmd": command}))
    return worker.pid


def _watch(run: Path, worker: int) -> int:
    """Until the worker has ended: pass on stop requests. Returns its wait status."""
    ladder: Ladder | None = None
    while True:
        if (status := _reap(worker)) is not None:
            return status
        ladder = _ladder(run, ladder)
        if ladder and (number := ladder.due()):
            _signal_group(worker, number)
        time.sleep(POLL_S)


def _reap(worker: int) -> int | None:
    """Collect every child that has ended; the worker's wait status if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == worker:
            return status


def _ladder(run: Path, ladder: Ladder | None) -> Ladder | None:
    if (run / "STOP_NOW").exists():
        return ladder if ladder and ladder.rungs is STOP_NOW_LADDER else Ladder(STOP_NOW_LADDER)
    if ladder is None and (run / "STOP").exists():
        return Ladder(STOP_LADDER)
    return ladder


def _stop_requested(run: Path) -> bool:
    return (run / "STOP").exists() or (run / "STOP_NOW").exists()


def _signal_group(worker: int, number: signal.Signals) -> None:
    try:
        os.killpg(worker, number)  # our own child, not yet reaped: its pid cannot have been reused
    except ProcessLookupError:
        return


def _kill_strays(run: Path) -> None:
    """Whatever the worker left running dies with it."""
    deadline = time.monotonic() + 5
    while (strays := of_run(run)) and time.monotonic() < deadline:
        kill(strays)
        time.sleep(0.05)
        _reap(-1)


def _reserve(run: Path) -> None:
    """Keep a block of disk for exit.json: a run that filled the disk must still be able to say so."""
    try:
        (run / ".reserve").write_bytes(b"\0" * RESERVE_BYTES)
    except OSError:
        return


def _write_exit(run: Path, status: int) -> None:
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    code = None if number else os.waitstatus_to_exitcode(status)
    value = {"code": code, "signal": number, "reason": _reason(run, code), "at": time.time()}
    (run / ".reserve").unlink(missing_ok=True)
    _insist(lambda: write_json(run / "exit.json", value))


def _reason(run: Path, code: int | None) -> str:
    if code == 0:
        return "completed"
    return "stopped" if code == STOPPED_CODE or (_stop_requested(run) and not _has_error(run)) else "failed"


def _has_error(run: Path) -> bool:
    return read_json(run / "error.json") is not None


def _insist(write: Any) -> None:
    """A full disk is waited out: without these files the run would be lost."""
    while True:
        try:
            write()
        except OSError as error:
            print(f"nanny: {error}; trying again", flush=True)
            time.sleep(1)
        else:
            return


if __name__ == "__main__":
    # the launcher waits for this first process only; the nanny itself becomes nobody's child
    if os.fork():
        os._exit(0)
    main(Path(sys.argv[1]), sys.argv[2:])
