"""Every weight of base plus adapter, asked by itself, and the same weight of the merged model.

A layer that an adapter changes is given inputs that pick single columns (or rows) of its weight, so that what it
returns is the weight that it acts with, whatever arithmetic made it: no formula of a merge is repeated here. Weights
that no adapter touches are sampled. Where both differ by more than rounding explains, something was lost or doubled.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora.layer import ParamWrapper
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper, TrainableTokensWrapper
from torch import nn
from transformers.pytorch_utils import Conv1D

PICKED = 16  # columns of a weight
SAMPLED = 256  # numbers of a weight that nothing changes, and of an embedding the rows
INSIDE = (".base_layer", ".original_module", ".modules_to_save", ".token_adapter", ".lora_", ".parametrizations")
# half a step of a type, as a share of the number that is rounded to it
HALF_STEP = {"F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}
# what the arithmetic of the comparison itself adds, as a share of the number and of the largest number around
ARITHMETIC = {torch.float32: (2.0**-20, 1e-5), torch.bfloat16: (2.0**-8, 1e-4)}


@dataclass(frozen=True)
class Layer:
    """A layer and what it returns for `question`."""

    name: str
    question: torch.Tensor
    wanted: torch.Tensor

    def ask(self, model: nn.Module) -> torch.Tensor:
        return _answer(model.get_submodule(self.name), self.question)


@dataclass(frozen=True)
class Numbers:
    """A parameter and its numbers at `places` of it, laid flat."""

    name: str
    places: torch.Tensor
    wanted: torch.Tensor

    def ask(self, model: nn.Module) -> torch.Tensor:
        return _at(model.get_parameter(self.name), self.places)


Mark = Layer | Numbers  # something that base plus adapter was asked, with its answer


def take(tuned: PeftModel) -> list[Mark]:
    """Marks of everything in base plus adapter, with the adapters that are active."""
    model = tuned.base_model.model
    changed = {name: module for name, module in model.named_modules() if _is_outermost(name, module)}
    marks: list[Mark] = [mark for name, module in changed.items() for mark in _of(name, module)]
    free = ((name, weight) for name, weight in model.named_parameters() if not _is_below(name, changed))
    return [*marks, *(_numbers(name, weight) for name, weight in free)]


def deviation(mark: Mark, model: nn.Module, stored: str, computed: torch.dtype) -> float:
    """The largest difference of `model` from a mark, as a share of what rounding to `stored` explains.

    Infinite where `model` answers in another shape, not at all, or with a NaN.
    """
    try:
        got = mark.ask(model)
    except (AttributeError, RuntimeError, IndexError):  # it has no such weight, or one of another shape
        return math.inf
    if got.shape != mark.wanted.shape:
        return math.inf
    share, of_largest = ARITHMETIC[computed]
    size, bias = mark.wanted.abs(), _bias(mark)
    largest = size.max() if bias is None else size[:-1].max()
    allowed = (HALF_STEP.get(stored, 0) + share) * size + of_largest * largest
    if bias is not None:
        allowed += share * bias  # it was added to every column, and taken off again
    return float(((got - mark.wanted).abs() / allowed.clamp_min(1e-30)).nan_to_num(nan=math.inf, posinf=math.inf).max())


def _bias(mark: Mark) -> torch.Tensor | None:
    """The sizes of a layer's bias, which its mark ends with; None of marks that hold none."""
    is_layer = isinstance(mark, Layer) and mark.question.dtype != torch.long
    return mark.wanted[-1:].abs() if is_layer else None


def _is_outermost(name: str, module: nn.Module) -> bool:
    return isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) and not any(
        f".{name}".count(i) for i in INSIDE
    )


def _is_below(name: str, changed: Mapping[str, Any]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in changed for length in range(1, len(parts)))


def _of(name: str, module: nn.Module) -> Iterator[Mark]:
    if isinstance(module, ParamWrapper):
        yield from _wrapped(name, module)
        return
    question = _question(_core(module), _rows(module))
    if question is not None:
        yield Layer(name, question, _answer(module, question))
        return
    whole = module.modules_to_save[module.active_adapters[0]] if isinstance(module, ModulesToSaveWrapper) else module
    yield from (_numbers(f"{name}.{key}", weight) for key, weight in whole.named_parameters())


