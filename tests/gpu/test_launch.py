"""Trainings of two processes on two GPUs: NCCL waits and gives up in its own way."""

from __future__ import annotations

import json
import signal
from typing import Any

import psutil
import pytest
import torch

from studio.runs.process import of_run
from studio.worker.stop import STOPPED
from tests.worker.conftest import Start, Worker

pytestmark = pytest.mark.gpu
PLAIN: dict[str, Any] = {"bf16": False, "max_steps": 10, "save_steps": 0}
LONG: dict[str, Any] = {"max_steps": 50_000, "num_train_epochs": 50_000, "save_steps": 0, "learning_rate": 1e-6}


@pytest.fixture(autouse=True)
def two() -> None:
    """Skips where there are fewer."""
    if torch.cuda.device_count() < 2:
        pytest.skip("fewer than two CUDA devices")


def begun(start: Start, **keys: Any) -> Worker:
    """Two processes in the middle of their training."""
    worker = start("launch", cold=True, parallel_strategy="ddp", **{**LONG, **keys})
    worker.until(lambda: len(worker.losses) > 2, timeout_s=120)
    return worker


def process(worker: Worker, rank: int) -> psutil.Process:
    return psutil.Process(json.loads((worker.run_dir / f"ranks/{rank}/process.json").read_text())["pid"])


def test_two_gpus_have_the_curve_of_one(start: Start) -> None:
    one = start("train", cold=True, per_device_train_batch_size=4, **PLAIN)
    assert one.wait() == 0, one.log
    two = start("launch", cold=True, parallel_strategy="ddp", **PLAIN)
    assert two.wait() == 0, two.log
    assert two.losses == pytest.approx(one.losses, abs=1e-4)
    peaks = two.json("result.json")["memory_gb_per_device"]
    assert (len(peaks), min(peaks) > 0) == (2, True)
    assert "cuda:1" in json.loads((two.run_dir / "ranks/1/process.json").read_text())["device"]


def test_a_stop_reaches_both_at_the_same_step(start: Start) -> None:
    worker = begun(start)
    (worker.run_dir / "STOP").touch()
    assert worker.wait(20) == STOPPED
    assert (worker.run_dir / f"checkpoints/checkpoint-{worker.json('result.json')['steps']}/rng_state_1.pth").exists()


def test_the_one_that_was_killed_is_the_reason(start: Start) -> None:
    worker = begun(start)
    process(worker, 1).kill()
    assert worker.wait(20) == 1
    assert worker.json("error.json")["message"].startswith("Process 1 on ")
    assert of_run(worker.run_dir) == set()


def test_the_one_that_stands_still_is_named(start: Start) -> None:
    worker = begun(start, ddp_timeout=30)
    process(worker, 1).send_signal(signal.SIGSTOP)
    assert worker.wait(150) == 1
    card = worker.json("error.json")
    assert (card["kind"], "stood still" in card["message"]) == ("PeerTimeout", True), worker.log
    assert of_run(worker.run_dir) == set()
