"""Trained linear layers in float32, computed in a narrower type with gradients that are float32 from the product on.

Under autocast each weight is narrowed by itself, and its gradient comes out narrow and is widened in a pass of its own.
Here all weights are narrowed at once, and the product writes its sums, which are float32 within, as they are.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from transformers import PreTrainedModel

from studio.config.train import TrainConfig
from studio.worker.fast import FAULTS, Path, first_line, gradients, siblings
from studio.worker.fast.copies import Copies
from studio.worker.fast.siblings import Outputs, Siblings

PART, WAY, PLAIN = "trained layers", "with float32 gradients", "by autocast"
TOKENS = 8  # of a trial
TOLERANCE = 0.02  # of a result's length: bfloat16 alone gives 0.004
TINY = 1e-30
HEAD_TOO = "has_admitted_its_head"


def fuse(model: PreTrainedModel, config: TrainConfig, precision: torch.dtype) -> Path:
    """Have the trained linear layers of `model`, which is trained in `precision`, compute so where they can. Their
    names and weights stay as they are; without gradients and without autocast they compute as before.
    """
    layers = _layers(model)
    alone = [[each] for each in layers]
    why = _obstacle(model, config, precision, layers) or _difference(alone, precision)
    if why:
        return Path(PART, PLAIN, why)
    groups, why = _groups(model, precision)
    model.register_forward_pre_hook(join(groups or alone).forget)
    return Path(PART, WAY, why and f"each by itself: {why}")


def join(groups: Sequence[Sequence[nn.Linear]]) -> Copies:
    """Have the layers of `groups` compute so, those of a group together where they are handed the very same tensor;
    what they share."""
    layers = [layer for group in groups for layer in group]
    copies = Copies(layers)
    numbers = {id(layer): number for number, layer in enumerate(layers)}
    for group in groups:
        together = Siblings(group)
        for layer in group:
            gradients.own(layer.weight)
            layer.__class__ = Dense
            layer.copies, layer.number, layer.siblings = copies, numbers[id(layer)], together
    return copies


def copies_in(model: nn.Module) -> Copies | None:
    """What the layers of `model` that compute so share; None where there are none."""
    return next((each.copies for each in model.modules() if isinstance(each, Dense)), None)


def admit_head(model: PreTrainedModel) -> None:
    """The loss of `model`, which reads its head's weight, takes care that the head may be one of these layers."""
    setattr(model, HEAD_TOO, True)


def _layers(model: PreTrainedModel) -> list[nn.Linear]:
    """Those that nothing else has a part in."""
    head = None if hasattr(model, HEAD_TOO) else model.get_output_embeddings()
    times = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    return [
        each
        for each in model.modules()
        if type(each) is nn.Linear
        and each is not head
        and "forward" not in vars(each)
        and times[id(each.weight)] == 1
        and _is_plain(each.weight)
    ]


def _is_plain(weight: Tensor) -> bool:
    watched = weight._backward_hooks or getattr(weight, "_post_accumulate_grad_hooks", None)
    return bool(weight.requires_grad and weight.dtype == torch.float32 and weight.is_contiguous() and not watched)


