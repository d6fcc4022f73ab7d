"""What one of several processes holds: beside real ones, and how it follows strategy, processes and offload."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studio.config.load import parse, save
from studio.config.train import TrainConfig
from studio.files import read_json
from studio.machine import Gpu, Machine
from studio.models import folder_of
from studio.planning import advice, shape, team
from studio.planning.batch import Batch, Lengths
from studio.planning.memory import Memory, estimate, host_gb, resting, work_of
from studio.planning.plan import verdict
from studio.planning.team import Team
from studio.settings import ROOT
from tests.planning.test_measured import header

GB = 10**9
FULL = {"finetuning_type": "full", "gradient_checkpointing": "on"}
BATCH = Batch(2048, 2048, masked=False)
TRAINED = {
    "zero2": {"parallel_strategy": "zero2", "finetuning_type": "full", "bf16": True},
    "zero3": {"parallel_strategy": "zero3", "finetuning_type": "full", "bf16": True},
    "fsdp2": {"parallel_strategy": "fsdp2", "bf16": True},
}


def config_of(**keys: Any) -> TrainConfig:
    return parse(TrainConfig, {"dataset": "alpaca_demo", **keys})


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, int]]:
    """Bytes by type in the second process of each training, after a step."""
    home = tmp_path_factory.mktemp("team")
    small = {"max_steps": 1, "save_strategy": "no", "cutoff_len": 64, "max_samples": 8, "gradient_checkpointing": "off"}
    for name, keys in TRAINED.items():
        (home / name).mkdir()
        save(config_of(**small, gradient_accumulation_steps=1, **keys), home / name / "config.yaml")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.planning.team", *(str(home / name) for name in TRAINED)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return {name: read_json(home / name / "ranks/1/held.json") for name in TRAINED}


@pytest.mark.parametrize("name", TRAINED)
def test_each_of_two_processes_holds_what_is_foretold(held: dict[str, dict[str, int]], name: str) -> None:
    config, model = config_of(**TRAINED[name]), shape.read(folder_of("seedling"))
    found = resting(work_of(config, model, BATCH, on_gpu=False, team=Team(2, 2)))
    counted = sum(held[name].get(kind, 0) for kind in ("float32", "bfloat16")) / GB
    assert counted == pytest.approx(found.tensors_gb, rel=0.01)


# the shape of Llama 7B, on GPUs

SEVEN = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
SEVEN |= {"num_key_value_heads": 32, "vocab_size": 32_000, "tie_word_embeddings": False, "model_type": "llama"}
MODEL = shape.of(SEVEN, dict(header(SEVEN)))
LENGTHS = Lengths(2048, 2048)


def machine_of(count: int, size_gb: float = 80, host_gb: float = 500) -> Machine:
    gpus = tuple(Gpu(index, "H100", int(size_gb * GB), 0, 0) for index in range(count))
    return Machine(gpus[0], int(host_gb * GB), 10**12, gpus)


def part_of(world: int, **keys: Any) -> Memory:
    return estimate(config_of(**FULL, **keys), MODEL, BATCH, True, MODEL.layers, Team(world, world))


def test_what_is_sharded_shrinks_with_the_processes() -> None:
    per_parameter = 7e9 / GB
    for strategy, shared, whole in (
        ("ddp", 0, 4 + 8),
        ("zero1", 12, 2),
        ("zero2", 12, 2),
        ("zero3", 14, 0),
        ("fsdp2", 12, 0),
    ):
        two, eight = (part_of(world, parallel_strategy=strategy) for world in (2, 8))
        kept = [part.weights + resting_optimizer(strategy, world) for part, world in ((two, 2), (eight, 8))]
        wanted = [per_parameter * (shared / world + whole) for world in (2, 8)]
        assert kept == pytest.approx(wanted, rel=0.05), strategy


def resting_optimizer(strategy: str, world: int) -> float:
    config = config_of(**FULL, parallel_strategy=strategy)
    return resting(work_of(config, MODEL, BATCH, on_gpu=True, team=Team(world, world))).optimizer


def test_strategies_that_shard_more_take_less() -> None:
    totals = [part_of(8, parallel_strategy=name).total_gb for name in ("ddp", "zero1", "zero2", "zero3")]
    assert totals == sorted(totals, reverse=True)
    assert part_of(8, parallel_strategy="fsdp2").total_gb < totals[2]
    assert totals[3] < totals[0] / 4


@pytest.mark.parametrize(
    ("keys", "host"),
    [
        ({"parallel_strategy": "zero2", "offload_optimizer": "cpu"}, 4 + 8 + 4 + 2),
        ({"parallel_strategy": "zero3", "offload_optimizer": "cpu", "offload_param": "cpu"}, 4 + 8 + 4 + 2 + 2),
        ({"parallel_strategy": "fsdp2", "offload_param": "cpu"}, 4 + 8 + 4),
    ],
    ids=["zero2", "zero3", "fsdp2"],
)
def test_what_is_offloaded_moves_into_the_memory_of_the_machine(keys: dict[str, Any], host: int) -> None:
    config = config_of(**FULL, **keys)
    kept = config_of(**FULL, parallel_strategy=keys["parallel_strategy"])
    assert part_of(8, **keys).total_gb < part_of(8, parallel_strategy=keys["parallel_strategy"]).total_gb - 5
    assert host_gb(config, MODEL, BATCH, True, Team(8, 8)) == pytest.approx(host * 6.74, rel=0.05)
    assert host_gb(config, MODEL, BATCH, True, Team(16, 8)) == pytest.approx(
        max(host / 2, 4 if "fsdp2" in keys.values() else 0) * 6.74, rel=0.05
    )
    assert host_gb(config, MODEL, BATCH, False, Team(8, 8)) == 0  # without a GPU there is nowhere to go from
    assert host_gb(kept, MODEL, BATCH, True, Team(8, 8)) == (
        pytest.approx(27, rel=0.05) if "fsdp2" in keys.values() else 0
    )


def test_a_persons_own_settings_count() -> None:
    """DeepSpeed's own words go before ours."""
    own = {"zero_optimization": {"stage": 2, "reduce_bucket_size": 5e8, "offload_optimizer": {"device": "cpu"}}}
    found = part_of(2, parallel_strategy="zero2", deepspeed=own)
    plain = part_of(2, parallel_strategy="zero2")
    assert found.optimizer < plain.optimizer / 10
    assert found.communication > plain.communication


