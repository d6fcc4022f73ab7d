"""What is wrong between the options of strategy, devices and machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from studio.config.train.method import ONLINE
from studio.config.train.precision import WHOLE as UNSPLIT
from studio.errors import ConfigError, Problem
from studio.parallel import zero
from studio.parallel.strategies import STRATEGIES, Strategy

if TYPE_CHECKING:
    from studio.config.train import TrainConfig

ZERO = ("zero1", "zero2", "zero3")
BITSANDBYTES = ("adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit", "lion_32bit")
PROJECTING = ("galore_adamw", "apollo_adamw", "adafactor")
# what works on whole matrices, where ZeRO leaves each process a piece of one long row of numbers, FSDP2 some rows; and
# what keeps a second set of weights, which DeepSpeed would neither validate nor save
UNSHARDED = {
    **dict.fromkeys(ZERO, (*PROJECTING, "muon", "schedule_free_adamw", "schedule_free_sgd")),
    "fsdp2": (*PROJECTING, *BITSANDBYTES),
}
# what a LoRA needs whole weights or gradients for
WHOLE = {
    "zero1": ("use_adalora",),
    "zero2": ("use_adalora",),
    "zero3": ("use_adalora", "quantization_bit"),
    "fsdp2": ("quantization_bit", "use_adalora", "pissa_init"),
}
ON_GPUS = (*BITSANDBYTES, "adamw_torch_fused")


def deepspeed_problems(config: TrainConfig) -> Iterator[Problem]:
    """What DeepSpeed would not understand of a person's own settings, and where they contradict the options."""
    strategy = _strategy(config)
    if not config.deepspeed or not strategy.is_deepspeed:
        return
    try:
        own = zero.parse(config.deepspeed)
        told = [*zero.problems(own), *zero.contradictions(config), *_not_offered(own)]
    except ConfigError as error:
        yield from error.problems
        return
    yield from (Problem("deepspeed", sentence) for sentence in told)


def _not_offered(own: Mapping[str, Any]) -> Iterator[str]:
    parallel = own.get("tensor_parallel")
    if isinstance(parallel, Mapping) and parallel.get("autotp_size", 0) not in (0, 1):
        yield "tensor_parallel.autotp_size: no training splits layers here: leave it out, zero3 shards every one"


def _strategy(config: TrainConfig) -> Strategy:
    return STRATEGIES[config.parallel_strategy]


def _distinct_devices(config: TrainConfig) -> Problem | None:
    numbers = config.devices.split(",") if config.devices else []
    if twice := next((number for number in numbers if numbers.count(number) > 1), None):
        return Problem("devices", f"names GPU {twice} twice")
    if len(numbers) > 1 and config.parallel_strategy == "single":
        return Problem("devices", "single trains on one GPU: name one, or set parallel_strategy: ddp")
    return None


def _a_device_each(config: TrainConfig) -> Problem | None:
    if not (_strategy(config).is_distributed and config.devices and config.nproc_per_node):
        return None
    named = len(config.devices.split(","))
    if config.nproc_per_node == named:
        return None
    what = f"{named} GPUs are named in devices, one for each process: set {named}, or leave it empty"
    return Problem("nproc_per_node", what)


def _folder_for_nvme(config: TrainConfig) -> Problem | None:
    if "nvme" not in (config.offload_optimizer, config.offload_param):
        return None
    if config.parallel_strategy != "zero3":
        key = "offload_param" if config.offload_param == "nvme" else "offload_optimizer"
        return Problem(key, "only zero3 leaves anything on a disk: set cpu, or parallel_strategy: zero3")
    if config.nvme_path is None and "nvme_path" not in (config.deepspeed or ""):
        return Problem("nvme_path", "offloading to nvme needs a folder on a local NVMe disk")
    return None


def _layers_of_a_lora(config: TrainConfig) -> Problem | None:
    """One process then holds layers on several devices, which was tried for adapters, and without a second model."""
    if config.parallel_strategy != "device_map":
        return None
    if config.finetuning_type != "lora":
        return Problem("parallel_strategy", "device_map is for LoRA: set finetuning_type: lora, or zero3 or fsdp2 here")
    if config.stage in ONLINE or config.ref_model:
        key = "stage" if config.stage in ONLINE else "ref_model"
        return Problem(key, "device_map trains one model at a time: set parallel_strategy: zero3, or leave this out")
    return None


def _whole_matrices(config: TrainConfig) -> Problem | None:
    if config.optim not in UNSHARDED.get(config.parallel_strategy, ()):
        return None
    what = f"{config.optim} works on whole weights, and {config.parallel_strategy} shards its work"
    return Problem("optim", f"{what}: set optim: adamw_torch, or parallel_strategy: ddp")


def _whole_while_loaded(config: TrainConfig) -> Problem | None:
    wanted = [key for key in WHOLE.get(config.parallel_strategy, ()) if getattr(config, key)]
    if config.finetuning_type != "lora" or not wanted:
        return None
    what = f"{config.parallel_strategy} shards what this works on"
    return Problem(wanted[0], f"{what}: leave it out, or set parallel_strategy: ddp")


def _kernels_of_one_device(config: TrainConfig) -> Problem | None:
    if not config.enable_liger_kernel or config.parallel_strategy in UNSPLIT:
        return None
    what = f"Liger's kernels go with {' and '.join(UNSPLIT)} only, not with {config.parallel_strategy}"
    return Problem("enable_liger_kernel", f"{what}: leave it empty, or set parallel_strategy: ddp")


def _two_precisions(config: TrainConfig) -> Problem | None:
    if not (config.pure_bf16 and _strategy(config).is_deepspeed):
        return None
    return Problem("pure_bf16", "DeepSpeed keeps copies in float32 all the same: set bf16: true instead")


def _tied_weights(config: TrainConfig) -> Problem | None:
    """A copy of the embedding or the head beside an adapter is tied to the other in many models."""
    if config.parallel_strategy != "fsdp2" or config.finetuning_type != "lora":
        return None
    copied = {"embed_tokens", "lm_head"}.intersection(config.additional_target)
    key = "additional_target" if copied else "resize_vocab"
    if not (copied or config.resize_vocab):
        return None
    return Problem(key, "fsdp2 cannot train embeddings beside an adapter: leave it out, or parallel_strategy: zero3")


def _tried_precision(config: TrainConfig) -> Problem | None:
    if not (config.fp16 and config.parallel_strategy == "fsdp2"):
        return None
    return Problem("fp16", "fsdp2 scales no losses, which float16 needs: set bf16: true, or parallel_strategy: zero3")


def _optimizer_on_the_cpu(config: TrainConfig) -> Problem | None:
    offloads = config.offload_optimizer != "none" or config.offload_param != "none"
    if not (_strategy(config).is_distributed and offloads and config.optim in ON_GPUS):
        return None
    return Problem("optim", f"{config.optim} needs its states on a GPU: set optim: adamw_torch, or offload nothing")


def _slurm_of_several(config: TrainConfig) -> Problem | None:
    if config.launcher != "slurm" or _strategy(config).is_distributed:
        return None
    what = f"slurm starts several processes, and {config.parallel_strategy} is one: set parallel_strategy: ddp"
    return Problem("launcher", f"{what}, with nproc_per_node: 1 for a single GPU")


RULES = (
    _distinct_devices,
    _a_device_each,
    _folder_for_nvme,
    _layers_of_a_lora,
    _whole_matrices,
    _whole_while_loaded,
    _kernels_of_one_device,
    _two_precisions,
    _tied_weights,
    _tried_precision,
    _optimizer_on_the_cpu,
    _slurm_of_several,
)
