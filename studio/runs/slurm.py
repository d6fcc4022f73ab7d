"""The worker of a run that SLURM runs: python -m studio.runs.slurm RUN_DIR

It submits the job, says where it stands in the queue, passes requests to stop on, and ends as the job has ended. The
training itself runs in the job and writes the run's files from there, through the shared folder. What is known of the
job is in slurm.json, so that whoever starts this again after the machine went down finds it. No torch here: this waits
for days.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from studio.config.train import TrainConfig
from studio.errors import SeedbedError, SlurmError, SlurmSilent
from studio.files import read_record, write_json
from studio.parallel import slurm
from studio.parallel.slurm import Batch, Job
from studio.runs import cluster
from studio.runs.cluster import Ticket
from studio.runs.run import Run
from studio.runs.waiting import QUEUED, is_asked_to_stop, phase, tell
from studio.settings import ROOT

COMPLETED, FAILED, STOPPED = 0, 1, 10
WORKER = "studio.worker.launch"  # on every node
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
TICK_S, HEARTBEAT_S = 0.2, 4.0
LINGER_S = 5.0  # that a job may outlive its training
SETTLE_S = 10.0  # a network file system shows what the nodes wrote a little later
SIGNS = ("STOP", "STOP_NOW", "result.json", "error.json")


def main(run_dir: Path) -> int:
    """Have SLURM run what config.yaml in `run_dir` says; the exit code of a worker."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = Run(run_dir)
    try:
        ticket = Ticket.of(run_dir) or _submit(run)
        return _conclude(run, ticket, _watch(run, ticket)) if ticket else STOPPED
    except KeyboardInterrupt:
        return _give_up(run)
    except SeedbedError as error:
        _leave_card(run, type(error).__name__, str(error))
        return FAILED


def _submit(run: Run) -> Ticket | None:
    """Submit the run, as soon as SLURM answers. None where it was stopped before."""
    while not is_asked_to_stop(run.path):
        try:
            ticket = cluster.find(run.id) or cluster.submit(_write_script(run), run.id)
        except SlurmSilent as error:
            tell(run.path, QUEUED, _silence(error))
            _pause(run, FIRST_WAIT_S * 4)
        else:
            told = {"job_id": ticket.job_id, "cluster": ticket.cluster, "state": "PENDING", "submitted": time.time()}
            write_json(run.path / cluster.FILE, told)
            _say(f"submitted as SLURM job {ticket.job_id}")
            return ticket
    return None


def _write_script(run: Run) -> Path:
    config = run.config
    assert isinstance(config, TrainConfig)
    batch = Batch(
        run_dir=run.path,
        root=Path(ROOT),
        python=sys.executable,
        module=WORKER,
        nodes=config.nnodes,
        processes=config.nproc_per_node,
        partition=config.slurm_partition,
        time=config.slurm_time,
        further=tuple(line for line in (config.slurm_options or "").splitlines() if line.strip()),
    )
    path = run.path / "job.sh"
    path.write_text(slurm.script(batch, cluster.node_of(batch.partition)), encoding="utf-8")
    return path


def _watch(run: Run, ticket: Ticket) -> Job | None:
    """Stay with the job to its end, whatever SLURM answers meanwhile; None where it knows the job no more."""
    wait_s, ends_at, complaint = FIRST_WAIT_S, math.inf, ""
    while True:
        try:
            job = cluster.look(ticket)
            if job:
                _note(run, ticket, job)
            if job is None or job.is_over:
                return job
            _pass_on(run, ticket, job)
            if time.monotonic() > ends_at:  # SLURM waits for minutes for a node that went down
                cluster.cancel(ticket)
                return job
        except SlurmError as error:
            if _has_told_its_end(run):
                return None
            if complaint != (complaint := _silence(error)):
                _say(complaint)
            _tell_waiting(run, complaint)
        wait_s = FIRST_WAIT_S if _pause(run, wait_s) else min(wait_s * 1.5, LONGEST_WAIT_S)
        if ends_at == math.inf and _has_told_its_end(run):
            ends_at = time.monotonic() + LINGER_S


def _note(run: Run, ticket: Ticket, job: Job) -> None:
    """Write down how the job stands, where that has changed."""
    place = cluster.place(ticket, job) if job.state == "PENDING" else None
    before = read_record(run.path / cluster.FILE)
    told = {
        **before,
        "state": job.state,
        "reason": job.reason,
        "partition": job.partition,
        "position": place.position if place else None,
        "pending": place.pending if place else None,
        "expected_start": job.start,
        "nodes": job.nodes,
    }
    if told != before:
        write_json(run.path / cluster.FILE, told)
    if job.is_waiting:
        _tell_waiting(run, slurm.waiting_sentence(job, place, datetime.now()))
    elif job.state == "RUNNING" != before.get("state"):
        _tell_waiting(run, f"SLURM job {job.id} begins on {job.nodes}")


