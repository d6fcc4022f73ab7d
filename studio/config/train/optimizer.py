"""The optimizer and its own settings."""

from __future__ import annotations

from typing import Literal

from studio.config.option import Config, Names, option

Optimizer = Literal[
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_32bit",
    "paged_adamw_8bit",
    "adafactor",
    "lion_32bit",
    "sgd",
    "muon",
    "schedule_free_adamw",
    "schedule_free_sgd",
    "galore_adamw",
    "apollo_adamw",
]
GALORE = {"optim": "galore_adamw"}
APOLLO = {"optim": "apollo_adamw"}


class OptimizerOptions(Config):
    """How gradients become steps."""

    optim: Optimizer = option(
        "adamw_torch",
        en="The optimizer: 8bit and paged ones need less GPU memory, galore and apollo less for full training.",
        zh="优化器：8bit 与 paged 更省显存，galore 与 apollo 适合省显存的全量训练。",
        group="optimizer",
        label=("Optimizer", "优化器"),
    )
    adam_beta1: float = option(
        0.9, en="Memory of the gradients' mean.", zh="梯度均值的衰减率。", group="optimizer", ge=0, lt=1
    )
    adam_beta2: float = option(
        0.999, en="Memory of the gradients' size.", zh="梯度平方的衰减率。", group="optimizer", ge=0, lt=1
    )
    adam_epsilon: float = option(
        1e-8, en="Keeps steps finite where gradients vanish.", zh="防止除零的小量。", group="optimizer", gt=0, le=1
    )
    galore_target: Names = option(
        ("all",),
        en="Modules whose gradients GaLore projects, comma-separated; all means every linear layer.",
        zh="GaLore 投影梯度的模块，逗号分隔；all 为所有线性层。",
        group="optimizer",
        when=GALORE,
        label=("GaLore targets", "GaLore 目标模块"),
        min_length=1,
    )
    galore_rank: int = option(
        16,
        en="Rank of the projected gradients.",
        zh="梯度投影的秩。",
        group="optimizer",
        when=GALORE,
        label=("GaLore rank", "GaLore 秩"),
        ge=1,
        le=8192,
    )
    galore_update_interval: int = option(
        200,
        en="Steps after which the projection is made anew.",
        zh="更新投影的步数间隔。",
        group="optimizer",
        when=GALORE,
        label=("GaLore interval", "GaLore 间隔"),
        ge=1,
    )
    galore_scale: float = option(
        2.0,
        en="Scale of the projected steps.",
        zh="投影后更新的缩放。",
        group="optimizer",
        when=GALORE,
        label=("GaLore scale", "GaLore 缩放"),
        gt=0,
    )
    galore_proj_type: Literal["std", "reverse_std", "right", "left", "full"] = option(
        "std",
        en="Side from which GaLore projects.",
        zh="GaLore 的投影方式。",
        group="optimizer",
        when=GALORE,
        label=("GaLore projection", "GaLore 投影"),
    )
    apollo_target: Names = option(
        ("all",),
        en="Modules whose gradients APOLLO projects, comma-separated; all means every linear layer.",
        zh="APOLLO 投影梯度的模块，逗号分隔；all 为所有线性层。",
        group="optimizer",
        when=APOLLO,
        label=("APOLLO targets", "APOLLO 目标模块"),
        min_length=1,
    )
    apollo_rank: int = option(
        16,
        en="Rank of the projected gradients.",
        zh="梯度投影的秩。",
        group="optimizer",
        when=APOLLO,
        label=("APOLLO rank", "APOLLO 秩"),
        ge=1,
        le=8192,
    )
    apollo_update_interval: int = option(
        200,
        en="Steps after which the projection is made anew.",
        zh="更新投影的步数间隔。",
        group="optimizer",
        when=APOLLO,
        label=("APOLLO interval", "APOLLO 间隔"),
        ge=1,
    )
    apollo_scale: float = option(
        32.0,
        en="Scale of the projected steps.",
        zh="投影后更新的缩放。",
        group="optimizer",
        when=APOLLO,
        label=("APOLLO scale", "APOLLO 缩放"),
        gt=0,
    )
    apollo_proj: Literal["random", "svd"] = option(
        "random",
        en="What APOLLO projects with: random needs no decomposition.",
        zh="APOLLO 的投影矩阵：random 无需分解。",
        group="optimizer",
        when=APOLLO,
        label=("APOLLO projection", "APOLLO 投影"),
    )
    apollo_scale_type: Literal["channel", "tensor"] = option(
        "channel",
        en="Whether steps are scaled by channel or by whole tensor (APOLLO-Mini).",
        zh="按通道缩放，或按整个张量缩放（APOLLO-Mini）。",
        group="optimizer",
        when=APOLLO,
        label=("APOLLO scaling", "APOLLO 缩放粒度"),
    )
