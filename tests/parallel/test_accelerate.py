"""A person's own `accelerate config`: every key is taken, told of, or refused by name."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig

from studio.config.load import parse, parse_yaml, read_yaml, without_effect
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.parallel import accelerate, fsdp_keys

# as `accelerate config` writes it
GIVEN = """
compute_environment: LOCAL_MACHINE
debug: false
distributed_type: MULTI_GPU
downcast_bf16: 'no'
enable_cpu_affinity: false
gpu_ids: all
machine_rank: 0
main_training_function: main
mixed_precision: bf16
num_machines: 2
num_processes: 16
main_process_ip: 10.0.0.1
main_process_port: 29500
rdzv_backend: static
same_network: true
tpu_env: []
tpu_use_cluster: false
tpu_use_sudo: false
use_cpu: false
"""
DEEPSPEED = {
    "zero_stage": 3,
    "gradient_accumulation_steps": 4,
    "gradient_clipping": 0.5,
    "offload_optimizer_device": "cpu",
    "offload_param_device": "none",
    "zero3_init_flag": True,
    "zero3_save_16bit_model": True,
}
FSDP = {
    "fsdp_version": 2,
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "fsdp_cpu_ram_efficient_loading": True,
    "fsdp_offload_params": True,
    "fsdp_reshard_after_forward": True,
    "fsdp_state_dict_type": "FULL_STATE_DICT",
    "fsdp_activation_checkpointing": True,
}


def given(**keys: Any) -> dict[str, Any]:
    return {**parse_yaml(GIVEN, "given"), **keys}


def wrong(**keys: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        accelerate.options(given(**keys))
    return {problem.where: problem.what for problem in caught.value.problems}


def test_copies_on_two_machines() -> None:
    assert accelerate.options(given()) == {
        "parallel_strategy": "ddp",
        "bf16": True,
        "nnodes": 2,
        "nproc_per_node": 8,
        "master_addr": "10.0.0.1",
        "master_port": 29500,
    }


def test_deepspeed() -> None:
    found = accelerate.options(given(distributed_type="DEEPSPEED", deepspeed_config=DEEPSPEED, num_machines=1))
    expected = {"parallel_strategy": "zero3", "offload_optimizer": "cpu", "offload_param": "none", "nproc_per_node": 16}
    assert expected.items() <= found.items()
    assert (found["gradient_accumulation_steps"], found["max_grad_norm"]) == (4, 0.5)


def test_fsdp() -> None:
    found = accelerate.options(given(distributed_type="FSDP", fsdp_config=FSDP))
    assert {
        "parallel_strategy": "fsdp2",
        "offload_param": "cpu",
        "gradient_checkpointing": "on",
    }.items() <= found.items()


@pytest.mark.parametrize(
    ("values", "option", "value"),
    [
        ({"distributed_type": "NO"}, "parallel_strategy", "single"),
        ({"distributed_type": "MULTI_CPU", "use_cpu": True}, "parallel_strategy", "ddp"),
        ({"gpu_ids": "0, 2", "num_processes": 4}, "devices", "0,2"),
        ({"mixed_precision": "no"}, "bf16", False),
        ({"mixed_precision": "fp16"}, "fp16", True),
        ({"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": 0}}, "parallel_strategy", "ddp"),
        ({"distributed_type": "DEEPSPEED", "deepspeed_config": {"deepspeed_hostfile": "h"}}, "hostfile", "h"),
    ],
)
def test_a_key_becomes_an_option(values: dict[str, Any], option: str, value: object) -> None:
    assert accelerate.options(given(**values))[option] == value


def test_everything_that_cannot_be_had_is_refused_at_once_by_name() -> None:
    found = wrong(
        distributed_type="MEGATRON_LM", megatron_lm_config={"tp": 2}, machine_rank=1, mixed_precision="fp8", bogus=1,
        num_machines=3, main_process_port="x", dynamo_config={"dynamo_backend": "INDUCTOR"},
    )  # fmt: skip
    assert found["accelerate_config.distributed_type"].startswith("MEGATRON_LM is not supported; use instead: ")
    assert "start the training on machine 0" in found["accelerate_config.machine_rank"]
    assert found["accelerate_config.bogus"] == "there is no such key"
    assert "16 processes cannot be dealt out to 3 machines" in found["accelerate_config.num_processes"]
    assert "cannot be understood (got 'x')" in found["accelerate_config.main_process_port"]
    named = {"megatron_lm_config", "mixed_precision", "dynamo_config"}
    assert {f"accelerate_config.{name}" for name in named} < set(found)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"fsdp_sharding_strategy": "SHARD_GRAD_OP"}, "parallel_strategy: zero2"),
        ({"fsdp_sharding_strategy": "HYBRID_SHARD"}, "parallel_strategy: fsdp2"),
        ({"fsdp_reshard_after_forward": False}, "parallel_strategy: zero2"),
        ({"fsdp_colour": "red"}, "there is no such key"),
    ],
)
def test_ways_of_sharding_that_are_not_offered(keys: dict[str, Any], words: str) -> None:
    [what] = wrong(distributed_type="FSDP", fsdp_config=keys).values()
    assert words in what


def test_every_key_of_accelerate_has_a_fate() -> None:
    """Those of the installed version, and of the files of older ones."""
    known = {field.name for field in fields(ClusterConfig)}
    assert known <= accelerate.FATES.keys | {"deepspeed_config", "fsdp_config"}
    source = Path(accelerate_source()).read_text()
    for section, fates in (("deepspeed_config", accelerate.DEEPSPEED), ("fsdp_config", fsdp_keys.FATES)):
        named = {word.split('"')[0] for word in source.split(f'{section}["')[1:]}
        assert len(named) > 8
        assert {name.removeprefix("fsdp_") for name in named} <= {key.removeprefix("fsdp_") for key in fates.keys}


def accelerate_source() -> str:
    from accelerate.commands.config import cluster

    return str(cluster.__file__)


def test_a_file_lies_below_what_the_training_says(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(GIVEN)
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({"dataset": "a", "nnodes": 1, "accelerate_config": "own.yaml"}))
    values = read_yaml(tmp_path / "train.yaml")
    config = parse(TrainConfig, values)
    assert (config.parallel_strategy, config.nproc_per_node, config.nnodes, config.bf16) == ("ddp", 8, 1, True)
    assert parse(TrainConfig, {**values, "fp16": True}).bf16 is None  # a precision of its own goes before
    assert "accelerate_config.main_training_function" in {told.where for told in without_effect(values)}
    with pytest.raises(ConfigError, match="there is no such file"):
        parse(TrainConfig, {"dataset": "a", "accelerate_config": "gone.yaml"})


def test_a_file_is_told_from_a_training() -> None:
    assert accelerate.is_config(given())
    assert not accelerate.is_config({"dataset": "a", "parallel_strategy": "ddp"})
