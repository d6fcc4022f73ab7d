"""Trainings as processes: their files, their error cards, and what a kill or a full disk leaves behind."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from studio.models import check_adapter
from studio.runs import checkpoints
from studio.runs.run import Run
from tests.worker.conftest import Disk, Start, Train, Worker, make_model, spawn, write_config


def whole_checkpoints(run_dir: Path) -> list[int]:
    """Steps of all checkpoints; each must be whole."""
    known = checkpoints.listed(Run(run_dir))
    assert [verify for each in known for verify in checkpoints.verify(each.path, deep=True)] == []
    assert all(each.manifest for each in known)
    return [each.step for each in known]


def test_a_training_from_run_directory_to_adapter(start: Start, tiny_model: Path) -> None:
    worker = start(cold=True)
    assert worker.wait() == 0, worker.log
    assert [event["step"] for event in worker.events("step")] == [1, 2, 3, 4, 5, 6]
    assert whole_checkpoints(worker.run_dir) == [2, 4, 6]
    adapter = check_adapter(worker.run_dir / "adapter")
    assert (adapter.rank, adapter.base) == (8, str(tiny_model))
    assert worker.json("result.json")["output"] == "adapter"
    assert worker.json("status.json")["step"] == worker.json("status.json")["total_steps"] == 6
    assert "started in" in worker.log
    assert not (worker.run_dir / "tmp").exists()


def test_old_checkpoints_are_deleted(train: Train) -> None:
    run = train(max_steps=6, save_steps=1, save_total_limit=2)
    assert whole_checkpoints(run.run_dir) == [5, 6]
    assert len(run.events("checkpoint")) == 6


def card(worker: Worker) -> str:
    assert worker.wait() == 1, worker.log
    assert not (worker.run_dir / "result.json").exists()
    error = worker.json("error.json")
    assert set(error) == {"kind", "message", "hint", "retry", "at"}
    return f"{error['kind']}: {error['message']} {error['hint']}"


def test_a_missing_model_leaves_an_error_card(start: Start, tmp_path: Path) -> None:
    worker = start(model_name_or_path=str(tmp_path / "absent"))
    assert "ModelError:" in card(worker)
    assert str(tmp_path / "absent") in card(worker)


def test_a_broken_loss_leaves_an_error_card(start: Start) -> None:
    keys = {"finetuning_type": "full", "learning_rate": 1.0, "optim": "sgd", "max_grad_norm": 1e30}
    worker = start(max_steps=60, save_steps=1, **keys)
    message = card(worker)
    assert message.startswith("Diverged: the ")
    assert not (worker.run_dir / "tmp").exists()
    assert "Lower learning_rate" in message


@pytest.mark.parametrize("moment", ["[starting]", "[tokenising]", "[loading model]", "[training]"])
def test_a_kill_leaves_no_output(start: Start, moment: str) -> None:
    worker = start(cold=moment == "[starting]", max_steps=100_000, save_steps=0)
    worker.until(lambda: moment in worker.log)
    worker.kill()
    left = {path.name for path in worker.run_dir.iterdir() if not path.name.startswith(".")}
    assert left <= {"config.yaml", "log.txt", "status.json", "metrics.jsonl", "tmp"}


@pytest.fixture(scope="module")
def middling_model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """Large enough that its checkpoint takes a noticeable while to write."""
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4}
    return make_model(tmp_path_factory.mktemp("middling"), tokenizer_dir, **sizes)


def test_a_kill_while_a_checkpoint_is_written_leaves_a_resumable_run(start: Start, middling_model: Path) -> None:
    keys = {
        "model_name_or_path": str(middling_model),
        "finetuning_type": "full",
        "max_steps": 4,
        "save_steps": 1,
    }
    worker = start(**keys)
    worker.until(lambda: (worker.run_dir / "tmp/checkpoints/checkpoint-2/optimizer.pt").exists())
    worker.kill()
    assert whole_checkpoints(worker.run_dir) == [1]
    assert not (worker.run_dir / "model").exists()
    target = worker.run_dir.parent / "resumed"
    shutil.copytree(worker.run_dir / "checkpoints", target / "checkpoints")
    resumed = start(run_dir=target, **keys, resume_from_checkpoint="checkpoints/checkpoint-1")
    assert resumed.wait() == 0, resumed.log
    assert list(resumed.losses) == [2, 3, 4]
    assert resumed.losses[2] == worker.losses[2]


def test_a_kill_while_the_model_is_saved_leaves_no_model(start: Start, middling_model: Path) -> None:
    worker = start(model_name_or_path=str(middling_model), finetuning_type="full", max_steps=1, save_steps=0)
    worker.until(lambda: (worker.run_dir / "tmp/model").exists())
    worker.kill()
    assert not (worker.run_dir / "model").exists()
    assert not (worker.run_dir / "result.json").exists()


@pytest.fixture
def run_on(disk: Disk, tiny_model: Path, data_dir: Path) -> Path:
    """A run directory on the small disk."""
    run_dir = disk.path / "run"
    write_config(run_dir, "train", tiny_model, data_dir, {"max_steps": 100_000, "save_steps": 0})
    return run_dir


def test_a_full_disk_does_not_end_a_training(disk: Disk, run_on: Path) -> None:
    worker = spawn("train", run_on)
    try:
        worker.until(lambda: worker.losses)
        disk.fill()
        time.sleep(2)
        missing = max(worker.losses)
        disk.empty()
        worker.until(lambda: max(worker.losses) > missing + 5)
        losses = worker.losses
        assert sorted(losses) == list(range(1, max(losses) + 1))
    finally:
        worker.kill()


def test_no_room_for_a_checkpoint_is_a_warning_and_the_last_one_stays(disk: Disk, run_on: Path) -> None:
    worker = spawn("train", run_on)
    try:
        worker.until(lambda: worker.losses)
        (run_on / "SAVE").touch()
        worker.until(lambda: worker.events("checkpoint"))
        disk.fill(leave_bytes=200_000)
        (run_on / "SAVE").touch()
        worker.until(lambda: worker.notes)
        assert "no room to write" in worker.notes
        assert "last checkpoint: checkpoints/checkpoint-" in worker.notes
        step = max(worker.losses)
        worker.until(lambda: max(worker.losses) > step)
        assert len(whole_checkpoints(run_on)) == 1
        disk.empty()
        (run_on / "SAVE").touch()
        worker.until(lambda: len(worker.events("checkpoint")) == 2)
        assert len(whole_checkpoints(run_on)) == 2
    finally:
        worker.kill()


def test_no_room_for_the_adapter_is_a_failure_with_a_card(disk: Disk, tiny_model: Path, data_dir: Path) -> None:
    run_dir = disk.path / "run"
    write_config(run_dir, "train", tiny_model, data_dir, {"max_steps": 1, "save_steps": 0, "lora_rank": 256})
    disk.fill(leave_bytes=300_000)
    worker = spawn("train", run_dir)
    assert "DiskFull: no room to write" in card(worker)
    assert not (run_dir / "adapter").exists()
    assert not list((run_dir / "tmp").rglob("*.safetensors"))