# verdicts


def test_a_verdict_is_of_one_device_of_several() -> None:
    found = verdict(config_of(**FULL, parallel_strategy="zero3"), MODEL, LENGTHS, machine_of(8))
    assert (found.devices, found.device, found.fits) == (8, "H100", True)
    assert found.words.endswith("of 80.0 GB in each of 8 devices")
    two = verdict(config_of(**FULL, parallel_strategy="zero3", devices="0,5"), MODEL, LENGTHS, machine_of(8))
    assert two.devices == 2
    assert two.memory.total_gb > found.memory.total_gb + 20


def test_the_fullest_device_decides() -> None:
    roomy = machine_of(2)
    full = replace(roomy, gpus=(roomy.gpus[0], replace(roomy.gpus[1], used=70 * GB, name="A100")))
    found = verdict(config_of(parallel_strategy="ddp"), MODEL, LENGTHS, full)
    assert (found.free_gb, found.device) == (10, "A100")


def test_processes_on_a_cpu_share_its_memory() -> None:
    config = config_of(parallel_strategy="ddp", nproc_per_node=4)
    found = verdict(config, shape.read(folder_of("seedling")), LENGTHS, Machine(None, 24 * GB, 10**12))
    assert (found.devices, found.free_gb) == (4, 6)
    assert found.words.endswith("of 6.0 GB in each of 4 processes")


def test_memory_of_the_machine_that_offloading_lacks_is_told() -> None:
    keys = {**FULL, "parallel_strategy": "zero2", "offload_optimizer": "cpu", "nproc_per_node": 2}
    short = verdict(config_of(**keys), MODEL, LENGTHS, machine_of(2, host_gb=64))
    assert not short.fits
    assert "GB of the machine's memory, 64.0 GB are free" in short.words
    enough = verdict(config_of(**keys), MODEL, LENGTHS, machine_of(2, host_gb=400))
    assert "GB of the machine's memory" in enough.words
    assert enough.fits


@pytest.mark.parametrize(
    ("count", "strategy", "changes"),
    [
        (8, "single", {"parallel_strategy": "zero2"}),
        (2, "ddp", {"parallel_strategy": "zero3"}),
        (1, "single", {"parallel_strategy": "zero2", "offload_optimizer": "cpu"}),
    ],
)
def test_what_does_not_fit_is_spread_before_it_is_changed(count: int, strategy: str, changes: dict[str, str]) -> None:
    config = config_of(**FULL, parallel_strategy=strategy, per_device_train_batch_size=1)
    where = machine_of(count)
    found = verdict(config, MODEL, LENGTHS, where)
    assert found.retry is not None
    assert changes.items() <= found.retry.items()
    changed = advice.changed(config, found.retry)
    assert changed is not None
    again = verdict(changed, MODEL, LENGTHS, where)
    assert again.fits
    rows = [each.gradient_accumulation_steps * team.of(each, where).world for each in (config, changed)]
    assert rows[0] == rows[1]


def test_a_hostfile_counts_the_processes(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("one slots=4\ntwo slots=2\n")
    config = config_of(parallel_strategy="ddp", hostfile=str(tmp_path / "hosts"))
    assert team.of(config, machine_of(8)) == Team(world=6, local=4)
    assert team.of(config_of(parallel_strategy="ddp", nnodes=3), machine_of(8)) == Team(world=24, local=8)
    assert team.of(config_of(parallel_strategy="device_map"), machine_of(8)) == Team(devices=8)
    assert team.of(config_of(parallel_strategy="ddp"), Machine(None, GB, GB)) == Team(2, 2)
