"""SLURM's language: the batch script of a run, and what its commands answer, as values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

NOT_SHARED = 72  # exit code of a job that does not see the run's folder, or the studio's
TIME_LIMIT = "TIME_LIMIT"  # file that the job leaves when its time is nearly up
WARNING_S = 180  # before the end, so that a checkpoint can be written

GPU_COUNT = re.compile(r"\bgpu(?::[^:,()]+)?:(\d+)")
OWN_GPUS = re.compile(r"--gpus\b|--gpus-per-|--gres\b|-G\b")
OWN_CPUS = re.compile(r"--cpus-per-|-c\b|--exclusive\b")
WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
OVER = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED"}
    | {"TIMEOUT"}
)
UNREACHABLE = re.compile(
    r"unable to contact|not responding|connection (refused|timed out)|socket timed out|zero bytes|munge|authentication"
    r"|temporarily unable|resource temporarily|unable to establish controller|can't find an address",
    re.IGNORECASE,
)
UNCONFIGURED = re.compile(r"(establish a|process) configuration (source|file)")
REASONS = {
    "Resources": "waiting for free nodes",
    "Priority": "others come first",
    "Dependency": "waiting for another job",
    "JobHeldUser": "held: `scontrol release` lets it go on",
    "JobHeldAdmin": "held by the administrator",
    "PartitionNodeLimit": "it never starts: more nodes than the partition has; stop it and lower nnodes",
    "PartitionTimeLimit": "it never starts: longer than the partition allows; stop it and lower slurm_time",
    "PartitionDown": "the partition is closed for now",
}


@dataclass(frozen=True)
class Node:
    """What a node of a partition has."""

    cpus: int
    gpus: int


@dataclass(frozen=True)
class Job:
    """What SLURM says of a job. `start` is when it began or is expected to, as SLURM writes it, or empty."""

    id: str
    name: str
    state: str
    reason: str
    partition: str
    nodes: str
    start: str
    exit_code: int

    @property
    def is_waiting(self) -> bool:
        """Whether nothing of it runs yet."""
        return self.state in WAITING

    @property
    def is_ending(self) -> bool:
        """Whether nothing needs to be cancelled any more."""
        return self.is_over or self.state == "COMPLETING"

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self.state in OVER


@dataclass(frozen=True)
class Place:
    """Position in the queue of a partition, from 1, among `pending` jobs."""

    position: int
    pending: int


@dataclass(frozen=True)
class Batch:
    """What a batch script is made of. `python` runs `module` on every node, in the studio's folder `root`."""

    run_dir: Path
    root: Path
    python: str
    module: str
    nodes: int
    processes: int | None
    partition: str | None = None
    time: str | None = None
    further: tuple[str, ...] = ()


def script(batch: Batch, node: Node) -> str:
    """The batch script of a run on nodes that have what `node` has."""
    directives = "\n".join(f"#SBATCH {' '.join(each.split())}" for each in _directives(batch, node))
    names = {"root": str(batch.root), "run": str(batch.run_dir), "python": batch.python, "module": batch.module}
    settings = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in names.items())
    return f"#!/bin/bash\n{directives}\n\n{settings}\n{BODY}"


def _directives(batch: Batch, node: Node) -> list[str]:
    """The person's own come last, and so win."""
    lines = [f"--nodes={batch.nodes}", "--ntasks-per-node=1", *_share(batch, node)]
    lines += [f"--signal=B:USR1@{WARNING_S}", "--no-requeue", "--output=/dev/null"]
    lines += [f"--partition={batch.partition}"] if batch.partition else []
    lines += [f"--time={batch.time}"] if batch.time else []
    return [*lines, *batch.further]


def _share(batch: Batch, node: Node) -> list[str]:
    """GPUs and cores of a node. Without being asked SLURM gives a task no GPU and one core."""
    asked = "\n".join(batch.further)
    processes = batch.processes or node.gpus or 2
    gpus = min(processes, node.gpus)
    cpus = min(processes, node.cpus) if not gpus else node.cpus * gpus // node.gpus
    share = [f"--gres=gpu:{gpus}"] if gpus and not OWN_GPUS.search(asked) else []
    return share if OWN_CPUS.search(asked) else [*share, f"--cpus-per-task={max(1, cpus)}"]


