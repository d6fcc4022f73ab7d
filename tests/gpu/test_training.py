"""The training of tests/worker on a CUDA device: the same loss, the same promises, the device's own memory."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.worker import door, training
from studio.worker.methods import precision
from studio.worker.stages.supervised import keeps_rows_apart
from tests.worker.conftest import Finished, Start, Train, write_config
from tests.worker.test_training import encoded, hand_over, one_by_one

pytestmark = pytest.mark.gpu
WHOLE = {"max_steps": 1, "save_steps": 0}


def test_bfloat16_is_chosen_and_memory_is_that_of_the_device(train: Train) -> None:
    assert precision(parse(TrainConfig, {"dataset": ["demo"]})) is torch.bfloat16
    torch.cuda.reset_peak_memory_stats()
    [step] = train(**WHOLE).events("step")
    assert 0 < step["memory_gb"] <= torch.cuda.max_memory_allocated() / 1e9  # the process itself takes far more


@pytest.mark.parametrize(
    "keys",
    [
        {"per_device_train_batch_size": 24, "gradient_accumulation_steps": 1},
        {"per_device_train_batch_size": 5, "gradient_accumulation_steps": 5},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 99, "packing": True, "cutoff_len": 90},
        {"per_device_train_batch_size": 24, "gradient_accumulation_steps": 1, "gradient_checkpointing": True},
    ],
    ids=["flat", "flat, accumulated", "packed", "checkpointed"],
)
def test_loss_and_gradient_are_those_of_each_row_alone(train: Train, tiny_model: Path, keys: dict[str, int]) -> None:
    run = train(**WHOLE, bf16=False, finetuning_type="full", **keys)
    loss, norm = one_by_one(tiny_model, encoded(run.run_dir, tiny_model))  # computed on the CPU
    [step] = run.events("step")
    assert step["loss"] == pytest.approx(loss, abs=1e-4)
    assert step["grad_norm"] == pytest.approx(norm, rel=1e-3)


def test_in_bfloat16_too_rows_of_a_trained_model_do_not_see_each_other(train: Train) -> None:
    steps = {**WHOLE, "model_name_or_path": "seedling"}
    flat = train("flat", per_device_train_batch_size=24, gradient_accumulation_steps=1, **steps)
    alone = train("alone", per_device_train_batch_size=1, gradient_accumulation_steps=24, **steps)
    assert flat.losses[1] == pytest.approx(alone.losses[1], rel=0.01)


def test_a_model_whose_rows_see_each_other_is_noticed_in_bfloat16(tiny_model: Path, train: Train) -> None:
    rows = encoded(train(**WHOLE).run_dir, tiny_model)
    ends = (rows[0].input_ids, rows[-1].input_ids)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).to("cuda")
    assert keeps_rows_apart(model, *ends)
    blind = model.forward
    model.forward = lambda position_ids=None, **inputs: blind(**inputs)  # type: ignore[method-assign]
    assert not keeps_rows_apart(model, *ends)


def test_a_resumed_run_goes_on_with_the_same_random_numbers(train: Train) -> None:
    steps = {"max_steps": 8, "save_steps": 4, "save_total_limit": 9, "lora_dropout": 0.3}
    whole = train("whole", **steps)
    hand_over(whole, 4)
    resumed = train("resumed", **steps, resume_from_checkpoint="checkpoints/checkpoint-4")
    later = {step: loss for step, loss in whole.losses.items() if step > 4}
    assert resumed.losses == pytest.approx(later, abs=1e-3)


def test_a_worker_stops_when_asked_and_saves(start: Start) -> None:
    worker = start(max_steps=100_000, save_steps=0)
    worker.until(lambda: len(worker.events("step")) >= 3, timeout_s=120)
    (worker.run_dir / "STOP").touch()
    assert worker.wait() == 10
    assert (worker.run_dir / "adapter/adapter_model.safetensors").exists()
    assert list((worker.run_dir / "checkpoints").iterdir())


def test_a_full_device_is_called_out_of_memory(tmp_path: Path, tiny_model: Path, data_dir: Path) -> None:
    write_config(tmp_path / "run", "train", tiny_model, data_dir, {"model_name_or_path": "seedling"})
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        assert door.serve(tmp_path / "run", training.train) == door.FAILED
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    error = Finished(tmp_path / "run").json("error.json")
    assert error["kind"] == "OutOfMemory"
    assert "CUDA" in error["message"]
    assert error["retry"]
    assert error["retry"].keys() <= {"gradient_checkpointing", "micro_batch_tokens"}
