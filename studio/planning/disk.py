"""What a training writes, in bytes."""

from __future__ import annotations

from math import ceil

from studio.config.train import TrainConfig
from studio.planning import optimizer, precision
from studio.planning.parameters import Parameters, count

ENCODED_BYTES = 8  # a token and its label


def needed(config: TrainConfig, parameters: Parameters, steps: int | None, encoded_tokens: int | None) -> int:
    """Checkpoints, one more than are kept, the output, and the encoded rows. On the fullest day, not at the end."""
    cache = 0 if config.streaming else (encoded_tokens or 0) * ENCODED_BYTES
    if config.finetuning_type == "lora":
        output = count(parameters.added) * precision.of(config, on_gpu=True).adapter
    else:
        output = sum(tensor.bytes for tensor in (*parameters.frozen, *parameters.trained))
    return cache + output + checkpoint(config, parameters) * _checkpoints(config, steps)


def checkpoint(config: TrainConfig, parameters: Parameters) -> int:
    """One of them: weights, and what the optimizer knows."""
    held, moved = precision.of(config, on_gpu=True), (*parameters.trained, *parameters.added)
    wide = held.master or held.trained
    if config.finetuning_type == "lora":
        saved = count(parameters.added) * held.adapter
    else:
        saved = count(parameters.frozen) * held.frozen + count(moved) * wide
    states = optimizer.stored_bytes(config, moved, wide) + held.master * count(moved)
    return saved + (0 if config.save_only_model else states)


def _checkpoints(config: TrainConfig, steps: int | None) -> int:
    """How many there are at once, at the most."""
    most = config.save_total_limit + 1
    if config.save_minutes:
        return most
    if config.save_strategy == "epoch":
        return min(ceil(config.num_train_epochs), most) if config.max_steps < 0 else most
    if config.save_strategy == "no" or not config.save_steps:
        return 0
    return min(steps // config.save_steps, most) if steps is not None else most
