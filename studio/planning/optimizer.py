"""What an optimizer keeps of each trained tensor, in bytes."""

from __future__ import annotations

from math import ceil

from studio.config.train import TrainConfig
from studio.planning.shape import Tensor

BLOCK = 256  # elements that share one scale in an 8-bit state
SMALL = 4096  # tensors below it are kept in 32 bits, as embeddings are
PAGED = ("paged_adamw_32bit", "paged_adamw_8bit")


def state_bytes(config: TrainConfig, tensors: tuple[Tensor, ...], width: int) -> int:
    """On the device, for tensors of `width` bytes an element. Paged states give way to what needs the room."""
    if config.optim in PAGED:
        return 0
    return sum(_of_tensor(config, tensor, width) for tensor in tensors)


def stored_bytes(config: TrainConfig, tensors: tuple[Tensor, ...], width: int) -> int:
    """In a checkpoint, where paged states are too."""
    return sum(_of_tensor(config, tensor, width) for tensor in tensors)


def scratch_bytes(config: TrainConfig, tensors: tuple[Tensor, ...], width: int) -> int:
    """What a step needs for its own computation beside the states."""
    sizes = [tensor.size for tensor in tensors]
    if config.optim == "adamw_torch":  # its root of the squares, for all tensors at once
        return sum(sizes) * width
    return max(sizes, default=0) * 4


def _of_tensor(config: TrainConfig, tensor: Tensor, width: int) -> int:
    size, matrix = tensor.size, len(tensor.shape) == 2
    match config.optim:
        case "sgd":
            return 0
        case "adafactor":
            return 4 * sum(tensor.shape) if matrix else 4 * size
        case "adamw_8bit" | "paged_adamw_8bit":
            small = size < SMALL or tensor.is_embedding
            return 8 * size if small else 2 * size + 2 * 4 * ceil(size / BLOCK)
        case "lion_32bit" | "schedule_free_sgd":
            return width * size
        case "muon":
            return width * size if matrix and not (tensor.is_embedding or tensor.is_head) else 2 * width * size
        case "galore_adamw" | "apollo_adamw":
            return _projected(config, tensor, width)
        case "paged_adamw_32bit":
            return 8 * size
        case _:
            return 2 * width * size


def _projected(config: TrainConfig, tensor: Tensor, width: int) -> int:
    """Both moments of the projected gradient and the projection."""
    galore = config.optim == "galore_adamw"
    rank = config.galore_rank if galore else config.apollo_rank
    names = config.galore_target if galore else config.apollo_target
    if not tensor.is_linear or not (names == ("all",) or tensor.module in names):
        return 2 * width * tensor.size
    long, short = max(tensor.shape), min(tensor.shape)
    return width * rank * (2 * long + short)
