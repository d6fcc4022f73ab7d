"""How the weights move."""

from __future__ import annotations

from typing import Literal

from studio.config.option import Config, option

Scheduler = Literal[
    "linear",
    "cosine",
    "constant",
    "constant_with_warmup",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
]
Optimizer = Literal["adamw_torch", "adamw_torch_fused", "adafactor", "sgd"]


class OptimisationOptions(Config):
    """Steps, batches, learning rate and precision."""

    learning_rate: float = option(
        2e-4,
        en="Peak learning rate. LoRA likes 1e-4 to 5e-4, full fine-tuning 5e-6 to 5e-5.",
        zh="峰值学习率。LoRA 常用 1e-4 至 5e-4，全量微调 5e-6 至 5e-5。",
        group="optimisation",
        label=("Learning rate", "学习率"),
        gt=0,
        le=1,
    )
    num_train_epochs: float = option(
        3.0,
        en="Passes over the data.",
        zh="数据遍历次数。",
        group="optimisation",
        label=("Epochs", "训练轮数"),
        gt=0,
        le=10_000,
    )
    max_steps: int = option(
        -1,
        en="Stop after this many steps; -1 lets the epochs decide.",
        zh="最多训练步数；-1 由轮数决定。",
        group="optimisation",
        label=("Max steps", "最大步数"),
        ge=-1,
    )
    per_device_train_batch_size: int = option(
        2,
        en="Rows a device takes at once.",
        zh="每个设备一次处理的行数。",
        group="optimisation",
        label=("Batch size", "批大小"),
        ge=1,
        le=4096,
    )
    gradient_accumulation_steps: int = option(
        8,
        en="Batches summed before each step.",
        zh="每步之前累积的批数。",
        group="optimisation",
        label=("Gradient accumulation", "梯度累积"),
        ge=1,
        le=65_536,
    )
    lr_scheduler_type: Scheduler = option(
        "cosine",
        en="How the learning rate falls.",
        zh="学习率下降方式。",
        group="optimisation",
        label=("Schedule", "学习率调度"),
    )
    warmup_ratio: float = option(
        0.0,
        en="Share of the steps over which the learning rate rises.",
        zh="学习率预热占总步数的比例。",
        group="optimisation",
        label=("Warm-up share", "预热比例"),
        ge=0,
        lt=1,
    )
    warmup_steps: int = option(
        0,
        en="Steps over which the learning rate rises; used instead of the share.",
        zh="学习率预热步数，优先于比例。",
        group="advanced",
        ge=0,
    )
    weight_decay: float = option(
        0.0, en="Pull of the weights towards zero.", zh="权重衰减。", group="advanced", ge=0, le=1
    )
    max_grad_norm: float = option(
        1.0, en="Gradients are clipped to this norm.", zh="梯度裁剪范数。", group="advanced", gt=0
    )
    optim: Optimizer = option("adamw_torch", en="The optimizer.", zh="优化器。", group="advanced")
    seed: int = option(
        42, en="Seed of shuffling and initialisation.", zh="随机种子。", group="advanced", ge=0, lt=2**32
    )
    bf16: bool | None = option(
        None,
        en="Compute in bfloat16; empty means: on a GPU that can.",
        zh="使用 bfloat16 计算；留空则在支持的 GPU 上启用。",
        group="advanced",
    )
    fp16: bool = option(
        False,
        en="Compute in float16 with loss scaling (GPU only).",
        zh="使用 float16（仅 GPU）。",
        group="advanced",
    )
    gradient_checkpointing: bool = option(
        False,
        en="Recompute activations to save memory; about a third slower.",
        zh="重算激活以节省显存，约慢三分之一。",
        group="advanced",
    )
