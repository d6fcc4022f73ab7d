"""Bytes an element takes: of weights that stay, of those that are trained, of what is computed between them."""

from __future__ import annotations

from dataclasses import dataclass

from studio.config.train import TrainConfig


@dataclass(frozen=True)
class Precision:
    """Bytes an element. `frozen` and `trained` are the model's own weights, `adapter` new ones, `computed` products."""

    frozen: int
    trained: int
    adapter: int
    computed: int


def of(config: TrainConfig, on_gpu: bool) -> Precision:
    """As a worker on this kind of device holds them."""
    bf16 = on_gpu if config.bf16 is None else config.bf16
    computed = 2 if config.fp16 or bf16 or config.pure_bf16 else 4
    trained = 2 if config.pure_bf16 else 4
    adapter = computed if config.pure_bf16 else 4
    frozen = trained if config.finetuning_type == "full" else computed
    return Precision(frozen, trained, adapter, computed)