def _tell_waiting(run: Run, message: str) -> None:
    """The status is ours until the training has written it."""
    if phase(run.path) in ("", QUEUED):
        tell(run.path, QUEUED, message)


def _pass_on(run: Run, ticket: Ticket, job: Job) -> None:
    """The training sees STOP by itself, in the run's folder; SLURM ends what does not run yet, or is to end at once."""
    if (run.path / "STOP_NOW").exists():
        cluster.cancel(ticket)
    elif job.is_waiting and (run.path / "STOP").exists():
        cluster.cancel_waiting(ticket)


def _pause(run: Run, seconds: float) -> bool:
    """Wait, less where something happens; whether it did. Meanwhile the status is kept fresh, where it is ours."""
    before, until, told = _signs(run), time.monotonic() + seconds, time.monotonic()
    while time.monotonic() < until:
        if _signs(run) != before:
            return True
        if time.monotonic() - told > HEARTBEAT_S:
            told = time.monotonic()
            _tell_waiting(run, str(run.status.get("message", "")))
        time.sleep(TICK_S)
    return False


def _signs(run: Run) -> list[str]:
    return [name for name in SIGNS if (run.path / name).exists()]


def _has_told_its_end(run: Run) -> bool:
    return bool(run.result or run.error)


def _silence(error: SlurmError) -> str:
    return f"SLURM does not answer, trying again ({error})"


def _conclude(run: Run, ticket: Ticket, job: Job | None) -> int:
    """The exit code that the job's end and the files of the training amount to; what only SLURM knows is a card."""
    _settle(run, job)
    _say(f"SLURM job {ticket.job_id}: {job.state.lower() if job else 'forgotten by SLURM'}")
    if run.result and not run.result.get("stopped"):
        return COMPLETED
    if (run.path / slurm.TIME_LIMIT).exists() and (run.result or _ended_as_asked(job)):
        what = f"The time limit of SLURM job {ticket.job_id} was near, so the training was saved and stopped."
        _leave_card(run, "TimeLimit", what)
        return STOPPED
    if run.result or (is_asked_to_stop(run.path) and _ended_as_asked(job)):
        return STOPPED
    return _fail(run, ticket, job)


def _settle(run: Run, job: Job | None) -> None:
    """A training that ended by itself has left a file that says how; it may take a moment to be seen from here."""
    deadline = time.monotonic() + SETTLE_S
    while job and job.state in ("COMPLETED", "FAILED") and job.exit_code in (COMPLETED, FAILED):
        if _has_told_its_end(run) or time.monotonic() > deadline:
            return
        time.sleep(TICK_S)


def _ended_as_asked(job: Job | None) -> bool:
    if job is None or job.state == "CANCELLED":
        return True
    return job.state in ("COMPLETED", "FAILED") and job.exit_code in (STOPPED, COMPLETED)


def _fail(run: Run, ticket: Ticket, job: Job | None) -> int:
    if job and (what := slurm.ending(job, _fallen(ticket, job))):
        _leave_card(run, job.state.title().replace("_", ""), what)
        return STOPPED if job.state == "CANCELLED" else FAILED
    if job and job.exit_code == slurm.NOT_SHARED:
        what = (
            f"The nodes {job.nodes} do not see {run.path}, or not the studio in {ROOT} with its Python: both must be "
            "in folders that all nodes share."
        )
        _leave_card(run, "NotShared", what, is_resumable=False)
    elif not run.error:
        what = f"SLURM job {ticket.job_id} ended " + (f"with code {job.exit_code}" if job else "unseen")
        _leave_card(run, "JobFailed", f"{what}, and left no word. The log has the details.")
    return FAILED


def _fallen(ticket: Ticket, job: Job) -> list[str]:
    with suppress(SlurmError):
        return cluster.fallen(ticket, job)
    return []


def _give_up(run: Run) -> int:
    """Asked to end at once: the job goes with us."""
    try:
        if ticket := Ticket.of(run.path) or cluster.find(run.id):
            cluster.cancel(ticket)
    except SlurmError as error:
        _say(f"{error}; the job ends by itself when it sees that the run has ended")
    return STOPPED


def _leave_card(run: Run, kind: str, message: str, is_resumable: bool = True) -> None:
    found = run.checkpoints() if is_resumable else []
    how = f"python -m studio runs resume {run.id}"
    hint = f"Resume it from {found[-1].name}: {how}" if found else ""
    card: dict[str, Any] = {"kind": kind, "message": message, "hint": hint, "retry": {}, "at": time.time()}
    _say(f"{message} {hint}".rstrip())
    write_json(run.path / "error.json", card)


def _say(text: str) -> None:
    with suppress(OSError):
        print(f"slurm: {text}", flush=True)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(code)
