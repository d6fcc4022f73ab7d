"""Ways of starting a nanny: for a worker on this machine, for this machine's part of a training, for a job of SLURM."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from studio.config.load import RunConfig
from studio.config.train import TrainConfig
from studio.errors import AlreadyStarted, ParallelError, RunError
from studio.files import lock
from studio.parallel.strategies import STRATEGIES
from studio.runs import cluster, nodes, process, queue
from studio.runs.nodes import Meeting
from studio.runs.process import RUN_VARIABLE
from studio.runs.run import Run, State
from studio.runs.store import Store
from studio.settings import ROOT

WORKERS = {
    "train": "studio.worker.train",
    "merge": "studio.worker.merge",
    "serve": "studio.serving.sidecar",
    "data": "studio.worker.data",
    "arena": "studio.worker.arena",
    "bench": "studio.worker.bench",
    "gguf": "studio.worker.gguf",
    "ollama": "studio.worker.ollama",
    "quantize": "studio.worker.quantize",
    "adapter": "studio.worker.adapter",
    "push": "studio.worker.push",
    "consolidate": "studio.worker.consolidate",
}
LAUNCH = "studio.worker.launch"  # of a training of several processes
SLURM = "studio.runs.slurm"  # submits the training and waits
ATTACHED_S = 10.0
# the kinds that wait for one another; a server shares the machine on purpose
QUEUED_KINDS = frozenset({"train"})


def begin(store: Store, config: RunConfig, wait: bool = False, twin_within_s: float = 0.0) -> Run:
    """Create a run and start it. The other half of a double click, within that many seconds, gets the first's run.

    Raises:
        RunError: no process could be started. Nothing stays behind.
    """
    if twin_within_s and (twin := store.twin(config, twin_within_s)):
        return twin
    return start_new(store, store.create(config), wait)


def start_new(store: Store, run: Run, wait: bool = False) -> Run:
    """Start a run that was just created; if it cannot be started, it does not stay behind."""
    try:
        start(run, wait)
    except BaseException:
        store.trash(run)
        raise
    return run


def start(run: Run, wait: bool = False) -> None:
    """Start a run, or with `wait` put it behind the trainings that were started before it.

    Raises:
        AlreadyStarted: somebody started it before.
        ConfigError: its config.yaml cannot be read, or its machines cannot meet.
        RunError: no process could be started.
    """
    config = run.config
    meeting = nodes.arrange(config) if isinstance(config, TrainConfig) else None
    is_local = _worker(config) != SLURM
    if config.kind in QUEUED_KINDS and is_local:
        run.request("DEVICES")  # before the claim: who sees the claim must see that it takes the devices
    if not _claim(run.path):
        raise AlreadyStarted(f"{run.id} was started already: resume it, or start a new run")
    if meeting:
        meeting.write(run.path)
    if wait and is_local:
        run.request("WAIT")
    _launch(run.path, _worker(config))


def join(run: Run, node: int) -> Path:
    """Start this machine's part of a training on several, as number `node`; the folder with its files.

    Raises:
        ParallelError: the run takes no such machine, has begun or ended, or the main machine cannot be reached.
        AlreadyStarted: that machine has joined.
    """
    meeting = _joinable(run, node)
    folder = nodes.folder(run.path, node)
    with lock(run.path / f".join-{node}"):
        if queue.is_attended(folder):
            raise AlreadyStarted(f"{run.id} has its {meeting.called(run.path, node)} already: each is joined once")
        nodes.check_reach(meeting)
        shutil.rmtree(folder, ignore_errors=True)  # of one that joined and went away while others were waited for
        folder.mkdir(parents=True)
        _claim(folder)
        _launch(folder, LAUNCH, str(run.path), str(node))
    return folder


def _joinable(run: Run, node: int) -> Meeting:
    meeting = Meeting.read(run.path)
    if meeting is None or meeting.is_job:
        raise ParallelError(f"{run.id} takes no further nodes: it is a training on one machine, or SLURM starts them")
    if not 0 < node < len(meeting.hosts):
        last = len(meeting.hosts) - 1
        raise ParallelError(f"{run.id} has nodes 0 to {last}, and node 0 is where it was started: join as 1 to {last}")
    if run.state is State.QUEUED:
        raise ParallelError(f"{run.id} waits for the trainings that were started before it: join when it has begun")
    if not run.is_active:
        raise ParallelError(
            f"{run.id} is {run.state} as seen from here. If it is not, this is a copy of the saves folder: all nodes "
            f"must share it, as {run.path.parent}"
        )
    if (run.path / "ranks").exists() and not queue.is_attended(nodes.folder(run.path, node)):
        raise ParallelError(f"{run.id} has begun with other processes as node {node}: nobody can join any more")
    return meeting


def attach(store: Store) -> list[Run]:
    """Watch those jobs of SLURM again that nobody watches since this machine or its processes went down."""
    found = [run for run in store.list() if _is_forsaken(run)]
    return [run for run in found if _attach(run)]


def _is_forsaken(run: Run) -> bool:
    if not (run.path / cluster.FILE).exists() or (run.path / "exit.json").exists():
        return False
    return not run.process_alive("nanny") and not run.process_alive("worker")


def _attach(run: Run) -> bool:
    with lock(run.path / ".attach"):  # two studios may begin at the same moment
        if not _is_forsaken(run):
            return False
        _launch(run.path, SLURM)
        deadline = time.monotonic() + ATTACHED_S
        while not process.lives(run.path, "nanny") and time.monotonic() < deadline:
            time.sleep(0.05)
        return True


def _worker(config: RunConfig) -> str:
    if not isinstance(config, TrainConfig):
        return WORKERS[config.kind]
    if config.launcher == "slurm":
        return SLURM
    return LAUNCH if STRATEGIES[config.parallel_strategy].is_distributed else WORKERS[config.kind]


def _claim(folder: Path) -> bool:
    """Whether we are the first to start what is in `folder`."""
    try:
        os.close(os.open(folder / "CLAIM", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return False
    return True


def _launch(folder: Path, module: str, *arguments: str) -> None:
    """The nanny leaves our session and our children, so the studio's end cannot reach it."""
    worker = [sys.executable, "-m", module, *(arguments or [str(folder)])]
    nanny = [sys.executable, "-m", "studio.runs.nanny", str(folder), *worker]
    log = folder / "log.txt"
    try:
        _start_nanny(nanny, log)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RunError(f"{folder.name} could not be started: {error}. Its log says more: {log}") from error


def _start_nanny(nanny: list[str], log_path: Path) -> None:
    environment = {**os.environ, RUN_VARIABLE: ""}  # where a worker starts a run, that is nobody's but its own
    with open(log_path, "ab") as log:
        subprocess.run(
            nanny, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True, check=True,
        )  # fmt: skip
