"""Training some layers of a model and leaving the rest as it is."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from studio.config.train import TrainConfig
from studio.errors import ModelError
from studio.planning.parameters import REWARD_HEAD
from studio.worker.methods import vocabulary


def free(config: TrainConfig, model: PreTrainedModel) -> None:
    """Leave free what the configuration names, as wide as it is to be trained, and freeze all else.

    Raises:
        ModelError: more layers than the model has, or modules that it has not.
    """
    prefix, layers = decoder(model)
    chosen = {f"{prefix}.{number}" for number in _numbers(config, len(layers))}
    inner = _modules(config.freeze_trainable_modules, {"all", *_inner(layers)}, "freeze_trainable_modules")
    outer = _modules(config.freeze_extra_modules, _outer(model, prefix), "freeze_extra_modules")
    new = [model.get_submodule(name).weight for name in vocabulary.new_rows(model)]
    for name, weight in model.named_parameters():
        layer, rest = _split(name, prefix)
        parts = {*rest.split("."), "all"}
        is_free = parts & inner if layer in chosen else not layer and parts & {*outer, REWARD_HEAD}
        weight.requires_grad_(bool(is_free) or any(weight is each for each in new))
        if weight.requires_grad and not config.pure_bf16:
            weight.data = weight.data.float()


def decoder(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The list of the model's layers and its name.

    Raises:
        ModelError: there is none to be found.
    """
    count = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise ModelError(f"{type(model).__name__} has no list of layers: set finetuning_type to lora or full")


def _numbers(config: TrainConfig, count: int) -> range:
    """The layers that are trained, out of `count`."""
    wanted = config.freeze_trainable_layers
    if not 0 < abs(wanted) <= count:
        raise ModelError(f"freeze_trainable_layers: the model has {count} layers (got {wanted})")
    if config.use_llama_pro:
        # expansion puts each new block behind a group of old ones
        if count % abs(wanted):
            raise ModelError(
                f"use_llama_pro: {count} layers cannot be divided by freeze_trainable_layers, {abs(wanted)}: set it to "
                "the number of blocks that the expansion added"
            )
        group = count // abs(wanted)
        return range(group - 1, count, group)
    return range(count - wanted, count) if wanted > 0 else range(-wanted)


def _split(name: str, prefix: str) -> tuple[str, str]:
    """The layer of a weight ("" for none) and its name within."""
    if not name.startswith(prefix + "."):
        return "", name
    number, _, rest = name[len(prefix) + 1 :].partition(".")
    return f"{prefix}.{number}", rest


def _modules(names: tuple[str, ...], known: set[str], option: str) -> set[str]:
    if unknown := sorted(set(names) - known):
        raise ModelError(f"{option}: the model has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return set(names)


def _inner(layers: nn.ModuleList) -> set[str]:
    return {part for layer in layers for name, _ in layer.named_parameters() for part in name.split(".")[:-1]}


def _outer(model: PreTrainedModel, prefix: str) -> set[str]:
    """Last parts of the names of what has weights outside the layers."""
    names = (name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False)))
    return {name.rpartition(".")[2] for name in names if not name.startswith(prefix + ".")}
