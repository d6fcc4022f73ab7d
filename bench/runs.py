"""What runs cost: listing many, starting one, and the nanny beside it. Prints one table.

python -m bench.runs
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from studio.config.train import TrainConfig
from studio.runs import launchers, summary
from studio.runs.process import Identity
from studio.runs.run import Run
from studio.runs.store import Store

RUNS = 500
STARTS = 10
WATCH_S = 10.0
EXIT = {"code": 0, "signal": None, "reason": "completed", "at": 1.0}


def main() -> None:
    launchers.WORKERS["train"] = "tests.fakes.worker"
    with tempfile.TemporaryDirectory() as folder:
        rows = [*_listing(Store(Path(folder, "many"))), *_starting(Store(Path(folder, "few")))]
    for name, value in rows:
        print(f"{name:<58} {value:>10}")


def _listing(store: Store) -> list[tuple[str, str]]:
    for number in range(RUNS):
        run = store.create(TrainConfig(dataset="identity", run_name=f"run {number}"))
        (run.path / "CLAIM").touch()
        (run.path / "exit.json").write_text(json.dumps(EXIT))
    return [
        (f"list of {RUNS} runs with their states, first time", _milliseconds(lambda: _states(store), 1)),
        (f"list of {RUNS} runs with their states, again", _milliseconds(lambda: _states(store), 5)),
        (f"lines about {RUNS} runs, again", _milliseconds(lambda: summary.summaries(store), 5)),
    ]


def _states(store: Store) -> list[str]:
    return [run.state for run in store.list()]


def _starting(store: Store) -> list[tuple[str, str]]:
    starts = [_start(store) for _ in range(STARTS)]
    run = starts[0][0]
    nanny = psutil.Process(_pid(run, "nanny"))
    before = sum(nanny.cpu_times()[:2])
    time.sleep(WATCH_S)
    percent = (sum(nanny.cpu_times()[:2]) - before) / WATCH_S * 100
    memory = nanny.memory_full_info()
    stops = [_stop(run) for run, _, _ in starts]
    return [
        ("start returns after (median)", f"{statistics.median(call for _, call, _ in starts):.0f} ms"),
        ("worker is running after (median)", f"{statistics.median(worker for _, _, worker in starts):.0f} ms"),
        ("stop now until the state says stopped (median)", f"{statistics.median(stops):.0f} ms"),
        ("nanny, resident", f"{memory.rss / 2**20:.1f} MB"),
        (f"nanny, its share (PSS, beside {STARTS - 1} others)", f"{memory.pss / 2**20:.1f} MB"),
        (f"nanny, CPU over {WATCH_S:.0f} s", f"{percent:.2f} %"),
    ]


def _start(store: Store) -> tuple[Run, float, float]:
    """The run, milliseconds until start returned, and until its worker's first line of code ran."""
    run = store.create(TrainConfig(dataset="identity"))
    (run.path / "fake.json").write_text(json.dumps([["touch", "ready"], ["sleep", 600]]))
    begun = time.perf_counter()
    launchers.start(run)
    returned = time.perf_counter()
    _await(lambda: (run.path / "ready").exists())
    return run, (returned - begun) * 1000, (time.perf_counter() - begun) * 1000


def _stop(run: Run) -> float:
    begun = time.perf_counter()
    run.stop_now()
    _await(lambda: not run.is_active)
    return (time.perf_counter() - begun) * 1000


def _await(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.001)


def _pid(run: Run, name: str) -> int:
    identity = Identity.read(run.path / f"{name}.json")
    assert identity is not None
    return identity.pid


def _milliseconds(work: Callable[[], object], times: int) -> str:
    durations = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        durations.append((time.perf_counter() - begun) * 1000)
    return f"{statistics.median(durations):.1f} ms"


if __name__ == "__main__":
    main()
