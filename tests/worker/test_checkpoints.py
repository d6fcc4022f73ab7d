"""Checkpoints of real trainings: when they are written, what of them is taken, and that rows go on where they were."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerControl, TrainerState, TrainingArguments

from studio.config.train import TrainConfig
from studio.runs import checkpoints
from studio.runs.checkpoints import Manifest
from studio.runs.run import Run
from studio.worker.checkpoints.identity import fingerprints
from studio.worker.door import Clock, Desk
from studio.worker.progress import Progress
from studio.worker.report import Reporter
from studio.worker.stop import Requests
from tests.worker.conftest import ROOT, Disk, Finished, Start, Train, Worker, register, write_config

QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
STEPS = {"max_steps": 8, "save_steps": 4, "save_total_limit": 9, "lora_dropout": 0.0}


def steps(run: Finished) -> list[int]:
    return [each.step for each in checkpoints.listed(Run(run.run_dir))]


def rates(run: Finished) -> dict[int, float]:
    return {event["step"]: event["learning_rate"] for event in run.events("step")}


def manifest(run: Finished, step: int) -> Manifest:
    found = Manifest.read(run.run_dir / f"checkpoints/checkpoint-{step}")
    assert found
    return found


def hand_over(run: Finished, name: str, *wanted: int) -> Path:
    """A run directory with these checkpoints of `run`, as the studio makes it with links."""
    target = run.run_dir.parent / name
    for step in wanted:
        folder = f"checkpoints/checkpoint-{step}"
        shutil.copytree(run.run_dir / folder, target / folder)
    return target


@pytest.fixture
def resume(train: Train) -> Any:
    """Go on from a checkpoint of a training, under a name."""

    def _resume(run: Finished, name: str, step: int, **keys: Any) -> Finished:
        hand_over(run, name, step)
        return train(name, **keys, resume_from_checkpoint=f"checkpoints/checkpoint-{step}")

    return _resume


def test_a_manifest_says_what_the_training_was(train: Train) -> None:
    run = train(max_steps=3, save_steps=3)
    found = manifest(run, 3)
    assert (found.step, found.world_size, found.strategy, found.batch) == (3, 1, "single", 4)
    assert found.tokens == run.events("step")[-1]["tokens"]
    assert found.versions["torch"] == torch.__version__
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"} <= set(found.files)
    assert list(found.data) == ["demo"]


def test_an_epoch_is_an_interval(train: Train) -> None:
    # 24 rows in batches of 4 make 6 steps an epoch
    assert steps(train(save_strategy="epoch", save_steps=0, max_steps=14, save_total_limit=9)) == [6, 12, 14]


def test_minutes_are_an_interval(train: Train) -> None:
    run = train(save_steps=0, save_minutes=1e-5, max_steps=6, save_total_limit=9)
    assert len(steps(run)) >= 4


def test_none_is_saved_where_none_is_wanted(train: Train) -> None:
    assert steps(train(save_strategy="no", save_steps=2, max_steps=4)) == []


def test_weights_alone_are_small_and_go_on(train: Train, resume: Any) -> None:
    whole = train("whole", **STEPS)
    bare = train("bare", **STEPS, save_only_model=True)
    assert manifest(bare, 4).weights_only
    assert not {"optimizer.pt", "scheduler.pt"} & set(manifest(bare, 4).files)
    resumed = resume(bare, "resumed", 4, **STEPS, resume_scope="weights")
    assert list(resumed.losses) == [5, 6, 7, 8]
    assert resumed.losses[5] == whole.losses[5]


@pytest.fixture
def whole(train: Train) -> Finished:
    return train("whole", **STEPS, lr_scheduler_type="linear", learning_rate=1e-2)


@pytest.mark.parametrize("scope", ["all", "no_optimizer", "no_scheduler", "weights"])
def test_a_scope_takes_what_it_says(whole: Finished, resume: Any, scope: str) -> None:
    keys = {**STEPS, "lr_scheduler_type": "linear", "learning_rate": 1e-2}
    resumed = resume(whole, scope, 4, **keys, resume_scope=scope)
    after = {step: loss for step, loss in whole.losses.items() if step > 4}
    assert resumed.losses[5] == after[5]
    assert (resumed.losses == after) == (scope == "all")
    kept = {step: rate for step, rate in rates(whole).items() if step > 4}
    anew = {step + 4: rate for step, rate in zip(range(1, 5), [1e-2, 0.75e-2, 0.5e-2, 0.25e-2], strict=True)}
    assert rates(resumed) == pytest.approx(kept if scope in ("all", "no_optimizer") else anew)


def test_a_schedule_that_began_anew_goes_on_from_there(whole: Finished, resume: Any) -> None:
    keys = {**STEPS, "max_steps": 12, "lr_scheduler_type": "linear", "learning_rate": 1e-2}
    anew = resume(whole, "anew", 4, **keys, resume_scope="no_scheduler")
    assert rates(anew) == pytest.approx({step: 1e-2 * (13 - step) / 8 for step in range(5, 13)})
    again = resume(anew, "again", 8, **keys)
    assert rates(again) == {step: rate for step, rate in rates(anew).items() if step > 8}
    assert again.losses == {step: loss for step, loss in anew.losses.items() if step > 8}


def test_another_learning_rate_is_followed_at_once(whole: Finished, resume: Any) -> None:
    resumed = resume(whole, "slower", 4, **STEPS, lr_scheduler_type="linear", learning_rate=1e-3)
    tenth = {step: rate / 10 for step, rate in rates(whole).items() if step > 4}
    assert rates(resumed) == pytest.approx(tenth)


def test_a_longer_training_follows_the_longer_schedule(whole: Finished, resume: Any) -> None:
    longer = {**STEPS, "max_steps": 16, "lr_scheduler_type": "linear", "learning_rate": 1e-2}
    resumed = resume(whole, "longer", 8, **longer)
    assert rates(resumed) == pytest.approx({step: 1e-2 * (17 - step) / 16 for step in range(9, 17)})


def test_intervals_are_those_asked_for_now(whole: Finished, resume: Any) -> None:
    resumed = resume(whole, "often", 4, **{**STEPS, "save_steps": 1})
    assert steps(resumed) == [4, 5, 6, 7, 8]


def test_a_flipped_bit_sends_it_to_the_checkpoint_before(whole: Finished, train: Train) -> None:
    target = hand_over(whole, "resumed", 4, 8)
    shutil.copy(whole.run_dir / "metrics.jsonl", target / "metrics.jsonl")
    states = target / "checkpoints/checkpoint-8/optimizer.pt"
    data = bytearray(states.read_bytes())
    data[len(data) // 2] ^= 1
    states.write_bytes(data)
    keys = {**STEPS, "lr_scheduler_type": "linear", "learning_rate": 1e-2}
    resumed = train("resumed", **keys, resume_from_checkpoint="checkpoints/checkpoint-8")
    assert "checkpoint-8 is damaged (optimizer.pt was altered" in resumed.notes
    told = [event["step"] for event in resumed.events("step")]
    assert told == [1, 2, 3, 4, 5, 6, 7, 8]
    assert resumed.losses == whole.losses


def test_data_that_changed_is_told(train: Train, data_dir: Path, resume: Any) -> None:
    whole = train("whole", **STEPS)
    same = resume(whole, "same", 4, **STEPS)
    assert "is not as it was" not in same.notes
    rows = [{"instruction": f"What is {n} plus two?", "input": "", "output": f"It is {n + 2}."} for n in range(24)]
    register(data_dir, demo=rows)
    assert "the dataset demo is not as it was at step 4" in resume(whole, "other", 4, **STEPS).notes


def test_rows_are_the_same_however_they_were_dealt_out(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import ipc

    rows = pyarrow.table({"row": [1, 2, 3, 4], "ids": [[5], [6, 7], [], [8]], "text": ["a", "b", "", "d"]})
    files = {}
    for name, parts in {"one": [rows], "two": [rows[:1], rows[1:]], "other": [rows[:3]]}.items():
        files[name] = tuple(tmp_path / f"{name}{number}.arrow" for number in range(len(parts)))
        for path, part in zip(files[name], parts, strict=True):
            with ipc.new_stream(path, part.schema) as stream:
                stream.write_table(part)
    found = fingerprints(files)
    assert found["one"] == found["two"] != found["other"]


def test_the_time_left_is_that_of_steps_not_of_finding_the_place(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Reporter(tmp_path), Requests(tmp_path, lambda: None), Clock())
    progress = Progress(desk, TrainConfig(dataset="demo"), tokens=90_000_000)
    asked = (TrainingArguments(output_dir=str(tmp_path), use_cpu=True), TrainerState(global_step=900), TrainerControl())
    asked[1].max_steps = 1000
    progress.on_train_begin(*asked)
    time.sleep(1)  # a stream is read again up to its place
    progress.on_step_begin(*asked)
    time.sleep(0.05)
    progress.tokens += 100
    asked[1].global_step = 901
    progress.on_log(*asked, {"loss": 1.0, "learning_rate": 1e-4, "grad_norm": 1.0})
    desk.reporter.close()
    told = Finished(tmp_path)
    assert told.json("status.json")["eta_s"] < 99 * 0.5
    assert told.events("step")[0]["tokens_per_s"] <= 100 / 0.05


def in_processes(run_dir: Path, processes: int) -> Finished:
    """Train with several processes, which talk over gloo."""
    command = [sys.executable, "-m", "tests.worker.world", str(run_dir), str(processes)]
    done = subprocess.run(command, cwd=ROOT, env=QUIET, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Finished(run_dir)


def test_rows_go_on_where_they_were_with_more_processes_and_fewer(
    train: Train, tmp_path: Path, tiny_model: Path, data_dir: Path
) -> None:
    usual = {**STEPS, "max_steps": 14, "bf16": False}
    whole = train("whole", **usual)
    keys = {**usual, "parallel_strategy": "ddp", "nproc_per_node": 2, "gradient_accumulation_steps": 1}
    two = hand_over(whole, "two", 4)
    write_config(two, "train", tiny_model, data_dir, {**keys, "resume_from_checkpoint": "checkpoints/checkpoint-4"})
    more = in_processes(two, 2)
    assert more.losses == pytest.approx({step: whole.losses[step] for step in range(5, 15)}, abs=1e-5)
    assert manifest(more, 8).batch == manifest(whole, 8).batch == 4
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(manifest(more, 8).files)
    hand_over(more, "one", 8)
    fewer = train("one", **usual, resume_from_checkpoint="checkpoints/checkpoint-8")
    assert fewer.losses == pytest.approx({step: whole.losses[step] for step in range(9, 15)}, abs=1e-5)


@pytest.mark.parametrize("strategy", ["ddp", "zero2"])
def test_a_full_disk_stops_none_of_several_processes(
    disk: Disk, tiny_model: Path, data_dir: Path, strategy: str
) -> None:
    run_dir = disk.path / "run"
    method = {"finetuning_type": "full", "learning_rate": 1e-6} if strategy == "zero2" else {}
    keys = {"parallel_strategy": strategy, "nproc_per_node": 2, "max_steps": 100_000, "save_steps": 0, **method}
    write_config(run_dir, "train", tiny_model, data_dir, keys)
    with open(run_dir / "log.txt", "wb") as log:
        command = [sys.executable, "-m", "tests.worker.world", str(run_dir), "2"]
        process = subprocess.Popen(command, cwd=ROOT, env=QUIET, stdout=log, stderr=log, start_new_session=True)
    worker = Worker(run_dir, process)
    try:
        worker.until(lambda: worker.losses)
        disk.fill(leave_bytes=200_000)
        (run_dir / "SAVE").touch()
        worker.until(lambda: worker.notes)
        assert "no room to write" in worker.notes
        assert "last checkpoint: none so far" in worker.notes
        disk.empty()
        (run_dir / "SAVE").touch()
        worker.until(lambda: worker.events("checkpoint"))
        (run_dir / "STOP").touch()
        assert worker.wait() == 10
        assert all(each.is_complete for each in checkpoints.listed(Run(run_dir)))
    finally:
        if process.poll() is None:
            worker.kill()


def test_a_kill_leaves_only_whole_checkpoints_and_the_curve_goes_on_exactly(start: Start) -> None:
    keys = {"finetuning_type": "full", "max_steps": 12, "save_steps": 1, "save_total_limit": 2}
    whole = start(**keys)
    killed = start(**keys)
    killed.until(lambda: len(killed.losses) > 3)
    time.sleep(random.uniform(0, 0.05))  # a step and its checkpoint take about as long
    killed.kill()
    assert whole.wait() == 0, whole.log
    known = checkpoints.listed(Run(killed.run_dir))
    assert known
    assert [checkpoints.verify(each.path, deep=True) for each in known] == [[]] * len(known)
    target = hand_over(killed, "resumed", *(each.step for each in known))
    name = f"checkpoints/{known[-1].path.name}"
    resumed = start(run_dir=target, **keys, resume_from_checkpoint=name)
    assert resumed.wait() == 0, resumed.log
    after = {step: loss for step, loss in whole.losses.items() if step > known[-1].step}
    assert resumed.losses == after
    ours, theirs = (load_file(run.run_dir / "model/model.safetensors") for run in (resumed, whole))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
