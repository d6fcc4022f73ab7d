"""Ways of starting a nanny. One for now: this machine, one process."""

from __future__ import annotations

import os
import subprocess
import sys

from studio.config.load import RunConfig
from studio.config.train import TrainConfig
from studio.errors import AlreadyStarted, RunError
from studio.parallel.strategies import STRATEGIES
from studio.runs.process import RUN_VARIABLE
from studio.runs.run import Run
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
}
LAUNCH = "studio.worker.launch"  # of a training of several processes
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
        ConfigError: its config.yaml cannot be read.
        RunError: no process could be started.
    """
    kind = run.config.kind
    if kind in QUEUED_KINDS:
        run.request("DEVICES")  # before the claim: who sees the claim must see that it takes the devices
    _claim(run)
    if wait:
        run.request("WAIT")
    try:
        _launch(run, [sys.executable, "-m", _worker(run.config), str(run.path)])
    except (OSError, subprocess.CalledProcessError) as error:
        raise RunError(f"{run.id} could not be started: {error}. Its log says more: {run.log}") from error


def _worker(config: RunConfig) -> str:
    several = isinstance(config, TrainConfig) and STRATEGIES[config.parallel_strategy].is_distributed
    return LAUNCH if several else WORKERS[config.kind]


def _claim(run: Run) -> None:
    try:
        os.close(os.open(run.path / "CLAIM", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError as error:
        raise AlreadyStarted(f"{run.id} was started already: resume it, or start a new run") from error


def _launch(run: Run, worker: list[str]) -> None:
    """The nanny leaves our session and our children, so the studio's end cannot reach it."""
    nanny = [sys.executable, "-m", "studio.runs.nanny", str(run.path), *worker]
    environment = {**os.environ, RUN_VARIABLE: ""}  # where a worker starts a run, that is nobody's but its own
    with open(run.log, "ab") as log:
        subprocess.run(
            nanny, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True, check=True,
        )  # fmt: skip
