"""Number types and what is traded for memory."""

from __future__ import annotations

from studio.config.option import Config, option


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
    gradient_checkpointing: bool | None = option(
        None,
        en="Recompute activations to save memory, about a third slower; empty means: where memory needs it.",
        zh="重算激活以节省显存，约慢三分之一；留空则在显存需要时启用。",
        group="precision",
        label=("Gradient checkpointing", "梯度检查点"),
    )
