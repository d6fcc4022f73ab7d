"""DeepSpeed's ZeRO: optimizer states, gradients and weights are dealt out to the processes."""

from __future__ import annotations

from accelerate.utils import DistributedType

from studio.worker.sharding.copies import Copies


class Zero(Copies):
    """Stages 1 to 3."""

    @property
    def kind(self) -> DistributedType:
        return DistributedType.DEEPSPEED
