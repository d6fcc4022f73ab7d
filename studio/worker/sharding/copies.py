"""Several processes that each hold a copy of the model and sum their gradients (DDP)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import distributed

from studio.worker.sharding.whole import Sharding


class Copies(Sharding):
    """What processes that form a group do alike."""

    @property
    def kind(self) -> DistributedType:
        """What Accelerate must call it, were it one process that a launcher has started."""
        return DistributedType.MULTI_GPU if torch.cuda.is_available() else DistributedType.MULTI_CPU

    def prepare(self) -> None:
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(self.device)
        # words between processes travel beside the gradients, through tensors on the CPU
        backend = "cuda:nccl,cpu:gloo" if cuda else "gloo"
        distributed.init_process_group(backend, timeout=timedelta(seconds=self.config.ddp_timeout))

    def arguments(self) -> dict[str, Any]:
        return {"ddp_timeout": self.config.ddp_timeout}
