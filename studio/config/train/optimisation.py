"""How the weights move."""

from __future__ import annotations

import json
from typing import Any, Literal

import yaml

from studio.config.option import Config, JsonText, option
from studio.config.train.method import LANGUAGE

Scheduler = Literal[
    "linear",
    "cosine",
    "constant",
    "constant_with_warmup",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "polynomial",
    "inverse_sqrt",
    "warmup_stable_decay",
    "reduce_lr_on_plateau",
]

# what each schedule can be told in lr_scheduler_kwargs; the others nothing
SCHEDULER_SETTINGS: dict[str, tuple[str, ...]] = {
    "cosine": ("num_cycles",),
    "cosine_with_restarts": ("num_cycles",),
    "cosine_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"),
    "polynomial": ("lr_end", "power"),
    "inverse_sqrt": ("timescale",),
    "warmup_stable_decay": (
        "num_decay_steps", "num_stable_steps", "warmup_type", "decay_type", "min_lr_ratio", "num_cycles",
    ),
    "reduce_lr_on_plateau": (
        "mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps",
    ),
}  # fmt: skip


def scheduler_options(text: str | None) -> dict[str, Any]:
    """What lr_scheduler_kwargs says, as JSON or as key=value with commas between them.

    Raises:
        ValueError: it is neither.
    """
    if not text:
        return {}
    if text.lstrip().startswith("{"):
        return dict(json.loads(text))
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(key.strip() and equals for key, equals, _ in pairs):
        raise ValueError(f"{text!r} is not key=value")
    return {key.strip(): _number(value) for key, _, value in pairs}


def _number(text: str) -> Any:
    # YAML reads 1e-6 without a dot as a text
    try:
        return float(text) if "e" in text.lower() else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return text.strip()


class OptimisationOptions(Config):
    """Steps, batches, learning rate and loss."""

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
    seed: int = option(
        42, en="Seed of shuffling and initialisation.", zh="随机种子。", group="advanced", ge=0, lt=2**32
    )
    lr_scheduler_kwargs: JsonText = option(
        None,
        en="Further settings of the schedule, as min_lr=1e-6,num_cycles=2 or as JSON.",
        zh="学习率调度的其他参数，如 min_lr=1e-6,num_cycles=2，或 JSON。",
        group="advanced",
    )
    neftune_noise_alpha: float | None = option(
        None,
        en="Noise on the embeddings while training (NEFTune); 5 is usual, empty means none.",
        zh="训练时对嵌入加噪声（NEFTune），常用 5；留空不加。",
        group="optimisation",
        label=("NEFTune noise", "NEFTune 噪声"),
        ge=0,
        le=1000,
    )
    label_smoothing_factor: float = option(
        0.0,
        en="Share of each target that is spread over all other tokens.",
        zh="目标概率中分摊给其他 token 的比例。",
        group="advanced",
        when={"stage": LANGUAGE},
        ge=0,
        lt=1,
    )
    use_dft_loss: bool = option(
        False,
        en="Weigh each token's loss by how likely the model finds it (dynamic fine-tuning).",
        zh="按模型给出的概率加权每个 token 的损失（DFT）。",
        group="advanced",
        when={"stage": "sft"},
    )
    z_loss_coef: float = option(
        0.0,
        en="Weight of the loss that keeps logits small; 1e-4 is usual, 0 means none.",
        zh="抑制 logits 过大的 z-loss 权重，常用 1e-4；0 为关闭。",
        group="advanced",
        when={"stage": LANGUAGE},
        ge=0,
        le=1,
    )
