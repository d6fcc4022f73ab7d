"""A stop request answers within two seconds, whatever the worker is doing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from studio.runs.process import of_run
from studio.worker.stop import STOPPED, Requests
from tests.stopwatch import Stopwatch, kept
from tests.worker.conftest import Start, Worker, make_model, register

ANSWER_S = 2.0


def stop(worker: Worker) -> float:
    """Ask it to stop; seconds until it has ended."""
    with Stopwatch() as watch:
        (worker.run_dir / "STOP").touch()
        assert worker.wait(60) == STOPPED, worker.log
        return watch.seconds


def leaves_nothing(worker: Worker) -> bool:
    outputs = ("adapter", "model", "tmp", "result.json", "error.json")
    return not any((worker.run_dir / name).exists() for name in outputs)


@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.0, 2.5])
def test_during_imports(start: Start, after_s: float) -> None:
    worker = start(cold=True, max_steps=10_000)
    time.sleep(after_s)
    assert stop(worker) < ANSWER_S
    assert leaves_nothing(worker)


def test_before_it_has_begun(start: Start, tmp_path: Path) -> None:
    run_dir = tmp_path / "stopped"
    run_dir.mkdir()
    (run_dir / "STOP").touch()
    worker = start(run_dir=run_dir, cold=True)
    assert worker.wait(ANSWER_S) == STOPPED


@pytest.mark.parametrize("processes", [None, 3], ids=["by amount", "three processes"])
def test_while_tokenising_many_rows(start: Start, tmp_path: Path, processes: int | None) -> None:
    rows = [{"instruction": f"Question {n}" * 20, "input": "", "output": f"Answer {n}" * 20} for n in range(60_000)]
    data_dir = register(tmp_path / "large", demo=rows)
    worker = start(dataset_dir=str(data_dir), preprocessing_num_workers=processes)
    worker.until(lambda: "tokenising demo: " in (worker.json("status.json") or {}).get("message", ""))
    assert stop(worker) < ANSWER_S
    assert leaves_nothing(worker)
    assert worker.phase == "tokenising"
    deadline = time.monotonic() + 5
    while of_run(worker.run_dir):
        assert time.monotonic() < deadline, "its processes outlive it"
        time.sleep(0.05)


def test_while_loading_a_model(start: Start, tmp_path: Path, tokenizer_dir: Path) -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 12}
    worker = start(model_name_or_path=str(make_model(tmp_path / "large", tokenizer_dir, **sizes)))
    worker.until(lambda: "[loading model]" in worker.log)
    assert stop(worker) < ANSWER_S
    assert leaves_nothing(worker)


def test_while_training_it_saves_first(start: Start) -> None:
    def seconds() -> float:
        worker = start(max_steps=100_000, save_steps=0)
        worker.until(lambda: len(worker.losses) > 3)
        took = stop(worker)
        last = max(worker.losses)
        assert (worker.run_dir / f"checkpoints/checkpoint-{last}/trainer_state.json").exists()
        assert (worker.run_dir / "adapter/adapter_model.safetensors").exists()
        assert worker.json("result.json")["stopped"] is True
        assert worker.json("result.json")["steps"] == last
        return took

    assert kept(ANSWER_S, seconds)  # what it saves lies on the disk before it ends, behind what neighbours write


def test_within_a_long_step(start: Start, tmp_path: Path) -> None:
    rows = [{"instruction": f"Question {n}", "input": "", "output": f"Answer {n}"} for n in range(6000)]
    data = register(tmp_path / "large", demo=rows)
    worker = start(dataset_dir=str(data), gradient_accumulation_steps=6000, per_device_train_batch_size=1)
    worker.until(lambda: worker.phase == "training")
    time.sleep(0.5)
    assert stop(worker) < ANSWER_S
    assert not (worker.run_dir / "adapter").exists(), "not one step was done, so there is nothing to keep"


def test_within_a_long_validation(start: Start, tmp_path: Path) -> None:
    rows = [{"instruction": f"Question {n}", "input": "", "output": f"Answer {n}"} for n in range(4000)]
    data = register(tmp_path / "large", demo=rows)

    def seconds() -> float:
        worker = start(dataset_dir=str(data), val_size=3900, eval_steps=2, max_steps=5, per_device_eval_batch_size=1)
        worker.until(lambda: len(worker.losses) == 2)
        took = stop(worker)
        assert (worker.run_dir / "checkpoints/checkpoint-2").exists()
        assert worker.json("result.json")["stopped"] is True
        return took

    assert kept(ANSWER_S, seconds)


def test_a_save_request_is_answered_at_the_next_step(start: Start) -> None:
    worker = start(max_steps=100_000, save_steps=0)
    worker.until(lambda: worker.losses)
    (worker.run_dir / "SAVE").touch()
    worker.until(lambda: worker.events("checkpoint"))
    [event] = worker.events("checkpoint")
    assert (worker.run_dir / event["path"] / "optimizer.pt").exists()
    assert not (worker.run_dir / "SAVE").exists()


def test_a_protected_worker_only_raises_its_flag(tmp_path: Path) -> None:
    requests = Requests(tmp_path, last_words=lambda: None)
    requests.protect()
    (tmp_path / "STOP").touch()
    (tmp_path / "SAVE").touch()
    deadline = time.monotonic() + 0.5
    while not (requests.stop and requests.take_save()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not requests.take_save()