def _wrapped(name: str, module: ParamWrapper) -> Iterator[Mark]:
    """Parameters that are no layer of their own, such as those of experts: one around the other."""
    inner: nn.Module = module
    changed = set()
    while isinstance(inner, ParamWrapper):
        weight = inner.get_param().float()
        for adapter in inner.active_adapters:
            weight = weight + inner.get_delta_weight(adapter).float()
        yield _numbers(f"{name}.{inner.parameter_name}", weight)
        changed.add(inner.parameter_name)
        inner = inner.base_layer
    if not isinstance(inner, BaseTunerLayer):
        others = ((key, weight) for key, weight in inner.named_parameters() if key not in changed)
        yield from (_numbers(f"{name}.{key}", weight) for key, weight in others)


def _core(module: nn.Module) -> nn.Module:
    """The layer of the base inside what PEFT put around it."""
    while True:
        inner = getattr(module, "base_layer", None) or getattr(module, "original_module", None)
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def _rows(module: nn.Module) -> list[int]:
    """Rows of an embedding that were trained one by one."""
    if not isinstance(module, TrainableTokensWrapper):
        return []
    return [row for rows in module.token_adapter.token_indices.values() for row in rows]


def _question(core: nn.Module, rows: Sequence[int]) -> torch.Tensor | None:
    """Inputs that pick columns of a weight, the last of them nothing, which returns the bias; of an embedding, rows."""
    random = torch.Generator().manual_seed(0)
    weight = getattr(core, "weight", None)
    if weight is None:
        return None
    if isinstance(core, nn.Embedding):
        picked = torch.randint(core.num_embeddings, (SAMPLED,), generator=random)
        last = torch.arange(max(0, core.num_embeddings - PICKED), core.num_embeddings)
        return torch.cat([picked, last, torch.tensor(rows[:SAMPLED], dtype=torch.long)])[None].to(weight.device)
    if isinstance(core, nn.Linear | Conv1D):
        shape: tuple[int, ...] = (core.in_features if isinstance(core, nn.Linear) else weight.shape[0],)
    elif isinstance(core, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        shape = (
            core.in_channels,
            *(step * (size - 1) + 1 for size, step in zip(core.kernel_size, core.dilation, strict=True)),
        )
    else:
        return None
    return _impulses(shape, random).to(weight.device)


def _impulses(shape: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    """PICKED inputs that are 1 in one place and 0 elsewhere, and one that is 0 everywhere."""
    size = math.prod(shape)
    flat = torch.zeros(PICKED + 1, size)
    flat[torch.arange(PICKED), torch.randint(size, (PICKED,), generator=random)] = 1
    return flat.reshape(PICKED + 1, *shape)


def _answer(module: nn.Module, question: torch.Tensor) -> torch.Tensor:
    """Columns of the weight that a layer acts with, without its bias, and its bias; of an embedding, rows."""
    exact = module if question.dtype == torch.long else _exact(module)
    got = exact(question).float()
    return got if question.dtype == torch.long else torch.cat([got[:-1] - got[-1:], got[-1:]])


def _exact(module: nn.Module) -> nn.Module:
    """A layer that computes in float32: itself, or a copy where the model is held in 16 bits."""
    is_held_so = all(weight.dtype == torch.float32 for weight in module.parameters())
    return module if is_held_so else copy.deepcopy(module).float()


def _numbers(name: str, weight: torch.Tensor) -> Numbers:
    """Random numbers of a weight; where it is a stack, as of experts, some of each of them."""
    stack = weight.shape[0] if weight.dim() > 2 else 1
    size = weight.numel() // stack
    places = torch.randint(size, (stack, max(PICKED, SAMPLED // stack)), generator=torch.Generator().manual_seed(0))
    places = (places + size * torch.arange(stack)[:, None]).flatten().to(weight.device)
    return Numbers(name, places, _at(weight, places))


def _at(weight: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return weight.detach().flatten()[places].float()
