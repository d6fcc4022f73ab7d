"""What a training writes, in bytes."""

from __future__ import annotations

from studio.config.train import TrainConfig
from studio.planning import optimizer, precision
from studio.planning.parameters import Parameters, count

ENCODED_BYTES = 8  # a token and its label


def needed(config: TrainConfig, parameters: Parameters, steps: int | None, encoded_tokens: int | None) -> int:
    """Checkpoints, one more than are kept, the output, and the encoded rows. On the fullest day, not at the end."""
    held, moved = precision.of(config, on_gpu=True), (*parameters.trained, *parameters.added)
    cache = 0 if config.streaming else (encoded_tokens or 0) * ENCODED_BYTES
    if config.finetuning_type == "lora":
        output = saved = count(parameters.added) * held.adapter
    else:
        saved = count(parameters.frozen) * held.frozen + count(moved) * held.trained
        output = sum(tensor.bytes for tensor in (*parameters.frozen, *parameters.trained))
    checkpoint = saved + optimizer.stored_bytes(config, moved, held.trained)
    return cache + output + checkpoint * _checkpoints(config, steps)


def _checkpoints(config: TrainConfig, steps: int | None) -> int:
    if not config.save_steps:
        return 0
    made = steps // config.save_steps if steps is not None else config.save_total_limit + 1
    return min(made, config.save_total_limit + 1)
