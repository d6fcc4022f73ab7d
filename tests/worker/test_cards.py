"""Failure cards, each from a failure that really happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.config.load import load_run_config, parse
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.worker import cards, door
from studio.worker.divergence import Diverged, LossZero
from tests.worker.conftest import Disk, Finished, make_model, register, train_here, write_config

Fail = Callable[..., dict[str, Any]]


@pytest.fixture
def fail(tmp_path: Path, tiny_model: Path, data_dir: Path) -> Fail:
    """Train in this process, through the front door, to the failure; its card."""
    from studio.worker import training

    def _fail(model: Path = tiny_model, **keys: Any) -> dict[str, Any]:
        run_dir = tmp_path / "failed"
        write_config(run_dir, "train", model, data_dir, keys)
        assert door.serve(run_dir, training.train) == door.FAILED
        error = Finished(run_dir).json("error.json")
        assert parse(TrainConfig, {**load_run_config(run_dir / "config.yaml").model_dump(), **error["retry"]})
        return dict(error)

    return _fail


def test_a_batch_beyond_all_memory(fail: Fail, data_dir: Path) -> None:
    words = "seed water light root " * 400
    register(data_dir, long=[{"instruction": str(number), "input": "", "output": words} for number in range(600)])
    # with a mask of all tokens by all tokens
    keys = {"flash_attn": "sdpa", "gradient_checkpointing": "on"}
    error = fail(dataset="long", per_device_train_batch_size=1024, cutoff_len=512, **keys)
    assert error["kind"] == "OutOfMemory"
    assert "allocate" in error["message"]
    assert error["retry"]["per_device_train_batch_size"] < 600
    assert error["retry"]["gradient_accumulation_steps"] > 2
    assert f"per_device_train_batch_size: {error['retry']['per_device_train_batch_size']}" in error["hint"]
    assert "GB instead of" in error["hint"]


@pytest.mark.parametrize(("workers", "retry"), [(None, {"preprocessing_num_workers": 1}), (1, {})])
def test_memory_that_runs_out_while_rows_are_read(
    tmp_path: Path, tiny_model: Path, data_dir: Path, workers: int | None, retry: dict[str, Any]
) -> None:
    write_config(tmp_path, "train", tiny_model, data_dir, {"preprocessing_num_workers": workers})
    with pytest.raises(MemoryError) as raised:
        bytearray(1 << 62)
    card = cards.of(raised.value, tmp_path, "tokenising")
    assert (card.kind, card.retry) == ("OutOfMemory", retry)
    assert "max_samples" in card.hint


def test_a_loss_that_is_no_number_is_tried_again_more_gently(fail: Fail) -> None:
    wild = {"finetuning_type": "full", "learning_rate": 1.0, "optim": "sgd", "max_grad_norm": 1e30}
    error = fail(**wild, max_steps=60, save_steps=0)
    assert error["kind"] == "Diverged"
    assert error["retry"] == {"learning_rate": 2e-5, "warmup_ratio": 0.05}


def test_tokens_that_the_model_does_not_know_until_it_grows(
    fail: Fail, tmp_path: Path, tokenizer_dir: Path, data_dir: Path
) -> None:
    small = make_model(tmp_path / "small", tokenizer_dir, vocab_size=256)
    error = fail(small)
    assert error["kind"] == "TokenizerMismatch"
    assert "the model knows only 256 tokens (0 to 255)" in error["message"]
    assert error["retry"] == {"resize_vocab": True}
    write_config(tmp_path / "again", "train", small, data_dir, error["retry"])
    train_here(tmp_path / "again")
    assert Finished(tmp_path / "again").json("result.json")["steps"] == 6


def test_a_row_at_fault_is_named_with_where_to_mend_it(fail: Fail, data_dir: Path) -> None:
    (data_dir / "demo.json").write_text('[{"instruction": "a", "input": "", "output": "b"}, {"instruction": ')
    error = fail()
    assert "row 2" in error["message"]
    assert "Checks" in error["hint"]


def test_a_disk_without_room(disk: Disk, tiny_model: Path, data_dir: Path) -> None:
    write_config(disk.path / "run", "train", tiny_model, data_dir, {})
    disk.fill()
    with pytest.raises(OSError, match="No space left") as raised:
        (disk.path / "more").write_bytes(b"x" * 100_000)
    card = cards.of(raised.value, disk.path / "run", "saving")
    assert (card.kind, card.retry) == ("DiskFull", {"save_total_limit": 1})
    assert "keep fewer checkpoints" in card.hint


def test_what_fp16_breaks_is_tried_again_in_bf16(tmp_path: Path, tiny_model: Path, data_dir: Path) -> None:
    write_config(tmp_path, "train", tiny_model, data_dir, {"fp16": True})
    for error in (Diverged("the loss is not a number", {}), LossZero("the loss was exactly zero", {})):
        card = cards.of(error, tmp_path, "training")
        assert (card.kind, card.retry) == (type(error).__name__, {"fp16": False, "bf16": True})
    write_config(tmp_path / "other", "train", tiny_model, data_dir, {"warmup_steps": 3})
    assert cards.of(LossZero("zero", {}), tmp_path / "other", "training").retry == {}
    assert cards.of(Diverged("nan", {}), tmp_path / "other", "training").retry == {"learning_rate": 1e-4}


def test_problems_of_a_configuration_stand_alone(tmp_path: Path) -> None:
    card = cards.of(ConfigError([]), tmp_path, "starting")
    assert (card.kind, card.hint, card.retry) == ("ConfigError", "", {})


def test_what_nobody_foresaw_points_to_the_log(tmp_path: Path) -> None:
    card = cards.of(RuntimeError("the moon fell"), tmp_path, "training")
    assert (card.kind, card.message, card.retry) == ("RuntimeError", "the moon fell", {})
    assert "log" in card.hint
