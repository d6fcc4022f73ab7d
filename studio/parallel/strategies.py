"""The strategies: what each shards, what that costs in communication, and when to take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Name = Literal["single", "ddp", "zero1", "zero2", "zero3", "fsdp2", "device_map"]


@dataclass(frozen=True)
class Strategy:
    """One way of spreading a training.

    `stage`: of ZeRO, 0 where it is none. `sentence` says what is sharded, what it costs and when it pays (English,
    Chinese). `is_sharded`: no process holds all weights.
    """

    name: Name
    stage: int
    is_sharded: bool
    sentence: tuple[str, str]

    @property
    def is_deepspeed(self) -> bool:
        return self.stage > 0

    @property
    def is_distributed(self) -> bool:
        """Several processes, one for each device."""
        return self.name not in ("single", "device_map")


STRATEGIES: dict[str, Strategy] = {
    each.name: each
    for each in (
        Strategy("single", 0, False, (
            "One process on one device: nothing is sharded and nothing is sent.",
            "单进程单设备：不切分，也无通信。",
        )),
        Strategy("ddp", 0, False, (
            "Every device holds all of it and takes its share of the rows; gradients are summed once a step. The "
            "fastest where the training fits into one device.",
            "每个设备持有完整模型并分担数据；每步汇总一次梯度。单设备放得下时最快。",
        )),
        Strategy("zero1", 1, False, (
            "As DDP, with the optimizer's states sharded; the same traffic. Where DDP just does not fit.",
            "同 DDP，但切分优化器状态，通信量相同。适合 DDP 略超显存时。",
        )),
        Strategy("zero2", 2, False, (
            "Optimizer states and gradients are sharded; the same traffic as DDP. For full fine-tuning of models "
            "whose weights fit into one device.",
            "切分优化器状态与梯度，通信量与 DDP 相同。适合权重放得进单设备的全量微调。",
        )),
        Strategy("zero3", 3, True, (
            "Weights, gradients and optimizer states are all sharded; half as much traffic again, as weights are "
            "gathered layer by layer, forth and back. For models that do not fit into one device.",
            "权重、梯度与优化器状态全部切分；逐层收集权重，通信量约为 1.5 倍。适合单设备放不下的模型。",
        )),
        Strategy("fsdp2", 0, True, (
            "PyTorch's own full sharding: the memory and the traffic of ZeRO-3 without DeepSpeed. For models that do "
            "not fit into one device.",
            "PyTorch 原生全切分：显存与通信量同 ZeRO-3，无需 DeepSpeed。适合单设备放不下的模型。",
        )),
        Strategy("device_map", 0, True, (
            "One process with the layers dealt out to the devices, which work one after another: no faster than one. "
            "For LoRA on a model that is larger than one device.",
            "单进程，各层依次分配到多个设备、轮流计算：不会更快。适合在超出单设备的模型上做 LoRA。",
        )),
    )
}  # fmt: skip
