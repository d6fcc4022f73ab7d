"""A training on a CPU that has to share its cores: milliseconds a step beside so many busy programs.

Trains the bundled model through the real worker: as torch comes (GNU's OpenMP, which spins), with a shorter spin, and
in the environment that the studio gives. Prints one table.

    python -m bench.sharing
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from studio import openmp
from studio.config.load import parse, preset
from studio.config.train import TrainConfig
from studio.runs import events
from studio.runs.store import Store
from studio.settings import ROOT

CORES = 4
WARM_UP, STEPS = 2, 12
PATIENCE_S = 150.0
BUSY = (sys.executable, "-c", "while True: pass")
KEYS = {**preset("identity"), "model_name": "Sprout", "model_author": "Ada", "logging_steps": 1, "max_steps": 500}


def main() -> None:
    """Measure everything and print the table."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    plain = {name: value for name, value in os.environ.items() if name not in openmp.CHOSEN} | {"HF_HUB_OFFLINE": "1"}
    given = openmp.environment(plain)
    runtime = "Intel's" if "LD_PRELOAD" in given else "GNU's"
    ways = {
        "GNU's OpenMP, as torch comes": plain,
        **{f"GNU's OpenMP, GOMP_SPINCOUNT={spins}": plain | {"GOMP_SPINCOUNT": spins} for spins in ("20000", "3000")},
        f"{runtime} OpenMP, as the studio starts it": plain | given,
    }
    heads = "".join(f"{neighbours:>8}" for neighbours in range(CORES))
    print(f"{f'median ms a step on {CORES} cores, beside so many busy programs':<58}{heads}")
    with tempfile.TemporaryDirectory() as folder:
        for name, environment in ways.items():
            found = [_step_ms(Path(folder), environment, neighbours) for neighbours in range(CORES)]
            print(f"{name:<58}" + "".join(f"{ms:>8.0f}" for ms in found), flush=True)


def _step_ms(saves: Path, environment: Mapping[str, str], neighbours: int) -> float:
    run = Store(saves).create(parse(TrainConfig, KEYS))
    with _busy(neighbours), open(run.log, "ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "studio.worker.train", str(run.path)],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            return _watched(run.metrics, worker)
        finally:
            worker.kill()
            worker.wait()


def _watched(metrics: Path, worker: subprocess.Popen[bytes]) -> float:
    """Milliseconds between the steps, from the first few that end in time."""
    deadline = time.monotonic() + PATIENCE_S
    times: list[float] = []
    while len(times) < WARM_UP + STEPS and time.monotonic() < deadline and worker.poll() is None:
        time.sleep(0.2)
        history, _ = events.read(metrics)
        times = [event["at"] for event in history if event["type"] == "step"]
    gaps = [after - before for before, after in pairwise(times)][WARM_UP - 1 :]
    if not gaps:
        raise SystemExit(f"fewer than {WARM_UP + 1} steps in {PATIENCE_S:.0f} s: {metrics.parent}")
    return statistics.median(gaps) * 1e3


@contextmanager
def _busy(count: int) -> Iterator[None]:
    programs = [subprocess.Popen(BUSY) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


if __name__ == "__main__":
    main()
