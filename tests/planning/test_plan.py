"""The plan of a training: what is known, what is not, and what to change where it will not fit."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studio import machine
from studio.config.data import DataConfig
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.datasets import statistics
from studio.datasets.registry import Registry
from studio.datasets.statistics import Statistics
from studio.errors import ModelError
from studio.files import write_json
from studio.machine import Gpu, Machine
from studio.models import folder_of
from studio.planning import another_try, look, plan, schedule, shape, ways
from studio.planning.batch import Lengths
from studio.planning.memory import estimate
from studio.planning.passes import Passes, course
from studio.planning.plan import Plan
from studio.planning.relief import relief
from studio.planning.rows import Known, known
from studio.runs import events
from studio.runs.events import Step
from studio.runs.store import Store

GB = 10**9
DDP, LORA = {"parallel_strategy": "ddp"}, {"finetuning_type": "lora"}
ROOMY = Machine(None, 24 * GB, 500 * GB)
H100 = Machine(Gpu(0, "NVIDIA H100 80GB HBM3", 80 * GB, 1 * GB, 0), 50 * GB, 500 * GB)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"instruction": "Who are you?", "input": "", "output": "word " * (10 + number)} for number in range(50)]
    (folder / "demo.json").write_text(json.dumps(rows))
    (folder / "dataset_info.json").write_text(json.dumps({"demo": {"file_name": "demo.json"}}))
    return Registry(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "saves")


@pytest.fixture
def ask(registry: Registry, store: Store) -> Any:
    def _ask(where: Machine = ROOMY, **keys: Any) -> Plan:
        return plan(parse(TrainConfig, {"dataset": "demo", **keys}), registry, where, store)

    return _ask


def test_a_small_training_fits(ask: Any) -> None:
    found = ask(per_device_train_batch_size=4, gradient_accumulation_steps=3, num_train_epochs=2)
    assert found.effective_batch == 12
    assert (found.schedule.rows, found.schedule.steps) == (50, 2 * 5)  # 13 batches are 5 steps
    assert found.trainable == 233_472
    assert found.parameters == 5_770_496 + 233_472
    assert found.verdict.fits
    assert found.verdict.words.startswith("fits: ")
    assert found.verdict.words.endswith(" of 24.0 GB")
    assert found.seconds is None
    assert ["measure them" in text for text in found.unknown] == [True]


def test_what_will_not_fit_says_what_to_lower(ask: Any) -> None:
    cramped = replace(ROOMY, memory_free=int(1.2 * GB))
    found = ask(cramped, per_device_train_batch_size=64, gradient_accumulation_steps=1, finetuning_type="full")
    assert not found.verdict.fits
    retry = found.verdict.retry
    assert retry["per_device_train_batch_size"] * retry["gradient_accumulation_steps"] == 64
    assert "will not fit: needs" in found.verdict.words
    assert f"per_device_train_batch_size: {retry['per_device_train_batch_size']}" in found.verdict.words
    changed = {"per_device_train_batch_size": 64, "gradient_accumulation_steps": 1, "finetuning_type": "full", **retry}
    assert ask(cramped, **changed).verdict.fits


def test_no_setting_helps_a_model_that_is_too_large(ask: Any) -> None:
    found = ask(replace(ROOMY, memory_free=GB // 10))
    assert found.verdict.retry is None
    assert "choose a smaller model" in found.verdict.words


def test_almost_all_that_is_free_is_called_tight(ask: Any) -> None:
    needs = ask().verdict.memory.total_gb
    assert ask(
        replace(ROOMY, memory_free=int(1.03 * needs * GB)), gradient_checkpointing="off"
    ).verdict.words.startswith("tight")


def test_what_is_not_here_is_unknown_and_the_rest_is_told(ask: Any) -> None:
    found = ask(model_name_or_path="somebody/else", max_steps=7)
    assert found.verdict is None
    assert found.parameters is None
    assert found.schedule.steps == 7
    assert any("not on this machine" in text for text in found.unknown)
    lost = ask(dataset="gone")
    assert lost.schedule.rows is None
    assert lost.verdict.fits
    assert any(text.startswith("gone: ") for text in lost.unknown)


def test_a_damaged_model_is_told(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.json").write_text("{}")
    (tmp_path / "broken/model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    found = ask(model_name_or_path=str(tmp_path / "broken"))
    assert any("sizes of a language model" in text for text in found.unknown)
    with pytest.raises(ModelError, match=r"no config\.json"):
        shape.read(tmp_path)


def test_a_change_of_the_form_costs_little(ask: Any) -> None:
    ask()
    spent = []
    for rows in range(1, 8):
        begin = time.process_time()
        ask(per_device_train_batch_size=rows)
        spent.append(time.process_time() - begin)
    assert min(spent) < 0.04  # measured: 0.01


def test_time_comes_from_the_last_run_of_that_model_by_that_method_there(ask: Any, store: Store) -> None:
    fast = _past(store, 400.0)
    _past(store, 999.0, finetuning_type="full")
    _past(store, 888.0, device="another GPU")
    found = ask(max_steps=10)
    assert (found.pace.run_id, found.pace.tokens_per_s) == (fast, 400.0)
    assert found.seconds == pytest.approx(found.schedule.tokens / 400)


def _past(store: Store, rate: float, device: str = "CPU", **keys: Any) -> str:
    run = store.create(parse(TrainConfig, {"dataset": "demo", **keys}))
    for number in range(5):
        step = Step(number, 1.0, 1e-4, 1.0, 10, rate if number else 1.0, 0.1, 1.0, at=1.0)
        events.append(run.metrics, step)
    write_json(run.path / "result.json", {"output": "adapter", "device": device})
    return run.id


def test_measured_lengths_are_taken_before_guesses(registry: Registry) -> None:
    config = parse(TrainConfig, {"dataset": "demo", "packing": True, "cutoff_len": 128})
    guess = known(config, registry, "demo")
    assert (guess.rows, guess.measured, guess.sequences) == (50, False, None)
    assert guess.lengths.longest <= 128
    _measure(registry, config)
    exact = known(config, registry, "demo")
    assert exact == Known(48, Lengths(100, 60.0), True, 30)
    assert known(config.model_copy(update={"max_samples": 24}), registry, "demo").sequences == 15
    assert schedule.of(config, [exact]).steps == 3 * 2  # 30 sequences, 2 a batch, 8 batches a step


def _measure(registry: Registry, config: TrainConfig) -> None:
    """Leave statistics as a measurement does."""
    asked = DataConfig(action="statistics", dataset=("demo",), model_name_or_path="seedling", cutoff_len=128)
    empty: dict[str, Any] = dict.fromkeys(
        ("first_trained", "prompt_lengths", "response_lengths", "turns", "languages", "sightings"), ()
    )
    numbers = {
        "rows": 50,
        "rows_read": 50,
        "rows_measured": 49,
        "untrained": 1,
        "kept_rows": 48,
        "seconds": 0.1,
        "tools_left_out": 0,
    }
    tokens = {"tokens": 3000, "trained": 2000, "kept_tokens": 2880, "kept_trained": 1900, "packed_sequences": 30}
    made = Statistics(
        dataset="demo", model="seedling", cutoff_len=128, lengths=((50, 40), (100, 9)), languages_read=0,
        **numbers, **tokens, **empty,
    )  # fmt: skip
    statistics.keep(registry, asked, made)


@pytest.mark.parametrize(
    ("keys", "rows"),
    [
        ({}, 40),
        ({"mix_strategy": "interleave_under"}, 20),
        ({"mix_strategy": "interleave_over"}, 60),
        ({"mix_strategy": "interleave_over", "interleave_probs": "0.25,0.75"}, 40),
        ({"val_size": 0.25}, 30),
        ({"val_size": 5}, 35),
    ],
)
def test_rows_of_a_mixture(keys: dict[str, Any], rows: int) -> None:
    config = parse(TrainConfig, {"dataset": "a,b", **keys})
    parts = [Known(10, Lengths(64, 32), True), Known(30, Lengths(64, 32), True)]
    assert schedule.of(config, parts).rows == rows


def test_a_dataset_that_nobody_counted_leaves_the_steps_open() -> None:
    parts = [Known(None, Lengths(64, 32), False)]
    assert schedule.of(parse(TrainConfig, {"dataset": "a"}), parts).steps is None
    assert schedule.of(parse(TrainConfig, {"dataset": "a", "max_steps": 9}), parts).tokens == 9 * 16 * 32


def test_disk_holds_checkpoints_with_the_optimizer_and_the_output(ask: Any) -> None:
    keys = {"finetuning_type": "full", "max_steps": 100, "save_steps": 10, "bf16": False}
    found = ask(**keys)
    weights = 5_770_496 * 4
    assert found.disk_gb * GB == pytest.approx((3 + 1) * 3 * weights + weights / 2, rel=0.01)
    assert ask(**{**keys, "save_steps": 0}).disk_gb * GB == pytest.approx(weights / 2, rel=0.05)


def test_checkpointing_is_chosen_where_memory_needs_it() -> None:
    config, model = (
        parse(TrainConfig, {"dataset": "a", "per_device_train_batch_size": 8}),
        shape.read(folder_of("seedling")),
    )
    lengths = Lengths(2048, 2048)
    short = replace(ROOMY, memory_free=2 * GB)
    assert course(config, model, lengths, ROOMY).passes == Passes(None, 0)
    assert course(config, model, lengths, short).passes.recomputed > 0
    forced = config.model_copy(update={"gradient_checkpointing": "off"})
    assert course(forced, model, lengths, short).passes == Passes(None, 0)


def test_every_part_grows_with_what_it_depends_on() -> None:
    model, lengths = shape.read(folder_of("seedling")), Lengths(2048, 2048)

    def memory(**keys: Any) -> Any:
        from studio.planning import batch

        config = parse(TrainConfig, {"dataset": "a", **keys})
        recomputed = model.layers if config.gradient_checkpointing == "on" else 0
        return estimate(config, model, batch.of(config, lengths), True, recomputed)

    lora, full = memory(per_device_train_batch_size=4), memory(per_device_train_batch_size=4, finetuning_type="full")
    assert full.gradients > lora.gradients
    assert full.optimizer > lora.optimizer
    assert memory(gradient_checkpointing="on").activations < lora.activations
    assert memory(per_device_train_batch_size=16).activations > 3 * lora.activations
    assert memory(quantization_bit=4).weights < lora.weights
    assert memory(per_device_train_batch_size=4, label_smoothing_factor=0.1).logits > lora.logits
    assert memory(stage="dpo", finetuning_type="full").reference > 0 == memory(stage="dpo").reference
    assert memory(stage="kto", pref_loss="simpo", finetuning_type="full").reference > 0  # a loss of dpo alone
    assert memory(finetuning_type="full", optim="sgd").optimizer < full.optimizer


def test_trained_layers_have_copies_and_keep_narrow_states() -> None:
    from studio.planning import batch

    config = parse(TrainConfig, {"dataset": "a", "finetuning_type": "full"})
    model = shape.read(folder_of("seedling"))
    expected = replace(ways.of(config, model, True), kernels=True, stream=True)
    assert expected.dense
    assert not any(ways.of(config.model_copy(update=keys), model, True).dense for keys in ({"fp16": True}, DDP, LORA))
    assert not ways.of(config, model, False).dense

    def memory(**keys: Any) -> Any:
        of = batch.of(config, Lengths(2048, 2048))
        return estimate(config, model, of, True, 0, by=replace(expected, **keys))

    ours, linear = memory(), sum(tensor.size for tensor in model.linear)
    assert memory(dense=False).weights == pytest.approx(ours.weights - 2 * linear / GB)
    assert memory(stream=False).activations > 1.1 * ours.activations


def test_no_row_is_longer_than_the_model_takes() -> None:
    config, model = parse(TrainConfig, {"dataset": "a", "cutoff_len": 100_000}), shape.read(folder_of("seedling"))
    longest, beyond = (course(config, model, Lengths(size, size), ROOMY) for size in (2048, 100_000))
    assert longest == beyond


def test_relief_of_a_training_that_ran_out_of_memory(registry: Registry) -> None:
    config = parse(TrainConfig, {"dataset": "demo", "per_device_train_batch_size": 32, "gradient_checkpointing": "on"})
    found = relief(config, registry, ROOMY)
    assert found.after_gb < found.before_gb
    assert found.changes["per_device_train_batch_size"] < 32
    assert str(found).startswith("Set per_device_train_batch_size: ")
    assert relief(config.model_copy(update={"model_name_or_path": "some/body"}), registry, ROOMY) is None


def test_another_try_is_known_by_the_card_or_by_the_kernel(registry: Registry, store: Store) -> None:
    run = store.create(parse(TrainConfig, {"dataset": "demo", "per_device_train_batch_size": 32}))
    assert another_try(run, registry, ROOMY) == {}
    write_json(run.path / "error.json", {"kind": "Diverged", "message": "no", "retry": {"learning_rate": 1e-5}})
    assert another_try(run, registry, ROOMY) == {"learning_rate": 1e-5}
    (run.path / "error.json").unlink()
    write_json(run.path / "exit.json", {"code": None, "signal": 9, "reason": "failed", "out_of_memory": True})
    assert another_try(run, registry, ROOMY)["gradient_checkpointing"] == "on"


def test_this_machine_is_looked_at(tmp_path: Path) -> None:
    here = look(tmp_path / "saves")
    assert here.memory_free > 0
    assert here.disk_free > 0
    assert here.device == (here.gpu.name if here.gpu else "CPU")
    assert (H100.free, H100.device) == (79 * GB, "NVIDIA H100 80GB HBM3")
    assert isinstance(list(machine.gpus()), list)


@pytest.mark.parametrize(
    ("keys", "bytes_each"),
    [
        ({"parallel_strategy": "single"}, 4 + 8),
        ({"parallel_strategy": "fsdp2"}, 4 + 8),
        (
            {"parallel_strategy": "zero2"},
            4 + 12,
        ),  # weights in the type of the computation twice, and what steps are made on
        ({"parallel_strategy": "zero3", "save_only_model": True}, 4),
        ({"save_strategy": "no"}, 0),
    ],
    ids=str,
)
def test_checkpoints_hold_what_the_processes_hold_together(ask: Any, keys: dict[str, Any], bytes_each: int) -> None:
    parameters = 5_770_496
    full = {"finetuning_type": "full", "max_steps": 400, "save_total_limit": 2, "bf16": True}
    found = ask(H100, **full, **keys)
    assert found.disk_gb * GB == pytest.approx(3 * bytes_each * parameters + 2 * parameters, rel=0.05)


def test_checkpoints_by_epochs_and_minutes(ask: Any) -> None:
    full = {"finetuning_type": "full", "save_total_limit": 4}
    epochs = ask(H100, **full, save_strategy="epoch", num_train_epochs=2).disk_gb
    assert ask(H100, **full, save_strategy="no", save_minutes=5).disk_gb == pytest.approx(2.5 * epochs, rel=0.1)
