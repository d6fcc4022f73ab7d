"""kill -9 of one process, of all, of the nanny and of the launcher, at random moments of trainings of every kind.

Each training is killed again and again, and goes on from its newest checkpoint. In the end its curve is that of the
training that nobody killed: exactly, in one process.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.runs import launchers, process
from studio.runs.process import RUN_VARIABLE
from studio.runs.run import Run, State
from studio.runs.store import Store
from studio.settings import ASSETS, ROOT
from tests.worker.conftest import Finished, trainers

STEPS = 24
SPAN = 5  # in each of so many steps, one kill
EXACT, CLOSE = 0.0, 1e-5
GONE_S = 10.0
STEP_S = 120.0
SEVERAL = {"nproc_per_node": 2, "gradient_accumulation_steps": 1}
LORA = {"finetuning_type": "lora", "lora_rank": 4, "lora_dropout": 0.1}
KEYS: dict[str, Any] = {
    "model_name_or_path": str(ASSETS / "seedling"),
    "dataset": ["alpaca_demo"],
    "dataset_dir": str(ROOT / "data"),
    "finetuning_type": "full",
    "cutoff_len": 32,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "max_steps": STEPS,
    "save_steps": 2,
    "save_total_limit": 2,
}
SINGLE_VICTIMS = ("rank", "nanny", "all", "rank")
VICTIMS = ("rank", "nanny", "all", "launcher")


@dataclass(frozen=True)
class Kill:
    """What is killed, at which step at the earliest, and whether then in the midst of a checkpoint."""

    victim: str
    step: int
    in_checkpoint: bool


def drawn(name: str, victims: Sequence[str]) -> list[Kill]:
    """Four kills at random, always the same for a name."""
    chance = random.Random(name)
    order = chance.sample(victims, len(victims))
    return [
        Kill(victim, max(2, chance.randint(SPAN * n, SPAN * n + SPAN - 1)), chance.random() < 0.4)
        for n, victim in enumerate(order)
    ]


def start_nanny(nanny: list[str], log_path: Path) -> None:
    """As the launcher starts it, but forked, and so is all that it starts."""
    environment = {**os.environ, RUN_VARIABLE: "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    forks = trainers(log_path.parent)
    assert forks
    with open(log_path, "ab") as log, open(os.devnull, "rb") as nothing:
        code = forks.start(nanny[2:], ROOT, environment, (nothing, log, log), session=True).wait()
    if code:
        raise subprocess.CalledProcessError(code, nanny)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Runs whose processes are forked; none outlives the test."""
    monkeypatch.setattr(launchers, "_start_nanny", start_nanny)
    store = Store(tmp_path / "saves")
    yield store
    for run in store.list():
        run.stop_now()


@pytest.mark.parametrize(
    ("strategy", "keys", "victims", "off"),
    [
        pytest.param("single", LORA, SINGLE_VICTIMS, EXACT, id="single"),
        pytest.param("ddp", {**SEVERAL, **LORA}, VICTIMS, CLOSE, id="ddp"),
        pytest.param("zero2", {**SEVERAL, **LORA}, VICTIMS, CLOSE, id="zero2"),
        pytest.param("zero3", SEVERAL, VICTIMS, CLOSE, id="zero3"),
        pytest.param("fsdp2", SEVERAL, VICTIMS, CLOSE, id="fsdp2"),
    ],
)
def test_killed_four_times_the_curve_is_that_of_one_left_alone(
    store: Store, strategy: str, keys: dict[str, Any], victims: Sequence[str], off: float
) -> None:
    config = parse(TrainConfig, {**KEYS, "parallel_strategy": strategy, **keys})
    alone = begun(store, store.create(config.model_copy(update={"save_steps": 0})))
    until(alone, lambda: alone.exit)
    expected = losses(alone)
    run = begun(store, store.create(config))
    for kill in drawn(strategy, victims):
        print(f"{strategy}: {kill}")
        await_moment(run, kill)
        deal(run, kill.victim)
        run = begun(store, store.resume(run))
    until(run, lambda: run.exit)
    assert (alone.state, run.state) == (State.COMPLETED, State.COMPLETED), run.reason
    assert list(losses(run)) == list(expected) == list(range(1, STEPS + 1))
    farthest = max(abs(loss - expected[step]) for step, loss in losses(run).items())
    print(f"{strategy}: {farthest:.1e} off at most")
    assert farthest <= off


def begun(store: Store, run: Run) -> Run:
    launchers.start(run)
    return run


def losses(run: Run) -> dict[int, float]:
    return Finished(run.path).losses


def until(run: Run, condition: Callable[[], Any], within_s: float = STEP_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{run.state}: {run.log.read_text()[-2000:]}"
        time.sleep(0.005)


def await_moment(run: Run, kill: Kill) -> None:
    """Until a checkpoint can be gone on from and the step has come, or the next draft of a checkpoint after it."""
    drafts = run.path / "tmp" / "checkpoints"
    until(run, lambda: run.checkpoints() and max(losses(run), default=0) >= kill.step)
    if kill.in_checkpoint:
        until(run, lambda: run.exit or any(drafts.glob("checkpoint-*/*")))
    assert run.state is State.RUNNING, "it was to be killed, and has ended"


def deal(run: Run, victim: str) -> None:
    """Kill it. How the run reads then is right, and nothing of it is left."""
    nanny, worker = pid_of(run, "nanny"), pid_of(run, "worker")
    everyone = {nanny, *(each.pid for each in process.of_run(run.path))}
    if victim == "nanny":
        slay(nanny)
        outlive(run)
    else:
        slay(
            *{"rank": [random.Random(run.id).choice(ranks(run) or [worker])], "launcher": [worker]}.get(
                victim, everyone
            )
        )
        until(run, lambda: not run.is_active, GONE_S)
    until(run, lambda: not any(map(lives, everyone)) and not process.of_run(run.path), GONE_S)
    if victim == "all":
        assert run.state is State.LOST
    elif victim != "nanny":
        assert run.state is State.FAILED
        assert "SIGKILL" in run.reason
        assert victim != "rank" or not ranks(run) or "Process " in run.reason


def outlive(run: Run) -> None:
    """A training goes on without its nanny, and is ended without one."""
    before = max(losses(run))
    until(run, lambda: max(losses(run)) > before or not run.is_active)
    if run.is_active:
        run.stop_now()
        until(run, lambda: not run.is_active, GONE_S)


def slay(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def lives(pid: int) -> bool:
    with suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def pid_of(run: Run, name: str) -> int:
    return int(json.loads((run.path / f"{name}.json").read_text())["pid"])


def ranks(run: Run) -> list[int]:
    """The process ids of a training of several."""
    return [int(json.loads(path.read_text())["pid"]) for path in sorted(run.path.glob("ranks/*/process.json"))]
