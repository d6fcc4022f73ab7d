"""A configuration that `accelerate config` wrote, as options of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.errors import ConfigError, Problem
from studio.parallel import fsdp_keys
from studio.parallel.foreign import Fates, Reading, RefusedError, Values, chosen, named, read

MARKS = ("distributed_type", "compute_environment")
GPUS_AND_CPUS = "nothing: this is for GPUs and CPUs, not for TPUs"
SHARDED = "parallel_strategy: zero3 or fsdp2, which shard every layer and split none"
OWN_START = "the studio starts the processes itself"
CPU_ONLY = "a GPU that is visible is used: CUDA_VISIBLE_DEVICES= in the environment hides it"
FLOAT32: Values = {"bf16": False, "fp16": False}


def is_config(values: Mapping[str, Any]) -> bool:
    """Whether it is such a file, and no training."""
    return any(mark in values for mark in MARKS)


def options(values: Mapping[str, Any]) -> Values:
    """The options that `values` stand for.

    Raises:
        ConfigError: with everything in it that cannot be had here.
    """
    found = reading(values)
    if found.problems:
        raise ConfigError(found.problems)
    return found.options


def reading(values: Mapping[str, Any], section: str = "accelerate_config") -> Reading:
    """The same with what is to be told of it, and with its problems instead of an error."""
    kind = str(values.get("distributed_type", "NO")).upper()
    parts = {"deepspeed_config": (kind == "DEEPSPEED", DEEPSPEED), "fsdp_config": (kind == "FSDP", None)}
    found = read({key: value for key, value in values.items() if key not in parts}, FATES, section)
    for name, (is_wanted, fates) in parts.items():
        part = values.get(name)
        if is_wanted and isinstance(part, Mapping):
            where = f"{section}.{name}"
            _add(found, read(part, fates, where) if fates else fsdp_keys.settings(part, where))
        elif part:
            found.notes.append(Problem(f"{section}.{name}", f"is not looked at with distributed_type: {kind}"))
    return _counted(found, section)


def _add(found: Reading, more: Reading) -> None:
    found.options |= more.options
    found.notes += more.notes
    found.problems += more.problems


def _counted(found: Reading, section: str) -> Reading:
    """Processes are counted over all machines there, and on each of them here."""
    processes, nodes = found.options.pop("processes", None), found.options.get("nnodes", 1)
    if processes is None or found.options.get("parallel_strategy") == "single":
        return found
    if nodes < 1 or processes % nodes:
        what = f"{processes} processes cannot be dealt out to {nodes} machines alike"
        found.problems.append(Problem(f"{section}.num_processes", what))
    else:
        found.options["nproc_per_node"] = processes // nodes
    return found


def _processes(value: Any) -> Values:
    return {"processes": int(value)} if int(value) > 0 else {}


def _devices(value: Any) -> Values:
    return {} if str(value) == "all" else {"devices": str(value).replace(" ", "")}


def _rank(value: Any) -> Values:
    if int(value):
        raise RefusedError(
            "start the training on machine 0, and this one by the command that is shown there, with --node-rank"
        )
    return {}


def _dynamo(value: Any) -> Values:
    backend = value.get("dynamo_backend", "no") if isinstance(value, Mapping) else value
    if str(backend).upper() != "NO":
        raise RefusedError("leave it out: nothing is compiled")
    return {}


def _stage(value: Any) -> Values:
    return {"parallel_strategy": f"zero{int(value)}" if int(value) else "ddp"}


FATES = Fates(
    taken={
        "distributed_type": chosen(
            {
                "NO": {"parallel_strategy": "single"},
                "MULTI_CPU": {"parallel_strategy": "ddp"},
                "MULTI_GPU": {"parallel_strategy": "ddp"},
                "DEEPSPEED": {"parallel_strategy": "zero2"},  # its own default; zero_stage has the last word
                "FSDP": {"parallel_strategy": "fsdp2"},
            },
            SHARDED,
        ),
        "compute_environment": chosen({"LOCAL_MACHINE": {}}, "launcher: local or slurm"),
        "mixed_precision": chosen({"NO": FLOAT32, "BF16": {"bf16": True}, "FP16": {"fp16": True}}, "bf16: true"),
        "num_processes": _processes,
        "num_machines": named("nnodes", int),
        "machine_rank": _rank,
        "gpu_ids": _devices,
        "main_process_ip": named("master_addr", str),
        "main_process_port": named("master_port", int),
        "dynamo_config": _dynamo,
        "dynamo_backend": _dynamo,
    },
    inert={
        "use_cpu": CPU_ONLY,
        "debug": "what ranks say to each other is checked by the studio's own time-outs",
        "rdzv_backend": "processes meet at main_process_ip and main_process_port",
        "same_network": "only the main process has to be reached by the others",
        "main_training_function": OWN_START,
        "enable_cpu_affinity": "processes are not bound to cores",
        "downcast_bf16": "it is for TPUs only",
        "tpu_name": "it is for TPUs only",
        "tpu_zone": "it is for TPUs only",
        "tpu_env": "it is for TPUs only",
        "tpu_use_sudo": "it is for TPUs only",
    },
    refused={
        "fp8_config": "bf16: true",
        "parallelism_config": SHARDED,
        "megatron_lm_config": SHARDED,
        "mpirun_config": "launcher: local or slurm",
        "ipex_config": "nothing: remove it",
        "tpu_use_cluster": GPUS_AND_CPUS,
        "tpu_vm": GPUS_AND_CPUS,
        "command_file": "nothing: remove it",
        "commands": "nothing: remove it",
    },
)
PLACES: dict[str, str] = {"offload_optimizer_device": "offload_optimizer", "offload_param_device": "offload_param"}
DEEPSPEED = Fates(
    taken={
        "zero_stage": _stage,
        "deepspeed_config_file": named("deepspeed", str),
        "deepspeed_hostfile": named("hostfile", str),
        "gradient_accumulation_steps": named("gradient_accumulation_steps", int),
        "gradient_clipping": named("max_grad_norm", float),
        **{key: named(option, lambda place: str(place).lower()) for key, option in PLACES.items()},
        "offload_optimizer_nvme_path": named("nvme_path", str),
        "offload_param_nvme_path": named("nvme_path", str),
    },
    inert={
        "zero3_init_flag": "with zero3 weights are always sharded as they are loaded",
        "zero3_save_16bit_model": "what a training leaves is always whole",
        "deepspeed_multinode_launcher": "nodes are started by the command that is shown, or by SLURM",
    },
    refused={
        "deepspeed_exclusion_filter": "devices: the numbers of the GPUs",
        "deepspeed_inclusion_filter": "devices: the numbers of the GPUs",
        "deepspeed_moe_layer_cls_names": "deepspeed: JSON with zero_optimization.leaf_module",
    },
)
