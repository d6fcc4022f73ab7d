"""One process that holds the layers of one model on several GPUs, which compute one after another."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PreTrainedModel

from studio.errors import ParallelError
from studio.worker.sharding.whole import Sharding

SHARE = 0.9  # of a GPU's free memory that layers may take; the rest is for what is computed


class Layers(Sharding):
    """The layers are dealt out as they are loaded, so that each GPU holds about as much as the others."""

    def prepare(self) -> None:
        if torch.cuda.device_count() < 2:
            raise ParallelError(
                "parallel_strategy: device_map deals out a model's layers to several GPUs, and this training sees "
                f"{torch.cuda.device_count() or 'none'}: name more in devices, or set parallel_strategy: single"
            )

    def loading(self) -> dict[str, Any]:
        free = {gpu: int(SHARE * torch.cuda.mem_get_info(gpu)[0]) for gpu in range(torch.cuda.device_count())}
        return {"device_map": "balanced", "max_memory": free}

    def place(self, model: PreTrainedModel) -> PreTrainedModel:
        if any(not isinstance(place, int) for place in model.hf_device_map.values()):
            raise ParallelError(
                "parallel_strategy: device_map has too little free memory on the GPUs for the model's layers: name "
                "more in devices, set quantization_bit: 4, or free some memory"
            )
        return model
