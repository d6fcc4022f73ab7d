"""What to lower, and to what, until a training fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from studio.config.train import TrainConfig
from studio.packages import is_installed

Changes = dict[str, Any]
ORDER = ("single", "ddp", "zero2", "zero3")
SHORTEST = 256  # tokens; shorter rows are rarely what anybody wants


def lighter(
    config: TrainConfig, fits: Callable[[TrainConfig], bool], gpus: int = 0, tokens: int | None = None
) -> Changes | None:
    """The first changes of options, the least painful first, with which `fits` says yes; None if none are enough.

    `gpus` are those that the training could be spread over; `tokens` go through the model at once, if that can be less.
    """
    taken: Changes = {}
    for change in _changes(config, gpus, tokens or 0):
        if (tried := changed(config, {**taken, **change})) is None:
            continue
        taken |= change
        if fits(tried):
            return _as_many_rows(config, _without_needless(config, taken, fits), gpus)
    return None


def changed(config: TrainConfig, changes: Changes) -> TrainConfig | None:
    """`config` with `changes`; None if that would not be a legal one."""
    tried = config.model_copy(update=changes)
    return None if any(tried.problems()) else tried


def sentence(changes: Changes) -> str:
    """For a person: what to set to what."""
    return ", ".join(
        f"{key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in changes.items()
    )


def _changes(config: TrainConfig, gpus: int, tokens: int) -> Iterator[Changes]:
    """From the harmless to the drastic; those of a later yield go on top of the earlier ones."""
    halves = [tokens >> times for times in range(1, tokens.bit_length()) if tokens >> times >= SHORTEST]
    yield from ({"micro_batch_tokens": half} for half in halves[:1])
    yield {"gradient_checkpointing": "on"}
    yield from ({"micro_batch_tokens": half} for half in halves[1:])
    rows, accumulation = config.per_device_train_batch_size, config.gradient_accumulation_steps
    while rows > 1:
        # as many rows a step as before
        rows, accumulation = rows // 2, accumulation * 2
        yield {"per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulation}
    yield from _spreading(config, gpus)
    if config.finetuning_type != "lora":
        yield {"optim": "adamw_8bit"}
        yield {"optim": "adafactor"}
        yield {"pure_bf16": True}
        yield {"finetuning_type": "lora", "optim": "adamw_torch", "pure_bf16": False}
    elif config.quantization_bit is None:
        yield {"quantization_bit": 4}
        yield {"parallel_strategy": config.parallel_strategy, "quantization_bit": 4}
    length = config.cutoff_len
    while length // 2 >= SHORTEST:
        length //= 2
        yield {"cutoff_len": length}


def _spreading(config: TrainConfig, gpus: int) -> Iterator[Changes]:
    """Strategies that shard more than the present one, then those that leave the GPUs. They change no result."""
    now = ORDER.index(config.parallel_strategy) if config.parallel_strategy in ORDER else len(ORDER)
    undealt = {"micro_batch_tokens": None}  # which none of them knows
    if gpus > 1 and is_installed("deepspeed"):
        yield from ({"parallel_strategy": name, **undealt} for name in ORDER[max(2, now + 1) :])
    if not gpus or config.finetuning_type == "lora":  # whose weights are what takes the room
        return
    if config.parallel_strategy == "fsdp2":
        yield {"offload_param": "cpu"}
    elif is_installed("deepspeed"):
        sharding = config.parallel_strategy if config.parallel_strategy in ORDER[2:] else "zero2"
        yield {"parallel_strategy": sharding, "offload_optimizer": "cpu", **undealt}
        yield {"parallel_strategy": "zero3", "offload_optimizer": "cpu", "offload_param": "cpu", **undealt}


def _without_needless(config: TrainConfig, taken: Changes, fits: Callable[[TrainConfig], bool]) -> Changes:
    """What came before the change that was enough may not have been needed for it."""
    for key in list(taken):
        if key == "gradient_accumulation_steps":
            continue
        dropped = {key, "gradient_accumulation_steps"} if key == "per_device_train_batch_size" else {key}
        rest = {other: value for other, value in taken.items() if other not in dropped}
        tried = changed(config, rest)
        if tried is not None and fits(tried):
            taken = rest
    return {key: value for key, value in taken.items() if getattr(config, key) != value}


def _as_many_rows(config: TrainConfig, changes: Changes, gpus: int) -> Changes:
    """With as many rows a step by several processes as one had."""
    if config.parallel_strategy != "single" or "parallel_strategy" not in changes:
        return changes
    rows = changes.get("per_device_train_batch_size", config.per_device_train_batch_size)
    wanted = config.per_device_train_batch_size * config.gradient_accumulation_steps
    steps = max(1, wanted // (rows * max(1, gpus)))
    rest = {key: value for key, value in changes.items() if key != "gradient_accumulation_steps"}
    return rest if steps == config.gradient_accumulation_steps else {**rest, "gradient_accumulation_steps": steps}
