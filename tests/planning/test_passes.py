"""What goes through a model at once, and what is computed twice: chosen on machines that nobody here has."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import memory as bench
from studio.config.load import parse
from studio.config.train import TrainConfig
from studio.datasets.registry import Registry
from studio.machine import Gpu, Machine
from studio.planning import __main__ as command
from studio.planning import advice, batch, memory, shape
from studio.planning.batch import Lengths, Step
from studio.planning.passes import AGAIN, COMFORT, LAUNCHED_TOKENS, UNPACKED_TOKENS, Course, Passes, course
from studio.planning.plan import verdict
from studio.planning.relief import relief
from studio.planning.rows import known
from studio.planning.ways import PLAIN, Ways
from tests.planning.test_measured import header
from tests.planning.test_spread import MODEL as SEVEN
from tests.planning.test_spread import SEVEN as SEVEN_CONFIG
from tests.planning.test_spread import machine_of

GB = 10**9
SMALL = shape.of(bench.SHAPES["1.1B"], dict(header(bench.SHAPES["1.1B"])))
FAST = Ways(attention=True, lora=True, kernels=True, step=True)
ROWS, WHOLE_ROWS = Lengths(1400, 204), Lengths(2048, 2048)
PACKED = {"packing": True, "cutoff_len": 2048}
CPU = Machine(None, 64 * GB, 10**12)


def config_of(**keys: Any) -> TrainConfig:
    return parse(TrainConfig, {"dataset": "a", "cutoff_len": 2048, **keys})


def taken(size_gb: float, model: shape.Shape = SEVEN, by: Ways = FAST, lengths: Lengths = ROWS, **keys: Any) -> Course:
    return course(config_of(**keys), model, lengths, machine_of(1, size_gb), by=by)


def cost(found: Course, keys: dict[str, Any]) -> float:
    """Time for a token, as multiples of what it takes once in a pass without end."""
    again = AGAIN[keys.get("finetuning_type", "lora")] * found.passes.recomputed / found.layers
    fixed = LAUNCHED_TOKENS + UNPACKED_TOKENS * ("quantization_bit" in keys)
    return (1 + again) * (1 + fixed / min(found.passes.tokens or 0, found.step.mean))


# one card after the other


@pytest.mark.parametrize(
    ("size_gb", "keys", "words"),
    [
        (80, {}, "one pass of 3,264 tokens a step"),
        (24, PACKED, "layers computed twice"),
        (24, {"quantization_bit": 4}, "2 passes of up to 2,683 tokens a step"),
        (80, {"stage": "dpo"}, "one pass of 6,528 tokens a step"),
        (12, {}, "3 passes of up to 1,400 tokens a step, all 32 layers computed twice"),
    ],
    ids=["80", "24 packed", "24 in 4 bits", "80 dpo", "12"],
)
def test_of_seven_billion(size_gb: float, keys: dict[str, Any], words: str) -> None:
    assert words in taken(size_gb, lengths=WHOLE_ROWS if "packing" in keys else ROWS, **keys).words


SIZES = (8, 12, 16, 24, 32, 48, 80, 141)
TRAININGS: dict[str, dict[str, Any]] = {
    "lora": {},
    "packed": PACKED,
    "4 bits": {"quantization_bit": 4},
    "dpo": {"stage": "dpo"},
    "full": {"finetuning_type": "full", "pure_bf16": True, **PACKED},
}


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("model", [SEVEN, SMALL], ids=["7B", "1.1B"])
def test_more_room_is_never_slower_and_never_filled_beyond_comfort(model: shape.Shape, name: str) -> None:
    keys = TRAININGS[name]
    found = [taken(size, model, lengths=WHOLE_ROWS if "packing" in keys else ROWS, **keys) for size in SIZES]
    costs = [cost(each, keys) for each in found]
    assert costs == sorted(costs, reverse=True)
    for size, each in zip(SIZES, found, strict=True):
        if each.memory.total_gb > COMFORT * size:  # nothing fits: what takes the least
            least = (each.step.share(each.step.batches), each.layers)
            assert (each.passes.tokens, each.passes.recomputed) == least


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("size_gb", [16, 24, 48])
def test_no_other_choice_that_fits_is_faster(name: str, size_gb: float) -> None:
    keys = TRAININGS[name]
    model, lengths = SMALL if name == "full" else SEVEN, WHOLE_ROWS if "packing" in keys else ROWS
    found = taken(size_gb, model, lengths=lengths, **keys)
    if found.memory.total_gb > COMFORT * size_gb:
        return
    others = [
        Course(Passes(tokens, layers), found.step, found.layers, found.memory)
        for tokens in sorted({found.step.share(count) for count in range(1, found.step.batches + 1)})
        for layers in range(found.layers + 1)
    ]
    faster = [each for each in others if cost(each, keys) < cost(found, keys)]
    assert len(faster) < len(others)
    for each in faster:
        assert forced(each.passes, model, lengths, **keys) > COMFORT * size_gb


def forced(passes: Passes, model: shape.Shape, lengths: Lengths, **keys: Any) -> float:
    """GB that just those passes take."""
    config = config_of(**keys)
    through = batch.through(config, lengths, passes.tokens, model.context)
    return memory.estimate(config, model, through, True, passes.recomputed, by=FAST).total_gb


def test_passes_that_are_recorded_are_rather_more_than_computed_twice() -> None:
    launched, recorded = (taken(20, by=replace(FAST, graphs=graphs)) for graphs in (False, True))
    assert recorded.passes.recomputed < launched.passes.recomputed
    assert (recorded.passes.tokens or 0) < (launched.passes.tokens or 0)


# what is asked for


def test_what_is_asked_for_is_done() -> None:
    assert taken(80, gradient_checkpointing="on").passes.recomputed == 32
    assert taken(20, gradient_checkpointing="off").passes.recomputed == 0
    assert taken(24, **PACKED, gradient_checkpointing="selective").passes == taken(24, **PACKED).passes
    found = taken(24, micro_batch_tokens=3000)
    assert found.passes.tokens == 3000
    assert 0 < found.passes.recomputed < 32


def test_no_pass_is_less_than_the_longest_row_or_a_share_of_the_step() -> None:
    assert taken(24, micro_batch_tokens=64).memory == taken(24, micro_batch_tokens=1400).memory
    short = Lengths(204, 204)
    assert taken(24, micro_batch_tokens=64, lengths=short).memory == (
        taken(24, micro_batch_tokens=408, lengths=short).memory  # 16 rows in 8 passes
    )


@pytest.mark.parametrize(
    ("keys", "by"),
    [
        ({"stage": "kto"}, FAST),
        ({"stage": "dpo", "pref_loss": "orpo"}, FAST),
        ({"moe_aux_loss_coef": 0.01}, FAST),
        ({"label_smoothing_factor": 0.1}, FAST),
        ({"parallel_strategy": "zero3"}, FAST),
        ({"parallel_strategy": "ddp", "stage": "dpo"}, FAST),
        ({}, PLAIN),
    ],
    ids=["kto", "orpo", "experts", "smoothed", "zero3", "dpo of several", "masked"],
)
def test_batches_go_through_as_they_are_where_they_cannot_be_dealt(keys: dict[str, Any], by: Ways) -> None:
    found = taken(80, by=by, **keys)
    assert found.passes == Passes(None, 0)
    assert found.words == ""


def test_layers_are_computed_twice_all_or_none_where_some_would_not_help() -> None:
    roomy, short = ({"gradient_checkpointing": None, "per_device_train_batch_size": 16, **PACKED} for _ in range(2))
    for keys in ({"parallel_strategy": "fsdp2"}, {"layers_to_transform": "30,31"}, {"stage": "grpo", **REWARDED}):
        assert taken(141, **keys).passes.recomputed == 0
    assert taken(30, lengths=WHOLE_ROWS, **roomy).passes.recomputed == 32
    assert taken(24, lengths=WHOLE_ROWS, parallel_strategy="fsdp2", **short).passes.recomputed == 32
    late = {"layers_to_transform": ",".join(map(str, range(12, 32))), "micro_batch_tokens": 8192}
    assert taken(30, **late).passes.recomputed == 32
    assert 0 < taken(30, micro_batch_tokens=8192).passes.recomputed < 32


REWARDED = {"reward_funcs": "length"}


def test_on_a_cpu_batches_go_through_as_they_are_unless_told_otherwise() -> None:
    config = config_of()
    assert course(config, SMALL, ROWS, CPU, by=Ways(attention=True, lora=True)).passes == Passes(None, 0)
    dealt = config.model_copy(update={"micro_batch_tokens": 512})
    assert course(dealt, SMALL, ROWS, CPU, by=Ways(attention=True, lora=True)).passes == Passes(512, 0)


def test_rows_that_nothing_is_left_of_are_planned_too() -> None:
    assert taken(80, lengths=Lengths(0, 0)).words == "one pass of 16 tokens a step"


# what it is told by


@pytest.mark.parametrize(
    ("passes", "words"),
    [
        (Passes(), ""),
        (Passes(None, 6), "6 of 32 layers computed twice"),
        (Passes(5000, 0), "one pass of 3,300 tokens a step"),
        (Passes(3000, 8), "2 passes of up to 3,000 tokens a step, 8 of 32 layers computed twice"),
        (Passes(3300, 32), "one pass of 3,300 tokens a step, all 32 layers computed twice"),
    ],
)
def test_words(passes: Passes, words: str) -> None:
    step = Step(most=5000, mean=3300, longest=400, batches=8)
    assert Course(passes, step, 32, taken(80).memory).words == words


def test_rows_of_one_length_fill_passes_in_whole_ones() -> None:
    assert [Step(16 * 100, 16 * 100, 100, 8).share(passes) for passes in (1, 2, 3, 8)] == [1600, 800, 600, 200]
    assert [Step(1600, 1000, 300, 8).share(passes) for passes in (1, 2, 3, 8)] == [1600, 800, 534, 300]


# what to do when it was too much


@pytest.fixture
def seven(tmp_path: Path) -> str:
    """A folder of that shape, whose weights take no room on a disk."""
    folder = tmp_path / "seven"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(SEVEN_CONFIG))
    tensors, end = dict(header(SEVEN_CONFIG)), 0
    for entry in tensors.values():
        begin, end = end, end + 2 * math.prod(entry["shape"])
        entry["data_offsets"] = (begin, end)
    told = json.dumps(tensors).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(told)) + told)
        file.truncate(file.tell() + end)
    return str(folder)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [{"instruction": "Who?", "input": "", "output": "word " * 120} for _ in range(50)]
    (folder / "a.json").write_text(json.dumps(rows))
    (folder / "dataset_info.json").write_text(json.dumps({"a": {"file_name": "a.json"}}))
    return Registry(folder)


def test_a_second_try_after_running_out_of_memory_names_what_helps(seven: str, registry: Registry) -> None:
    machine = machine_of(1, 24)
    config = config_of(model_name_or_path=seven)
    lengths = known(config, registry, "a").lengths
    first = course(config, SEVEN, lengths, machine)
    assert first.passes.tokens
    found = relief(config, registry, machine)
    assert found is not None
    assert found.changes == {"micro_batch_tokens": first.passes.tokens // 2}
    assert found.after_gb < found.before_gb
    changed = advice.changed(config, found.changes)
    assert changed is not None
    assert course(changed, SEVEN, lengths, machine).memory.total_gb < first.memory.total_gb


def test_tokens_that_were_asked_for_are_lowered_before_anything_that_changes_results() -> None:
    config = config_of(micro_batch_tokens=65_536, **PACKED)
    found = verdict(config, SEVEN, WHOLE_ROWS, machine_of(1, 24))
    assert not found.fits
    assert found.retry is not None
    assert found.retry.keys() <= {"gradient_checkpointing", "micro_batch_tokens"}


def test_the_command_prints_the_choice(seven: str, registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [f"model_name_or_path={seven}", f"dataset_dir={registry.data_dir}", "dataset=a", "gpus=1x80"]
    assert command.main(keys) == 0
    assert "one pass of " in capsys.readouterr().out.splitlines()[-1]


def test_a_card_that_others_use_has_less_room() -> None:
    full = Machine(Gpu(0, "H100", 80 * GB, 56 * GB, 0), 10**12, 10**12)
    assert course(config_of(**PACKED), SEVEN, WHOLE_ROWS, full, by=FAST) == taken(24, lengths=WHOLE_ROWS, **PACKED)