def _obstacle(model: PreTrainedModel, config: TrainConfig, precision: torch.dtype, layers: list[nn.Linear]) -> str:
    reasons = {
        f"parallel_strategy: {config.parallel_strategy}": config.parallel_strategy != "single",
        "the other way is for a GPU": model.device.type != "cuda",
        f"they are computed in {str(precision).removeprefix('torch.')}": precision != torch.bfloat16,
        "there are none in float32": not layers,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _groups(model: PreTrainedModel, precision: torch.dtype) -> tuple[list[list[nn.Linear]], str]:
    """Layers that are handed the very same tensor, together; none, and why, where that does not work."""
    ours = {id(each) for each in _layers(model)}
    named = {name: each for name, each in model.named_modules() if id(each) in ours}
    try:
        with torch.autocast(model.device.type, precision, cache_enabled=False):
            groups = [group.layers for group in siblings.groups(model, named, _kind)]
    except FAULTS as fault:
        return [], f"a pass to find groups failed: {first_line(fault)}"
    why = _difference([each for each in groups if len(each) > 1], precision)
    return ([], why) if why else (groups, "")


def _kind(layer: nn.Linear) -> torch.dtype:
    return layer.weight.dtype


def _difference(groups: list[list[nn.Linear]], precision: torch.dtype) -> str:
    """What is wrong with the results of a group of each kind of shapes; nothing where they are autocast's."""
    try:
        for group in {tuple(each.weight.shape for each in group): group for group in groups}.values():
            ours, theirs = copy.deepcopy(group), copy.deepcopy(group)
            join([ours])
            device = group[0].weight.device
            draw = torch.Generator(device).manual_seed(0)
            x = torch.randn(TOKENS, group[0].in_features, device=device, generator=draw)
            pairs = zip(_results(ours, x, precision), _results(theirs, x, precision), strict=True)
            apart = max(float((a - b).norm() / b.norm().clamp_min(TINY)) for a, b in pairs)
            if not apart < TOLERANCE:
                return f"they were tried and results were {apart:.1%} off"
    except FAULTS as fault:
        return f"they were tried and failed: {first_line(fault)}"
    return ""


def _results(group: list[nn.Linear], x: Tensor, precision: torch.dtype) -> list[Tensor]:
    """Outputs, and the gradients that two passes leave."""
    x = x.clone().requires_grad_()
    for _ in range(2):
        with torch.enable_grad(), torch.autocast(x.device.type, precision):
            outputs = [layer(x) for layer in group]
        sum(y.float().square().mean() for y in outputs).backward()
    weights = [weight for layer in group for weight in layer.parameters()]
    return [*(y.detach().float() for y in outputs), x.grad, *(weight.grad for weight in weights)]


class Dense(nn.Linear):  # type: ignore[misc]  # torch is untyped here
    """A linear layer that leaves to the plain way whatever is not the plain case."""

    copies: Copies
    number: int
    siblings: Siblings

    def forward(self, x: Tensor) -> Tensor:
        narrow, group = self.narrow(x), self.siblings.layers
        if narrow is None:
            gradients.leave(self.weight)
            return super().forward(x)
        dtype = narrow.dtype
        if not self._is_with_others(x):
            return _product(x, dtype, [(self, narrow)])[0]

        def product(places: Sequence[int]) -> Outputs:
            return _product(
                x, dtype, [(group[place], group[place].copies.of(group[place].number, dtype)) for place in places]
            )

        return self.siblings.asked(self, x, self.copies.edition, product)

    def narrow(self, x: Tensor) -> Tensor | None:
        """The copy of the weight [out, in] that the output for `x` is computed with; none in whatever is not the plain
        case."""
        kind = x.device.type
        is_other = not self._is_ours(x) or not torch.is_autocast_enabled(kind)
        return None if is_other else self.copies.of(self.number, torch.get_autocast_dtype(kind))

    def _is_ours(self, x: Tensor) -> bool:
        return torch.is_grad_enabled() and x.numel() > 0 and gradients.is_own(self.weight) and _is_plain(self.weight)

    def _is_with_others(self, x: Tensor) -> bool:
        """Whether this is no shallow copy of a layer, and its group is what it was."""
        group = self.siblings.layers
        return len(group) > 1 and any(each is self for each in group) and all(each._is_ours(x) for each in group)


def _product(x: Tensor, dtype: torch.dtype, parts: Sequence[tuple[nn.Linear, Tensor]]) -> Outputs:
    trained = [each for layer, _ in parts for each in (layer.weight, layer.bias)]
    return Product.apply(x.to(dtype), tuple(narrow for _, narrow in parts), *trained)  # type: ignore[no-any-return]


class Product(torch.autograd.Function):  # type: ignore[misc]  # torch is untyped here
    """x [..., in] -> x W^T + bias [..., out] of each weight and bias in `trained`, which take turns, computed with
    `narrow`, copies of the weights in the type of x.

    The gradient of a weight is added to what it has by now, as autograd itself would do, and given to nobody else.
    That of x is one sum, which the products are added to as they are made.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, narrow: tuple[Tensor, ...], *trained: nn.Parameter | None) -> Outputs:
        ctx.save_for_backward(x)
        ctx.narrow, ctx.weights, ctx.biases = narrow, trained[::2], trained[1::2]
        ctx.set_materialize_grads(False)
        biases = [None if bias is None else bias.to(x.dtype) for bias in ctx.biases]
        return tuple(functional.linear(x, *each) for each in zip(narrow, biases, strict=True))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        [x] = ctx.saved_tensors
        rows, to_biases = x.reshape(-1, x.shape[-1]), [None] * len(slopes)
        total: Tensor | None = None
        for number, slope in enumerate(slopes):
            if slope is None:
                continue
            flat = slope.reshape(-1, slope.shape[-1])
            if ctx.needs_input_grad[2 + 2 * number]:
                gradients.learn(ctx.weights[number], flat.T, rows)
            if ctx.needs_input_grad[3 + 2 * number]:
                to_biases[number] = flat.sum(0, dtype=torch.float32).to(ctx.biases[number].dtype)
            if ctx.needs_input_grad[0]:
                total = flat @ ctx.narrow[number] if total is None else total.addmm_(flat, ctx.narrow[number])
        to_x = None if total is None else total.view(x.shape)
        return to_x, None, *(each for bias in to_biases for each in (None, bias))
