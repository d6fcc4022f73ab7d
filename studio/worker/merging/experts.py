"""LoRA on the experts of a mixture, which a model holds stacked and a checkpoint often one by one.

An adapter of the stacked weight has A [experts * rank, in] and B [out, rank * experts]: A is stacked by expert, B by
rank. One of a single expert has A [rank, in] and B [out, rank], as a linear layer has.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

import torch

from studio.worker.merging.work import Read, Source

# how single experts are called: the two halves of the stacked gate_up_proj, and down_proj
SINGLE = {"gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")), "down_proj": (("down_proj",), ("w2",))}
LAYER = re.compile(r"^(.*?\blayers\.\d+\.)")
EXPERT = re.compile(r"^(?P<stack>.*\bexperts)\.(?P<number>\d+)\.(?P<part>\w+)$")


@dataclass(frozen=True)
class Stack:
    """The stacked weight [experts, out, in], or [experts, in, out] where `transposed`, plus `scale` B A by expert."""

    a: Source
    b: Source
    scale: float
    experts: int
    transposed: bool
    whole: bool = False

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.a, self.b)

    def apply(self, weight: torch.Tensor, read: Read, rows: slice) -> torch.Tensor:
        a, b = _split(read(self.a), read(self.b), self.experts)
        a, b = a[rows].float(), b[rows].float()
        left, right = (a.mT, b.mT) if self.transposed else (b, a)
        return weight.baddbmm_(left, right, alpha=self.scale)


@dataclass(frozen=True)
class OneOfStack:
    """One expert's own weight [n, in]: the lines from `first` on of what the stacked adapter does to it."""

    a: Source
    b: Source
    scale: float
    experts: int
    number: int
    first: int
    whole: bool = False

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.a, self.b)

    def apply(self, weight: torch.Tensor, read: Read, rows: slice) -> torch.Tensor:
        a, b = _split(read(self.a), read(self.b), self.experts)
        lines = b[self.number, self.first + rows.start : self.first + rows.stop]
        return weight.addmm_(lines.float(), a[self.number].float(), alpha=self.scale)


@dataclass(frozen=True)
class PartOfStack:
    """The stacked weight [experts, out, in] with one expert's adapter added to its lines from `first` on."""

    a: Source
    b: Source
    scale: float
    number: int
    first: int
    whole: bool = False

    @property
    def sources(self) -> tuple[Source, ...]:
        return (self.a, self.b)

    def apply(self, weight: torch.Tensor, read: Read, rows: slice) -> torch.Tensor:
        if rows.start <= self.number < rows.stop:
            b = read(self.b).float()
            lines = weight[self.number - rows.start, self.first : self.first + b.shape[0]]
            lines.addmm_(b, read(self.a).float(), alpha=self.scale)
        return weight


def singles(module: str, parameter: str, names: Collection[str]) -> list[list[str]]:
    """The stored weights of single experts that the stacked `parameter` of `module` is made of.

    One list for each expert, in the order in which they are stacked; empty where they are not stored so.
    """
    layer = LAYER.match(module)
    if parameter not in SINGLE or layer is None:
        return []
    for parts in SINGLE[parameter]:
        pattern = re.compile(re.escape(layer[1]) + r"\w+\.experts\.(\d+)\." + parts[0] + r"\.weight$")
        found = {int(match[1]): match[0] for name in names if (match := pattern.match(name))}
        if found:
            halves = [[_sibling(found[n], parts[0], part) for part in parts] for n in sorted(found)]
            return halves if all(name in names for half in halves for name in half) else []
    return []


def place(module: str) -> tuple[str, int, str, bool] | None:
    """(stack, number, parameter, is the second half) of a single expert's module; None of another module."""
    match = EXPERT.match(module)
    for parameter, spellings in SINGLE.items():
        for parts in spellings:
            if match and match["part"] in parts:
                return match["stack"], int(match["number"]), parameter, parts.index(match["part"]) == 1
    return None


def _split(a: torch.Tensor, b: torch.Tensor, experts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A as [experts, rank, in] and B as [experts, out, rank]."""
    return a.view(experts, -1, a.shape[1]), b.view(b.shape[0], -1, experts).permute(2, 0, 1)


def _sibling(name: str, part: str, other: str) -> str:
    return name.removesuffix(f"{part}.weight") + f"{other}.weight"
