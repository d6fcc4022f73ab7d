"""How the processes of a training hold the model between them, one class for each kind of strategy.

A training calls, in this order: `of`, `prepare`, `loading` and `place` as the model is loaded, `arguments` as the
trainer is made, `check` once it is, `collected` at the end.
"""

from __future__ import annotations

from pathlib import Path

from studio.config.train import TrainConfig
from studio.parallel.strategies import STRATEGIES
from studio.worker.ranks import Rank
from studio.worker.sharding.copies import Copies
from studio.worker.sharding.layers import Layers
from studio.worker.sharding.whole import Sharding, Weights

__all__ = ["Sharding", "Weights", "of"]


def of(config: TrainConfig, rank: Rank, run_dir: Path) -> Sharding:
    """How the training of `config` is held by its process `rank`."""
    strategy = STRATEGIES[config.parallel_strategy]
    if strategy.is_deepspeed:
        from studio.worker.sharding.zero import Zero  # a second, for few trainings

        return Zero(config, rank, run_dir)
    if config.parallel_strategy == "fsdp2":
        from studio.worker.sharding.fsdp import Fsdp

        return Fsdp(config, rank, run_dir)
    if config.parallel_strategy == "device_map":
        return Layers(config, rank, run_dir)
    return (Copies if strategy.is_distributed else Sharding)(config, rank, run_dir)
