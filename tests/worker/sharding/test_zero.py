"""ZeRO on two processes: what it goes on from, what is looked at while no process holds the model, and what comes out.

That it trains as one process does is tried beside the other strategies, in tests/worker/test_strategies.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from studio import models
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.errors import ModelError, NotResumable
from studio.worker import sharding
from studio.worker.ranks import Rank
from tests.worker.conftest import Finished, Start, Train, make_model, register, spawn, write_config

CLOSE = 1e-5
CHECKPOINT = "checkpoints/checkpoint-3"
# two groups of weights: what DeepSpeed's universal checkpoints mix up otherwise shows
FULL: dict[str, Any] = {"finetuning_type": "full", "weight_decay": 0.1, "save_steps": 3}

Shard = Callable[..., Finished]


def shard_in(run_dir: Path, model: Path, data: Path, processes: int, keys: dict[str, Any]) -> Finished:
    """Train with ZeRO to the end: four rows in a step, whatever the number of processes."""
    steps = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2 // processes}
    write_config(run_dir, "train", model, data, {**steps, "nproc_per_node": processes, **keys})
    worker = spawn("launch", run_dir)
    assert worker.wait() == 0, worker.log
    return worker


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A folder, whose name is also a pattern, with a tied model in float32, and rows of two kinds."""
    folder = tmp_path_factory.mktemp("zero") / "my (own) [a-b]+*"
    folder.mkdir()
    make_model(folder / "model", tokenizer_dir, dtype=torch.float32)
    rows = [{"instruction": f"What is {n} plus one?", "input": "", "output": f"It is {n + 1}."} for n in range(24)]
    register(folder / "data", demo=rows)
    return folder


@pytest.fixture(scope="module")
def shard(place: Path) -> Shard:
    """Train with ZeRO in a run directory of that name, and hand back the run; `after` is one to go on from."""

    def _shard(name: str, processes: int = 2, after: Finished | None = None, **keys: Any) -> Finished:
        resumed = {}
        if after:
            shutil.copytree(after.run_dir / CHECKPOINT, place / name / CHECKPOINT)
            resumed = {"resume_from_checkpoint": CHECKPOINT}
        return shard_in(place / name, place / "model", place / "data", processes, {**keys, **resumed})

    return _shard


@pytest.fixture(scope="module")
def third(shard: Shard) -> Finished:
    """A full training with ZeRO-3 that is validated at its end."""
    return shard("third", parallel_strategy="zero3", val_size=4, eval_steps=6, **FULL)


def apart(left: Finished, right: Finished) -> float:
    """How far the losses of two runs are from each other from step 4 on."""
    assert set(range(4, 7)) <= left.losses.keys() & right.losses.keys()
    return max(abs(left.losses[step] - right.losses[step]) for step in range(4, 7))


def test_settings_are_kept_as_they_ran(third: Finished) -> None:
    kept = third.json("deepspeed.json")
    assert '"auto"' not in json.dumps(kept)
    assert kept["train_batch_size"] == 4
    assert kept["zero_optimization"]["stage"] == 3
    assert kept["zero_optimization"]["reduce_bucket_size"] == 64 * 64


def test_goes_on_with_any_number_of_processes(third: Finished, shard: Shard) -> None:
    keys = {"parallel_strategy": "zero3", "val_size": 4, "eval_steps": 6, **FULL}
    again = shard("third-again", after=third, **keys, sample_prompts="What is 3 plus one?", sample_steps=6)
    assert apart(third, again) == 0
    assert [event["step"] for event in again.events("sample")] == [6]  # all processes write it together
    assert apart(third, shard("third-alone", 1, after=third, **keys)) <= CLOSE


def test_other_stages_go_on_with_the_weights(third: Finished, shard: Shard) -> None:
    keys = {"val_size": 4, "eval_steps": 6, **FULL}
    run = shard("weights", after=third, parallel_strategy="zero2", resume_scope="weights", **keys)
    assert run.losses[4] == pytest.approx(third.losses[4], abs=CLOSE)
    assert run.losses[6] != pytest.approx(third.losses[6], abs=CLOSE)


