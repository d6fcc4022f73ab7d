"""What of a model is trained by which method: tensors that stay as they are, tensors that move, new ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path

from studio import models
from studio.config.train import TrainConfig
from studio.config.train.lora import layer_numbers, target_pattern
from studio.errors import ModelError
from studio.planning.shape import Shape, Tensor

REWARD_HEAD = "score"


@dataclass(frozen=True)
class Parameters:
    """The tensors of a loaded model by what becomes of them. `targets` names the frozen ones that get an adapter."""

    frozen: tuple[Tensor, ...]
    trained: tuple[Tensor, ...]
    added: tuple[Tensor, ...]
    targets: frozenset[str]

    @property
    def total(self) -> int:
        return count(self.frozen) + self.trainable

    @property
    def trainable(self) -> int:
        return self.trained_size + self.added_size

    @cached_property
    def trained_size(self) -> int:
        return count(self.trained)

    @cached_property
    def added_size(self) -> int:
        return count(self.added)


def count(tensors: tuple[Tensor, ...]) -> int:
    """Elements of all of them."""
    return sum(tensor.size for tensor in tensors)


def of(config: TrainConfig, shape: Shape) -> Parameters:
    """What a training as configured does to the tensors of a model."""
    kept: tuple[Tensor, ...] = shape.tensors
    head: tuple[Tensor, ...] = ()
    if config.stage == "rm":
        kept = tuple(tensor for tensor in kept if not tensor.is_head)
        head = (Tensor(f"{REWARD_HEAD}.weight", (1, shape.hidden), 0),)
    if config.finetuning_type == "full":
        return Parameters((), kept + head, (), frozenset())
    if config.finetuning_type == "freeze":
        chosen = _thawed(config, shape)
        trained = tuple(tensor for tensor in kept if chosen(tensor))
        frozen = tuple(tensor for tensor in kept if not chosen(tensor))
        return Parameters(frozen, trained, head, frozenset())
    targets = _targets(config, shape)
    added = (*_adapter(config, targets), *_copies(config, kept), *head)
    return Parameters((*kept, *head), (), added, frozenset(tensor.name for tensor in targets))


def _targets(config: TrainConfig, shape: Shape) -> list[Tensor]:
    """The matrices that get an adapter."""
    layers = layer_numbers(config.layers_to_transform) if config.layers_to_transform else None
    return [
        tensor
        for tensor in shape.linear
        if _is_named(config.lora_target, tensor) and (layers is None or tensor.layer in layers)
    ]


def _is_named(names: tuple[str, ...], tensor: Tensor) -> bool:
    if names == ("all",):
        return True
    pattern = target_pattern(names)
    if pattern is None:
        return any(f".{tensor.path}".endswith(f".{name}") for name in names)
    try:
        return bool(re.fullmatch(pattern, tensor.path))
    except re.error:
        return False


def _adapter(config: TrainConfig, targets: list[Tensor]) -> Iterator[Tensor]:
    continued = config.adapter_name_or_path[-1:] if not config.create_new_adapter else ()
    if continued and (header := _stored_adapter(continued[0])):
        yield from header
        return
    rank = config.lora_rank
    if config.use_adalora:
        rank = config.adalora_init_r or ceil(1.5 * config.lora_rank)
    for tensor in targets:
        wide, narrow = tensor.shape
        yield Tensor(f"{tensor.path}.lora_A.weight", (rank, narrow), 0)
        yield Tensor(f"{tensor.path}.lora_B.weight", (wide, rank), 0)
        if config.use_adalora:
            yield Tensor(f"{tensor.path}.lora_E", (rank, 1), 0)
        if config.use_dora:
            yield Tensor(f"{tensor.path}.lora_magnitude_vector.weight", (wide,), 0)


def _stored_adapter(name: str) -> list[Tensor]:
    """The tensors of an adapter that is there already; none where it cannot be read."""
    try:
        header = models.read_header(Path(models.resolve(name)) / "adapter_model.safetensors")
    except ModelError:
        return []
    return [Tensor(key, tuple(entry["shape"]), 0) for key, entry in header.items()]


def _copies(config: TrainConfig, kept: tuple[Tensor, ...]) -> Iterator[Tensor]:
    """Modules that are trained whole beside an adapter: a copy of each; the original stays."""
    for target in config.additional_target:
        found = [tensor for tensor in kept if target in tensor.path.split(".")]
        # a tied head is no tensor of its own, its copy is one of the embedding
        yield from found or [tensor for tensor in kept if tensor.is_embedding]


def _thawed(config: TrainConfig, shape: Shape) -> Callable[[Tensor], bool]:
    """Whether a tensor is trained while the others are frozen."""
    layers, modules = _thawed_layers(config, shape.layers), set(config.freeze_trainable_modules)

    def chosen(tensor: Tensor) -> bool:
        parts = set(tensor.path.split("."))
        if tensor.layer is None:
            return not parts.isdisjoint(config.freeze_extra_modules)
        return tensor.layer in layers and ("all" in modules or not parts.isdisjoint(modules))

    return chosen


def _thawed_layers(config: TrainConfig, layers: int) -> range:
    wanted = config.freeze_trainable_layers
    if config.use_llama_pro:  # the last of each block of layers
        stride = max(1, layers // max(1, abs(wanted)))
        return range(stride - 1, layers, stride)
    return range(max(0, layers - wanted), layers) if wanted >= 0 else range(min(layers, -wanted))