BODY = f"""
cd "$root" && [ -x "$python" ] && [ -e "$run/config.yaml" ] || exit {NOT_SHARED}
[ ! -e "$run/exit.json" ] || exit 0  # ended while it waited, when nobody could cancel it
exec >>"$run/log.txt" 2>&1
trap 'touch "$run/{TIME_LIMIT}" "$run/STOP"' USR1
"$python" -m studio.runs.nodes "$run" || exit 1
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # srun does not take it from the job by itself
srun --kill-on-bad-exit=1 bash -c '
  cd "$root" && [ -x "$python" ] && [ -e "$run/config.yaml" ] || exit {NOT_SHARED}
  log=$run/log.txt
  if [ "$SLURM_NODEID" != 0 ]; then
    mkdir -p "$run/nodes/$SLURM_NODEID"
    log=$run/nodes/$SLURM_NODEID/log.txt
  fi
  exec "$python" -m "$module" "$run" "$SLURM_NODEID" >>"$log" 2>&1' &
step=$!
# the run may be ended while nobody can cancel the job; that must not leave it behind
while kill -0 $step 2>/dev/null; do
  if [ -e "$run/exit.json" ] || [ -e "$run/STOP_NOW" ]; then kill $step; fi
  sleep 1
done
wait $step
"""


def read_job(line: str) -> Job:
    """A job as `scontrol -o show job` prints it."""
    told = dict(word.split("=", 1) for word in line.split() if "=" in word)
    known = {key: "" if value in ("(null)", "Unknown", "N/A", "None") else value for key, value in told.items()}
    code = known.get("ExitCode", "0:0").partition(":")[0]
    return Job(
        id=known.get("JobId", ""),
        name=known.get("JobName", ""),
        state=known.get("JobState", ""),
        reason=known.get("Reason", ""),
        partition=known.get("Partition", ""),
        nodes=known.get("NodeList", ""),
        start=known.get("StartTime", ""),
        exit_code=int(code) if code.isdecimal() else 0,
    )


def read_place(lines: Sequence[str], job_id: str) -> Place | None:
    """Where a job stands in a list of ids, first come first; None where it is not in it."""
    return Place(lines.index(job_id) + 1, len(lines)) if job_id in lines else None


def read_node(lines: Sequence[str], partition: str | None) -> Node:
    """The smallest node of a partition, or of the default one, of lines PARTITION|CPUS|GRES."""
    rows = [line.split("|") for line in lines if line.count("|") == 2]
    mine = [row for row in rows if (row[0].rstrip("*") == partition if partition else row[0].endswith("*"))]
    found = [Node(int(cpus), sum(map(int, GPU_COUNT.findall(gres)))) for _, cpus, gres in mine]
    return min(found, key=lambda node: (node.gpus, node.cpus), default=Node(1, 0))


def waiting_sentence(job: Job, place: Place | None, now: datetime) -> str:
    """How it looks for a job that waits, for a person."""
    if job.state != "PENDING":
        return f"SLURM job {job.id}: {job.state.lower().replace('_', ' ')}, nodes {job.nodes or 'are being chosen'}"
    parts = [f"{_ordinal(place.position)} of {place.pending} in partition {job.partition}"] if place else []
    parts += [f"expected start {_moment(job.start, now)}"] if job.start else []
    reason = REASONS.get(job.reason, job.reason)
    return f"SLURM job {job.id}: {', '.join(parts) or 'pending'}" + (f" ({reason})" if reason else "")


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _moment(text: str, now: datetime) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{at:%H:%M}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M}"


def advice(complaint: str) -> str:
    """What to do about an answer of sbatch; empty where its own words have to do."""
    return next((what for pattern, what in ADVICE.items() if re.search(pattern, complaint, re.IGNORECASE)), "")


ADVICE = {
    r"partition": "Set slurm_partition to one that `sinfo` lists.",
    r"time": "Set slurm_time within the partition's limit; `sinfo` lists it.",
    r"account|qos": "Name one that you may use in slurm_options: --account=NAME, --qos=NAME.",
    r"node (configuration|count)|processors|gres|gpu": "Ask for less: nnodes, nproc_per_node or slurm_options.",
    r"option|argument": "Look at slurm_options: one option of sbatch a line.",
}


def ending(job: Job, fallen: Sequence[str] = ()) -> str:
    """Why SLURM ended a job, for those ends that the training itself cannot tell of; empty for others."""
    where = " and ".join(fallen) or job.nodes
    return ENDINGS.get(job.state, "").format(id=job.id, nodes=where, s="s" if len(fallen) > 1 else "")


ENDINGS = {
    "NODE_FAIL": "Node{s} {nodes} failed while SLURM job {id} ran there.",
    "BOOT_FAIL": "The nodes of SLURM job {id} could not be started.",
    "TIMEOUT": "SLURM job {id} ran into its time limit, and could not save in the time before it.",
    "DEADLINE": "SLURM job {id} could not end before its deadline.",
    "PREEMPTED": "SLURM took the nodes of job {id} for a job that goes before it.",
    "OUT_OF_MEMORY": "SLURM job {id} used more memory than it had asked for on {nodes}: ask for more in slurm_options, "
    "--mem=64G or --mem=0 for all of it.",
    "CANCELLED": "SLURM job {id} was cancelled by somebody else (scancel).",
    "REVOKED": "SLURM revoked job {id}: a sibling on another cluster ran in its place.",
}
