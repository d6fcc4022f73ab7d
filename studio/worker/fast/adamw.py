"""AdamW over all weights in one launch, which reads each gradient and writes it not: torch's own kernel takes a launch
for every few tensors and, where it clips, writes gradients back.

Of each element 16 bytes are read and 12 written, and 2 more where a narrower copy of it is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from studio.worker.fast import FAULTS, Path, first_line
from studio.worker.fast.copies import Copies

PART, WAY, PLAIN = "optimizer", "AdamW in one launch", "torch's AdamW"
ALIGNED = 16  # bytes
TOLERANCE = 1e-5  # of what a trial's weights are moved by
LAST_BIT = 2**-7  # of bfloat16: Triton's interpreter cuts off what the device rounds
SHAPES = ((70, 257), (3,), (1024,))  # of a trial
STEPS = 3

Rows = list[tuple[Any, ...]]


class AdamW(torch.optim.AdamW):  # type: ignore[misc]  # torch is untyped here
    """torch.optim.AdamW with fused=True: the same state, and its own step where ours does not apply. `grad_scale`,
    where it is set, is what gradients are divided by. `copies` of weights, where it is to keep some, are written with
    them. Unlike torch's, it counts up the versions of what it changes, whichever way."""

    kinds: tuple[str, ...] = ("cuda",)
    grad_scale: Tensor | None = None
    copies: Copies | None = None

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        rows = None if closure else self._rows()
        if not rows:
            told = _plain_step()(self, closure)
            increment_version([weight for group in self.param_groups for weight in group["params"]])
            return told
        copied = self.copies.to_write() if self.copies else {}
        device = rows[0][1].device
        torch._foreach_add_([row[5] for row in rows], 1)
        places = [_row(row, copied.get(id(row[1]))) for row in rows]
        tables = self._tables(places, [_figures(group) for group in self.param_groups], device)
        _launch(*tables, torch.ones((), device=device) if self.grad_scale is None else self.grad_scale)
        increment_version([row[1] for row in rows])
        if self.copies and copied:
            self.copies.vouch({id(row[1]) for row in rows})
        return None

    def _rows(self) -> Rows:
        """Of each weight: itself at 1, its gradient, moments and steps, and its group's number; none where torch's own
        step is to be made."""
        rows: Rows = []
        for number, group in enumerate(self.param_groups):
            lists: list[list[Tensor]] = [[] for _ in range(6)]
            self._init_group(group, *lists)
            weights, slopes, means, squares, _, steps = lists
            rows += [(None, *row, number) for row in zip(weights, slopes, means, squares, steps, strict=True)]
            if group["amsgrad"] or group["maximize"] or torch.is_tensor(group["lr"]):
                return []
        fits = all(_fits(row, self.kinds) for row in rows)
        return rows if fits and len({row[1].device for row in rows}) == 1 else []

    def _tables(self, places: Rows, figures: Rows, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """What the kernel is told, sent where it is not there already."""
        held: dict[str, tuple[Any, Tensor]] = self.__dict__.setdefault("_sent", {})
        sizes = [row[0] for row in places]
        told = {"places": (places, torch.int64), "sizes": (sizes, torch.int64), "figures": (figures, torch.float64)}
        for name, (values, dtype) in told.items():
            if name not in held or held[name][0] != values:
                rows = _chunks(sizes) if name == "sizes" else values
                held[name] = values, _sent(rows, dtype, device)
        return held["places"][1], held["sizes"][1], held["figures"][1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_sent"}


def pick(weights: Sequence[nn.Parameter]) -> tuple[type[torch.optim.AdamW], Path]:
    """The class to be made for `weights`: ours, where it was tried beside torch's on their device."""
    why = _obstacle(weights) or _difference(weights[0].device)
    return (torch.optim.AdamW, Path(PART, PLAIN, why)) if why else (AdamW, Path(PART, WAY))


def keep(optimizer: Any, copies: Copies) -> None:
    """Have `copies` kept by `optimizer`, where it can, from here on; others leave them to be made for each pass."""
    copies.is_kept = type(optimizer) is AdamW
    if copies.is_kept:
        optimizer.copies = copies


def _obstacle(weights: Sequence[nn.Parameter]) -> str:
    kinds = {(each.device.type, each.dtype) for each in weights}
    return "" if kinds == {("cuda", torch.float32)} else "the other is for float32 on one GPU"


def _difference(device: torch.device, kind: type[AdamW] = AdamW) -> str:
    """What is wrong with a few steps; nothing where they are torch's."""
    draw = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=draw).to(device) for shape in SHAPES]
    slopes = [[torch.randn(shape, generator=draw).to(device) for shape in SHAPES] for _ in range(STEPS)]
    try:
        (ours, is_kept), (theirs, _) = (_moved(each, start, slopes) for each in (kind, torch.optim.AdamW))
    except (*FAULTS, OSError) as fault:
        return f"the other was tried and failed: {first_line(fault)}"
    apart = max(float((a - b).norm() / (b - c).norm()) for a, b, c in zip(ours, theirs, start, strict=True))
    if not apart < TOLERANCE:
        return f"the other was tried and weights were {apart:.1%} of their way off"
    return "" if is_kept else "the other was tried and copies of weights were not what they are"


