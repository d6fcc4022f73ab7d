"""Trainings of two processes: one curve, one end, one reason, and nobody left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from studio import machine
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.errors import ParallelError
from studio.machine import Gpu
from studio.runs.process import of_run
from studio.worker import launch, ranks
from studio.worker.stop import STOPPED
from tests.worker.conftest import Finished, Start, Worker, register, spawn, write_config

LONG: dict[str, Any] = {"max_steps": 5000, "num_train_epochs": 5000, "save_steps": 0, "learning_rate": 1e-5}
EXACT: dict[str, Any] = {"bf16": False, "val_size": 7, "eval_steps": 4, "max_steps": 10, "save_steps": 5}
ROWS = 40  # less those held out, no multiple of what a step takes
AT_ONCE_S = 8.0  # torchrun's agent would wait for half a minute


def rank(worker: Worker, index: int) -> psutil.Process:
    return psutil.Process(json.loads((worker.run_dir / f"ranks/{index}/process.json").read_text())["pid"])


def begun(start: Start, **keys: Any) -> Worker:
    """Two processes in the middle of their training."""
    worker = start("launch", parallel_strategy="ddp", **{**LONG, **keys})
    worker.until(lambda: len(worker.losses) > 2)
    return worker


def ended(worker: Worker, within_s: float = 20) -> float:
    """Seconds until it has ended; nothing of it lives on."""
    asked = time.monotonic()
    worker.wait(within_s)
    took = time.monotonic() - asked
    assert of_run(worker.run_dir) == set()
    return took


@pytest.fixture(scope="module")
def hung(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Worker]:
    """A training whose second process stands still; it is begun first, as it takes half a minute to be noticed."""
    folder = tmp_path_factory.mktemp("hung")
    data = register(folder / "data", demo=[{"instruction": "Hi", "input": "", "output": str(n)} for n in range(24)])
    write_config(folder / "run", "train", tiny_model, data, {**LONG, "parallel_strategy": "ddp", "ddp_timeout": 30})
    worker = spawn("launch", folder / "run")
    worker.until(lambda: len(worker.losses) > 2)
    rank(worker, 1).send_signal(signal.SIGSTOP)
    yield worker
    if worker.process.poll() is None:
        worker.kill()


@pytest.fixture(scope="module")
def twins(hung: Worker, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Finished, Finished]:
    """The same training of one process and of two, below a folder whose name a shell would take apart. Beside them is
    that of two whose rows are dealt anew."""
    folder = tmp_path_factory.mktemp("twins") / 'it\'s "my" 存档 folder'
    folder.mkdir()
    rows = [
        {"instruction": f"Add {n}.", "input": "", "output": f"It is {n}{' and on' * (n % 5)}."} for n in range(ROWS)
    ]
    data = register(folder / "data", demo=rows)
    write_config(folder / "one", "train", tiny_model, data, {**EXACT, "per_device_train_batch_size": 4})
    two = {"per_device_train_batch_size": 2, "parallel_strategy": "ddp", "sample_prompts": "Hello"}
    write_config(folder / "two", "train", tiny_model, data, {**EXACT, **two})
    dealt = {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 1, "micro_batch_tokens": 100}
    write_config(folder / "dealt", "train", tiny_model, data, {**EXACT, **two, **dealt, "sample_prompts": None})
    workers = [spawn("train", folder / "one"), spawn("launch", folder / "two"), spawn("launch", folder / "dealt")]
    assert [worker.wait() for worker in workers] == [0, 0, 0], "\n".join(worker.log for worker in workers)
    return Finished(folder / "one"), Finished(folder / "two")


def test_two_processes_have_the_curve_of_one_at_the_ends_of_epochs_too(twins: tuple[Finished, Finished]) -> None:
    one, two = twins
    assert len(two.losses) == 10
    assert two.losses == pytest.approx(one.losses, abs=1e-5)
    norms = [[event["grad_norm"] for event in run.events("step")] for run in twins]
    assert norms[1] == pytest.approx(norms[0], abs=1e-4)


def test_rows_of_two_processes_that_are_dealt_anew_teach_the_same(twins: tuple[Finished, Finished]) -> None:
    one, dealt = twins[0], Finished(twins[0].run_dir.parent / "dealt")
    assert dealt.losses == pytest.approx(one.losses, abs=1e-5)
    for ours, theirs in zip(one.events("step"), dealt.events("step"), strict=True):
        assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], abs=1e-4)
        assert theirs["metrics"] == pytest.approx(ours["metrics"], abs=1e-4)


def test_a_validation_counts_no_row_twice(twins: tuple[Finished, Finished]) -> None:
    one, two = ([event["eval_loss"] for event in run.events("eval")] for run in twins)
    assert len(two) == 3
    assert two == pytest.approx(one, abs=1e-5)


def test_tokens_and_memory_are_those_of_all(twins: tuple[Finished, Finished]) -> None:
    one, two = twins
    # rows that fill up the last batches go through the model, too
    assert one.events("step")[0]["tokens"] == two.events("step")[0]["tokens"]
    result = two.json("result.json")
    assert result["tokens"] == two.events("step")[-1]["tokens"]
    assert (result["world_size"], len(result["memory_gb_per_device"])) == (2, 2)
    assert two.events("step")[-1]["memory_gb"] == pytest.approx(max(result["memory_gb_per_device"]), rel=0.2)


def test_the_first_process_speaks_for_the_run_and_each_has_its_own_files(twins: tuple[Finished, Finished]) -> None:
    run = twins[1].run_dir
    assert {path.name for path in run.glob("checkpoints/*")} == {"checkpoint-5", "checkpoint-10"}
    assert {path.name for path in run.glob("checkpoints/checkpoint-10/rng*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert (run / "adapter/adapter_model.safetensors").exists()
    assert len(twins[1].events("sample")) == 4  # at the beginning and with each validation
    assert Finished(run / "ranks/1").events("sample") == []
    one, two = (json.loads((run / f"ranks/{index}/process.json").read_text()) for index in (0, 1))
    assert (one["index"], two["index"], two["world"], two["device"]) == (0, 1, 2, "cpu")
    assert "[training]" in (run / "ranks/1/log.txt").read_text()
    assert not (run / "error.json").exists()
    assert "Warning" not in (run / "log.txt").read_text()


def test_a_save_and_a_stop_reach_all_at_the_same_step(start: Start) -> None:
    worker = begun(start)
    (worker.run_dir / "SAVE").touch()
    worker.until(lambda: worker.events("checkpoint"))
    (worker.run_dir / "STOP").touch()
    ended(worker)
    result = worker.json("result.json")
    assert (worker.wait(), result["stopped"]) == (STOPPED, True)
    assert (worker.run_dir / f"checkpoints/checkpoint-{result['steps']}/rng_state_1.pth").exists()
    assert max(worker.losses) == max(Finished(worker.run_dir / "ranks/1").losses) == result["steps"]
    assert not (worker.run_dir / "SAVE").exists()


def test_a_stop_reaches_answers_that_several_are_writing(start: Start) -> None:
    answers = {"max_completion_length": 200, "num_generations": 2, "gradient_accumulation_steps": 1}
    worker = begun(start, stage="grpo", reward_funcs="length", **answers)
    (worker.run_dir / "STOP").touch()
    assert ended(worker) < AT_ONCE_S
    result = worker.json("result.json")
    assert (worker.wait(), result["stopped"]) == (STOPPED, True)
    assert (worker.run_dir / f"checkpoints/checkpoint-{result['steps']}/rng_state_1.pth").exists()


def test_a_stop_before_the_first_step_ends_all_at_once(start: Start) -> None:
    worker = start("launch", cold=True, parallel_strategy="ddp", **LONG)
    worker.until(lambda: (worker.run_dir / "ranks/1").exists())
    (worker.run_dir / "STOP").touch()
    assert ended(worker) < AT_ONCE_S
    assert worker.wait() == STOPPED
    assert not (worker.run_dir / "error.json").exists()


def test_of_processes_that_fail_together_the_one_that_was_killed_is_the_reason(start: Start) -> None:
    worker = begun(start)
    rank(worker, 1).kill()
    assert ended(worker) < AT_ONCE_S
    card = worker.json("error.json")
    assert worker.wait() == 1
    assert card["message"].startswith(f"Process 1 on {socket.gethostname()} was killed (SIGKILL)")
    assert "torch.distributed.elastic" not in worker.log


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nobody_outlives_the_launcher(start: Start, number: int) -> None:
    worker = begun(start)
    os.kill(worker.process.pid, number)
    assert ended(worker) < AT_ONCE_S


def test_the_reason_that_all_meet_is_told_in_the_first_ones_words(start: Start, tmp_path: Path) -> None:
    worker = start("launch", parallel_strategy="ddp", adapter_name_or_path=[str(tmp_path)])
    ended(worker)
    card = worker.json("error.json")
    assert (worker.wait(), card["kind"]) == (1, "ModelError")
    assert str(tmp_path) in card["message"]


def test_a_port_that_was_asked_for_and_is_taken_is_named(start: Start) -> None:
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        worker = start("launch", parallel_strategy="ddp", master_port=port)
        assert worker.wait() == 1
    assert f"another program listens at {port}" in worker.json("error.json")["message"]
    assert not (worker.run_dir / "ranks/1").exists()


def test_a_process_that_stands_still_is_named(hung: Worker) -> None:
    ended(hung, within_s=120)
    card = hung.json("error.json")
    assert (hung.wait(), card["kind"]) == (1, "PeerTimeout"), f"{card}\n{hung.log}"
    assert card["message"].startswith(f"Process 1 on {socket.gethostname()} stood still"), f"{card}\n{hung.log}"
    assert "30 s (ddp_timeout)" in card["message"]


def planned(run_dir: Path, monkeypatch: pytest.MonkeyPatch, **keys: Any) -> int:
    """How many processes there would be on a machine with four GPUs."""
    monkeypatch.setattr(machine, "gpus", lambda: iter([Gpu(index, "fake", 8, 0, 0) for index in range(4)]))
    for name in (ranks.PARENT, "TORCH_CPP_LOG_LEVEL", "CUDA_DEVICE_ORDER"):
        monkeypatch.setenv(name, "")  # taken back afterwards
    config = parse(TrainConfig, {"dataset": "demo", "parallel_strategy": "ddp", **keys})
    return launch._prepare(config, run_dir, 0)


def test_there_is_a_process_for_each_gpu_that_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert planned(tmp_path, monkeypatch) == 4
    assert int(os.environ["OMP_NUM_THREADS"]) == max(1, len(os.sched_getaffinity(0)) // 4)
    assert planned(tmp_path, monkeypatch, devices="1,3") == 2
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,3"
    with pytest.raises(ParallelError, match="3 processes were asked for and there are 2 GPUs"):
        planned(tmp_path, monkeypatch, nproc_per_node=3)
