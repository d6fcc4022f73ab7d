"""Talking to SLURM by its own commands: submit, look, cancel. Which job is a run's is in its slurm.json."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studio.errors import SlurmError, SlurmSilent
from studio.files import read_record
from studio.parallel import slurm
from studio.parallel.slurm import Job, Node, Place
from studio.runs.process import RUN_VARIABLE

FILE = "slurm.json"
ANSWER_S = 20.0
FORGOTTEN = "invalid job id"


@dataclass(frozen=True)
class Ticket:
    """A submitted job. `cluster` is empty where there is one only.

    `name` is the run's: a controller that has lost its memory, or counted to the end, gives a number again.
    """

    job_id: str
    name: str
    cluster: str = ""

    @classmethod
    def of(cls, run_dir: Path) -> Ticket | None:
        """That of a run; None for one that was never submitted."""
        told = read_record(run_dir / FILE)
        return cls(str(told["job_id"]), run_dir.name, str(told.get("cluster", ""))) if "job_id" in told else None

    @property
    def flags(self) -> list[str]:
        """What tells SLURM's commands where the job is."""
        return ["-M", self.cluster] if self.cluster else []


def node_of(partition: str | None) -> Node:
    """What the smallest node of a partition has.

    Raises:
        SlurmError: SLURM is not here. SlurmSilent: it does not answer now.
    """
    return slurm.read_node(_ask("sinfo", "-h", "-N", "-o", "%P|%c|%G").splitlines(), partition)


def find(name: str) -> Ticket | None:
    """The job of that name: one that was submitted by somebody who could not write it down any more."""
    listed = _ask("squeue", "-h", "-t", "all", f"--name={name}", "-o", "%A").split()
    return Ticket(listed[0], name) if listed else None


def submit(script: Path, name: str) -> Ticket:
    """Submit a batch script, with this environment less the name of the run: its processes are not this machine's.

    Raises:
        SlurmError: SLURM refuses it, with what to do. SlurmSilent: it does not answer now.
    """
    job_id, _, cluster = _ask("sbatch", "--parsable", f"--job-name={name}", str(script)).strip().partition(";")
    return Ticket(job_id, name, cluster)


def look(ticket: Ticket) -> Job | None:
    """A job as it is now; None once SLURM has forgotten it, minutes after its end."""
    try:
        job = slurm.read_job(_ask("scontrol", *ticket.flags, "-o", "show", "job", ticket.job_id))
    except SlurmSilent:
        raise
    except SlurmError as error:
        if FORGOTTEN in str(error).lower():
            return None
        raise
    return job if job.name == ticket.name else None


def place(ticket: Ticket, job: Job) -> Place | None:
    """Where a waiting job stands among those of its partition that wait."""
    words = ["-h", "-t", "PENDING", "-p", job.partition, "-S", "-p,i", "-o", "%A"]
    listed = [word for word in _ask("squeue", *ticket.flags, *words).split() if word.isdecimal()]
    return slurm.read_place(listed, ticket.job_id)


def fallen(ticket: Ticket, job: Job) -> list[str]:
    """Those nodes of a job that are down."""
    words = ["-h", "-N", "-n", job.nodes, "-t", "down,fail,no_respond", "-o", "%N"]
    return sorted(set(_ask("sinfo", *ticket.flags, *words).split())) if job.nodes else []


def cancel_waiting(ticket: Ticket) -> None:
    """Cancel a job, but not if it runs by now: that one stops by itself, after saving."""
    _cancel(ticket, "--state=PENDING")


def cancel(ticket: Ticket) -> None:
    """End a job now, whatever it is doing; one that is over already is fine."""
    _cancel(ticket, "--signal=KILL", "--full")
    _cancel(ticket)


def _cancel(ticket: Ticket, *flags: str) -> None:
    try:
        _ask("scancel", *ticket.flags, *flags, f"--name={ticket.name}", ticket.job_id)
    except SlurmSilent:
        raise
    except SlurmError:
        job = look(ticket)
        if job and not job.is_ending:
            raise


def _ask(*words: str) -> str:
    """What a command of SLURM prints."""
    environment = {key: value for key, value in os.environ.items() if key != RUN_VARIABLE} | {"LC_ALL": "C"}
    environment = {key: value for key, value in environment.items() if not key.startswith("SLURM_JOB")}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=ANSWER_S, env=environment)
    except FileNotFoundError as error:
        what = f"{words[0]} is not on this machine: start the studio where SLURM's commands are, or set launcher: local"
        raise SlurmError(what) from error
    except subprocess.TimeoutExpired as error:
        raise SlurmSilent(f"{words[0]} did not answer for {ANSWER_S:.0f} s") from error
    if done.returncode:
        raise _complaint(words, done.stderr)
    return done.stdout


def _complaint(words: Sequence[str], stderr: str) -> SlurmError:
    lines = [line.removeprefix(f"{words[0]}: ").removeprefix("error: ") for line in stderr.splitlines() if line.strip()]
    said = "; ".join(dict.fromkeys(lines)) or "it gave no reason"
    if slurm.UNREACHABLE.search(said):
        return SlurmSilent(f"{words[0]}: {said}")
    if slurm.UNCONFIGURED.search(said):
        what = "This machine is of no SLURM cluster: start the studio on one that is, or set launcher: local"
        return SlurmError(f"{what} ({words[0]}: {lines[-1]})")
    what = f" {slurm.advice(said)}" if words[0] == "sbatch" else ""
    return SlurmError(f"SLURM refuses {words[0]}: {said}.{what}".rstrip())