def _moved(kind: type[torch.optim.AdamW], start: list[Tensor], slopes: list[list[Tensor]]) -> tuple[list[Tensor], bool]:
    """Weights after those steps, and whether copies of the first and last that are said to hold are what they are."""
    weights = [nn.Parameter(each.clone()) for each in start]
    groups = [{"params": weights[:1]}, {"params": weights[1:], "weight_decay": 0.0, "lr": 0.02}]
    optimizer = kind(groups, lr=0.01, weight_decay=0.1, fused=True)
    copied = weights[::2]
    copies = Copies([_Held(each) for each in copied])
    if isinstance(optimizer, AdamW):
        optimizer.copies, copies.is_kept = copies, True
    places = [copies.of(number, torch.bfloat16) for number in range(len(copied))]
    for each in slopes:
        optimizer.grad_scale = torch.full((), 3.0, device=start[0].device)
        for weight, slope in zip(weights, each, strict=True):
            weight.grad = slope.clone()
        optimizer.step()
    pairs = zip(copied, places, strict=True)
    is_kept = all(torch.allclose(place.float(), each.detach(), rtol=LAST_BIT, atol=0) for each, place in pairs)
    return [weight.detach() for weight in weights], is_kept or not (copies.is_kept and copies.holds())


class _Held(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A weight of a trial."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight


def _row(row: tuple[Any, ...], copy: Tensor | None) -> tuple[int, ...]:
    """What the kernel is told of a weight."""
    return row[1].numel(), *(each.data_ptr() for each in row[1:6]), row[6], 0 if copy is None else copy.data_ptr()


def _plain_step() -> Callable[..., Any]:
    """Torch's own, without the hooks that it gets once the first of its optimizers is made: ours has them already."""
    step: Any = torch.optim.AdamW.step
    return step.__wrapped__ if getattr(step, "hooked", False) else step  # type: ignore[no-any-return]


def _fits(row: tuple[Any, ...], kinds: tuple[str, ...]) -> bool:
    tensors = row[1:5]
    return row[5].device == row[1].device and all(
        each.device.type in kinds
        and each.dtype == torch.float32
        and each.is_contiguous()
        and each.data_ptr() % ALIGNED == 0
        for each in tensors
    )


def _figures(group: dict[str, Any]) -> tuple[float, ...]:
    one, two = group["betas"]
    logs = (math.log(beta) if beta else -math.inf for beta in (one, two))
    return group["lr"], 1 - one, 1 - two, group["weight_decay"], group["eps"], *logs


def _chunks(sizes: list[int]) -> Rows:
    from studio.worker.fast.adamw_kernel import CHUNK

    return [(number, begin) for number, size in enumerate(sizes) for begin in range(0, size, CHUNK)]


def _sent(rows: Rows, dtype: torch.dtype, device: torch.device) -> Tensor:
    table = torch.tensor(rows, dtype=dtype, pin_memory=device.type == "cuda")
    return table.to(device, non_blocking=True)


def _launch(places: Tensor, chunks: Tensor, figures: Tensor, scale: Tensor) -> None:
    from studio.worker.fast.adamw_kernel import BLOCK, CHUNK, step

    step[(len(chunks),)](places, chunks, figures, scale, BLOCK=BLOCK, CHUNK=CHUNK, num_warps=4)
