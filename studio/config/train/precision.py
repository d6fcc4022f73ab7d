"""Number types and what is traded for memory."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from studio.config.option import Config, option


def _switched(value: Any) -> Any:
    """YAML reads on and off as booleans, and LLaMA-Factory says true and false."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Recomputation = Annotated[Literal["off", "selective", "on"] | None, BeforeValidator(_switched)]
DEALT = ("pt", "sft", "dpo")  # stages whose rows can be dealt to other passes than their batches
WHOLE = ("single", "ddp")  # strategies in which a process holds the whole model on one device


class PrecisionOptions(Config):
    """In which precision is computed, and what is recomputed."""

    bf16: bool | None = option(
        None,
        en="Compute in bfloat16; empty means: on a GPU that can.",
        zh="使用 bfloat16 计算；留空则在支持的 GPU 上启用。",
        group="precision",
        label=("bfloat16", "bfloat16"),
    )
    fp16: bool = option(
        False,
        en="Compute in float16 with loss scaling (GPU only).",
        zh="使用 float16（仅 GPU）。",
        group="precision",
        label=("float16", "float16"),
    )
    pure_bf16: bool = option(
        False,
        en="Hold the trained weights in bfloat16 too: half the memory, coarser steps.",
        zh="训练的权重也以 bfloat16 存放：显存减半，更新精度较低。",
        group="precision",
        label=("Pure bfloat16", "纯 bfloat16"),
    )
    gradient_checkpointing: Recomputation = option(
        None,
        en="Compute activations twice to save memory: on in every layer (a third to a half slower), selective in as "
        "many layers as memory asks for; empty means: whatever is fastest and fits.",
        zh="重算激活以节省显存：on 为所有层（慢三分之一到一半），selective 为显存所需的层数；"
        "留空自动选择能放下的最快方式。",
        group="precision",
        label=("Gradient checkpointing", "梯度检查点"),
    )
    micro_batch_tokens: int | None = option(
        None,
        en="Tokens that go through the model at once. The rows of a step are dealt to as few passes as that allows; "
        "what is learned stays the same. Empty means: as many as memory has room for on a GPU, one batch on a CPU.",
        zh="一次通过模型的 token 数。每步的行会重新分配到尽可能少的前向计算中，学习结果不变。"
        "留空：GPU 上按显存取最多，CPU 上为一个批次。",
        group="precision",
        when={"stage": DEALT, "parallel_strategy": WHOLE},
        label=("Tokens at once", "单次 token 数"),
        ge=16,
        le=1 << 20,
    )
    enable_liger_kernel: bool | None = option(
        None,
        en="Compute norms, rotary positions and activations by Liger's fused kernels; empty means: on a GPU where they "
        "are installed and know the model.",
        zh="使用 Liger 融合核计算归一化、旋转位置编码和激活函数；留空则在已安装且支持该模型的 GPU 上启用。",
        group="precision",
        label=("Liger kernels", "Liger 融合核"),
    )
    fused_lora: bool | None = option(
        None,
        en="Compute adapters together with the layers they are on, with fewer passes over memory; empty means: "
        "wherever that gives the same result.",
        zh="将适配器与其所在层合并计算，减少显存读写；留空则在结果相同时启用。",
        group="precision",
        when={"finetuning_type": "lora", "parallel_strategy": WHOLE},
        label=("Fused LoRA", "融合 LoRA"),
    )
    cuda_graphs: bool = option(
        True,
        en="Record passes through the model as CUDA graphs and play them again, where nothing in them depends on "
        "chance: small passes take half as long.",
        zh="将前向与反向计算录制为 CUDA graphs 并重放（计算中没有随机性时）；小批次耗时减半。",
        group="precision",
        when={"stage": ("pt", "sft"), "parallel_strategy": ("single",)},
        label=("CUDA graphs", "CUDA graphs"),
    )