def test_an_adapter_goes_on_with_another_number(shard: Shard) -> None:
    keys = {"parallel_strategy": "zero2", "save_steps": 3, "lora_dropout": 0.0}
    run = shard("second", **keys)
    assert apart(run, shard("second-alone", 1, after=run, **{**keys, "parallel_strategy": "zero1"})) <= CLOSE


def test_an_optimizer_of_one_moment_is_not_dealt_out_anew(shard: Shard, place: Path) -> None:
    keys = {"parallel_strategy": "zero3", "optim": "sgd", "save_steps": 3, "max_steps": 3, "finetuning_type": "full"}
    run = shard("plain", **keys)
    from studio.worker.sharding import universal

    with pytest.raises(NotResumable, match="cannot be dealt out to another number of processes"):
        universal.convert(run.run_dir / CHECKPOINT, place / "plain/tmp/universal/checkpoint-3")


def test_the_model_is_consolidated_from_its_parts(third: Finished, place: Path) -> None:
    (third.run_dir / "exit.json").write_text('{"code": 0, "at": 0}')
    run_dir = place / "consolidated"
    run_dir.mkdir()
    (run_dir / "config.yaml").write_text("kind: consolidate\nrun: third\nstep: 6\nexport_dtype: float32\n")
    worker = spawn("consolidate", run_dir)
    assert worker.wait() == 0, worker.log
    parts, whole = (load_file(run / "model/model.safetensors") for run in (run_dir, third.run_dir))
    assert parts.keys() == whole.keys()  # what is tied is there once
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    assert models.check(run_dir / "model").has_chat_template
    assert worker.json("result.json")["output"] == "model"


def test_preference_learns_beside_a_sharded_reference(start: Start, train: Train, tmp_path: Path) -> None:
    rows = [{"instruction": f"{n}?", "chosen": f"Yes, {n}.", "rejected": f"No, {n}."} for n in range(12)]
    data = register(tmp_path / "pairs", pairs=rows)
    columns = {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}
    entry = {"file_name": "pairs.json", "ranking": True, "columns": columns}
    (data / "dataset_info.json").write_text(json.dumps({"pairs": entry}))
    keys = {
        "stage": "dpo", "dataset": ["pairs"], "dataset_dir": str(data), "finetuning_type": "full", "max_steps": 3,
        "save_steps": 0, "per_device_train_batch_size": 2,
    }  # fmt: skip
    worker = start("launch", **keys, parallel_strategy="zero3", nproc_per_node=2, gradient_accumulation_steps=1)
    assert worker.wait() == 0, worker.log
    assert worker.losses == pytest.approx(train(**keys).losses, abs=CLOSE)


def test_altered_weights_below_an_adapter_are_gathered(start: Start, train: Train) -> None:
    keys = {"pissa_init": True, "max_steps": 2, "save_steps": 0, "per_device_train_batch_size": 2}
    worker = start("launch", **keys, parallel_strategy="zero3", nproc_per_node=2, gradient_accumulation_steps=1)
    assert worker.wait() == 0, worker.log
    alone = train(**keys)
    for name in ("base/model.safetensors", "adapter/adapter_model.safetensors"):
        left, right = load_file(worker.run_dir / name), load_file(alone.run_dir / name)
        assert left.keys() == right.keys()
        assert max(float((left[key].float() - right[key].float()).abs().max()) for key in left) < 1e-3


def test_new_tokens_beside_an_adapter_need_gpus_in_the_third_stage(tiny_model: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there are GPUs here")
    keys = {"dataset": ["demo"], "parallel_strategy": "zero3", "resize_vocab": True, "add_tokens": ["<a>"]}
    held = sharding.of(parse(TrainConfig, keys), Rank(), tmp_path)
    with pytest.raises(ModelError, match="new tokens beside an adapter on GPUs only"):
        held.begin(torch.float32, models.check(tiny_model))


def test_an_nvme_disk_needs_tools_that_are_named(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"dataset": ["demo"], "parallel_strategy": "zero3", "offload_optimizer": "nvme", "nvme_path": str(tmp_path)}
    held = sharding.of(parse(TrainConfig, keys), Rank(), tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match="offloading to nvme needs g\\+\\+, ninja-build"):
        held.begin(torch.float32, models.check(tiny_model))
