"""Bytes an element takes: of weights that stay, of those that are trained, of what is computed between them."""

from __future__ import annotations

from dataclasses import dataclass

from studio.config.train import TrainConfig
from studio.parallel.strategies import STRATEGIES


@dataclass(frozen=True)
class Precision:
    """Bytes an element. `frozen` and `trained` are the model's own weights, `adapter` new ones, `computed` products.

    `used` is what weights that are trained take part in the computation as; `master` a copy of each beside it, where
    steps are made on one.
    """

    frozen: int
    trained: int
    adapter: int
    computed: int
    used: int
    master: int = 0


def of(config: TrainConfig, on_gpu: bool) -> Precision:
    """As a worker on this kind of device holds them."""
    bf16 = on_gpu if config.bf16 is None else config.bf16
    computed = 2 if config.fp16 or bf16 or config.pure_bf16 else 4
    strategy = STRATEGIES[config.parallel_strategy]
    if strategy.is_deepspeed:
        # everything in the type of the computation; the third stage steps on weights that are in float32 already
        master = 0 if computed == 4 and strategy.is_sharded else 4
        return Precision(computed, computed, computed, computed, computed, master)
    trained = 2 if config.pure_bf16 else 4
    adapter = computed if config.pure_bf16 else 4
    frozen = trained if config.finetuning_type == "full" else computed
    used = computed if config.parallel_strategy == "fsdp2" else trained
    return Precision(frozen, trained, adapter, computed, used)
