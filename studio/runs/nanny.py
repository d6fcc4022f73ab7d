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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from studio import openmp
from studio.files import write_json
from studio.runs import queue
from studio.runs.process import RUN_VARIABLE, Identity, descendants, kernel_kills, kill, of_run
from studio.runs.waiting import is_asked_to_stop

POLL_S = 0.1
WAIT_POLL_S = 0.5
INSIST_S = 1.0
STOPPED_CODE = 10
NOT_STARTED_CODE = 127  # as a shell has it
RESERVE_BYTES = 4096

# after STOP: how long the worker may take to save (large models take minutes), then how long each stronger
# request is given; STOP_NOW is there for the impatient
Rungs = tuple[tuple[float, signal.Signals], ...]
STOP_LADDER: Rungs = ((600.0, signal.SIGINT), (10.0, signal.SIGTERM), (5.0, signal.SIGKILL))
STOP_NOW_LADDER: Rungs = ((0.0, signal.SIGTERM), (1.0, signal.SIGKILL))
PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Ladder:
    """Stronger and stronger requests to end, each after its patience has run out."""

    rungs: Rungs
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


def main(run: Path, command: list[str], stop_ladder: Rungs = STOP_LADDER) -> None:
    """Be the nanny of `command` in the run directory `run` until it has ended.

    Args:
        run: the run directory, absolute.
        command: the worker's program and arguments.
        stop_ladder: what follows when the file STOP goes unheeded: (patience in seconds, signal) pairs.
    """
    _adopt_orphans()
    _handle_signals(run)
    _insist(run, lambda: write_json(run / "nanny.json", Identity.of().to_json()))
    _reserve(run)
    kills = kernel_kills()
    status = _care(run, command, stop_ladder) if _wait_for_turn(run) else STOPPED_CODE << 8
    _kill_strays(run)
    openmp.sweep()
    _write_exit(run, status, out_of_memory=status == signal.SIGKILL and kernel_kills() > kills)


def _handle_signals(run: Path) -> None:
    """SIGTERM asks for a stop; the others are for the studio, not for us. They are handled, not ignored: the worker
    would inherit that, and then be deaf to the ladder's SIGINT."""
    signal.signal(signal.SIGTERM, lambda *_: _ask_to_stop(run))
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: None)


def _ask_to_stop(run: Path) -> None:
    with suppress(OSError):
        (run / "STOP").touch()


def _adopt_orphans() -> None:
    """Make orphaned descendants our children instead of init's: vLLM's engine outlives its server otherwise."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait_for_turn(run: Path) -> bool:
    """Wait while earlier runs hold the devices. False if the run was stopped before its turn."""
    while (run / "WAIT").exists() and queue.ahead(run):
        if is_asked_to_stop(run):
            return False
        time.sleep(WAIT_POLL_S)
    (run / "WAIT").unlink(missing_ok=True)
    return not is_asked_to_stop(run)


def _care(run: Path, command: list[str], stop_ladder: Rungs) -> int:
    """Start the worker and stay with it until it has ended. Returns its wait status."""
    environment = {**os.environ, **openmp.environment(os.environ), RUN_VARIABLE: str(run), "PYTHONUNBUFFERED": "1"}
    try:
        # kept for as long as it is watched: a Popen that is thrown away collects its child behind our back
        worker = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            # by the worker-to-be itself, so that it never runs unrecorded, even if we are killed right now
            preexec_fn=lambda: _record_myself(run, command),
        )
    except OSError as error:
        _say(f"{command[0]} could not be started: {error}")
        return NOT_STARTED_CODE << 8
    if not (run / "worker.json").exists():
        _insist(run, lambda: _record(run, command, worker.pid), until=lambda: is_asked_to_stop(run))
    return _watch(run, worker.pid, stop_ladder)


def _record_myself(run: Path, command: list[str]) -> None:
    with suppress(OSError):
        _record(run, command, os.getpid())


def _record(run: Path, command: list[str], pid: int) -> None:
    write_json(run / "worker.json", {**Identity.of(pid).to_json(), "cmd": command})


def _watch(run: Path, worker: int, stop_ladder: Rungs) -> int:
    """Until the worker has ended: pass on stop requests. Returns its wait status."""
    ladder: Ladder | None = None
    while True:
        if (status := _reap(worker)) is not None:
            return status
        ladder = _ladder(run, ladder, stop_ladder)
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


def _ladder(run: Path, ladder: Ladder | None, stop_ladder: Rungs) -> Ladder | None:
    if (run / "STOP_NOW").exists():
        return ladder if ladder and ladder.rungs is STOP_NOW_LADDER else Ladder(STOP_NOW_LADDER)
    if ladder is None and (run / "STOP").exists():
        return Ladder(stop_ladder)
    return ladder


def _signal_group(worker: int, number: signal.Signals) -> None:
    try:
        os.killpg(worker, number)  # our own child, not yet reaped: its pid cannot have been reused
    except ProcessLookupError:
        return


def _kill_strays(run: Path) -> None:
    """Whatever the worker left running dies with it: our descendants, as orphans come to us, and what bears the
    run's name. Runs that it has started live on."""
    deadline = time.monotonic() + 5
    while (strays := descendants(run) | of_run(run)) and time.monotonic() < deadline:
        kill(strays)
        time.sleep(0.05)
        _reap(-1)


def _reserve(run: Path) -> None:
    """Keep a block of disk for exit.json: a run that filled the disk must still be able to say so."""
    try:
        (run / ".reserve").write_bytes(b"\0" * RESERVE_BYTES)
    except OSError:
        return


def _write_exit(run: Path, status: int, out_of_memory: bool) -> None:
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    code = None if number else os.waitstatus_to_exitcode(status)
    value = {
        "code": code,
        "signal": number,
        "reason": _reason(run, code),
        "out_of_memory": out_of_memory,
        "at": time.time(),
    }
    (run / ".reserve").unlink(missing_ok=True)
    _insist(run, lambda: write_json(run / "exit.json", value))


def _reason(run: Path, code: int | None) -> str:
    if code == 0:
        return "completed"
    has_error = (run / "error.json").exists()
    return "stopped" if code == STOPPED_CODE or (is_asked_to_stop(run) and not has_error) else "failed"


def _insist(run: Path, write: Callable[[], None], until: Callable[[], bool] = lambda: False) -> None:
    """A full disk is waited out: without these files the run would be lost. A run that was deleted is not."""
    while run.is_dir() and not until():
        try:
            return write()
        except OSError as error:
            _say(f"{error}; trying again")
            time.sleep(INSIST_S)


def _say(text: str) -> None:
    """The log may be on the very disk that is full."""
    with suppress(OSError):
        print(f"nanny: {text}", flush=True)


if __name__ == "__main__":
    # the launcher waits for this first process only; the nanny itself becomes nobody's child
    if os.fork():
        os._exit(0)
    main(Path(sys.argv[1]), sys.argv[2:])
