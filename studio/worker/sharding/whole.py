"""The simplest way, and what the others are asked for: one process that holds all of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import nn
from transformers import PreTrainedModel, Trainer

from studio.config.train import TrainConfig
from studio.errors import ParallelError
from studio.models import ModelInfo
from studio.worker.ranks import Rank

Weights = dict[str, torch.Tensor]


class Sharding:
    """One process. Other kinds of `config.parallel_strategy` change what is different with them."""

    is_sharded = False  # whether no process holds all weights

    def __init__(self, config: TrainConfig, rank: Rank, run_dir: Path) -> None:
        self.config, self.rank, self.run_dir = config, rank, run_dir

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return torch.device("cuda", self.rank.local) if torch.cuda.is_available() else torch.device("cpu")

    @property
    def kind(self) -> DistributedType:
        """What Accelerate must call it."""
        return DistributedType.NO

    def prepare(self) -> None:
        """Called first of all, before rows are read or weights are loaded: processes find each other here."""

    def begin(self, precision: torch.dtype, info: ModelInfo) -> None:
        """Called right before the model of `info` is loaded; `precision` is the type to compute in."""

    def loading(self) -> dict[str, Any]:
        """What from_pretrained is told of it: weights go from their files to the GPU, without a copy on the CPU."""
        return {"device_map": {"": self.device.index}} if self.device.type == "cuda" else {}

    def place(self, model: PreTrainedModel) -> PreTrainedModel:
        """`model`, loaded, where it is trained."""
        return model.to(self.device)

    def arguments(self) -> dict[str, Any]:
        """What the configuration of every trainer is told of it."""
        return {}

    def check(self, trainer: Trainer) -> None:
        """Whether the trainer came out as asked: the libraries fall back to other ways without a word.

        Raises:
            ParallelError: it did not.
        """
        accelerator = trainer.accelerator
        found, wanted = (accelerator.distributed_type, accelerator.num_processes), (self.kind, self.rank.world)
        if found != wanted:
            raise ParallelError(
                f"parallel_strategy: {self.config.parallel_strategy} came out as {found[0].value} of {found[1]} "
                f"processes where {wanted[0].value} of {wanted[1]} was asked for; the libraries' versions may not fit"
            )

    def rows(self, weight: nn.Parameter) -> int:
        """Rows of a weight, of which this process may hold none."""
        return len(weight)

    def copied(self, model: PreTrainedModel) -> PreTrainedModel:
        """Another model that is as `model` was loaded, before anything was trained of it."""
        return deepcopy(model)

    def consulted(self, model: PreTrainedModel) -> PreTrainedModel:
        """`model`, which is asked and not trained, as it is held beside the one that is."""
        return model

    @contextmanager
    def computing(self, model: nn.Module) -> Iterator[None]:
        """In here `model` may be called before its trainer is made, with the same rows in all processes."""
        yield

    def collected(self, model: nn.Module) -> Weights | None:
        """Whole weights on the CPU, by name: those that are trained of an adapter's model, else all of them.

        All processes call it, and the first one gets them; the others get none. None where `model` itself has them.
        """
        return None
