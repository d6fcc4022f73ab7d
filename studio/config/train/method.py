"""What of the model is trained, and to what end."""

from __future__ import annotations

from typing import Literal

from studio.config.option import Config, Names, option

LORA = {"finetuning_type": "lora"}


class MethodOptions(Config):
    """Stage and method, and what belongs to the method."""

    stage: Literal["sft"] = option(
        "sft",
        en="Kind of training: sft is supervised fine-tuning.",
        zh="训练阶段：sft 为监督微调。",
        group="method",
        label=("Stage", "训练阶段"),
    )
    finetuning_type: Literal["lora", "full"] = option(
        "lora",
        en="lora trains a small adapter beside the frozen model; full changes every weight.",
        zh="lora 只训练冻结模型旁的小适配器；full 更新全部权重。",
        group="method",
        label=("Method", "微调方法"),
    )
    lora_rank: int = option(
        8,
        en="Width of the adapter: more learns more and weighs more.",
        zh="适配器的秩：越大学得越多，占用也越大。",
        group="method",
        when=LORA,
        label=("LoRA rank", "LoRA 秩"),
        ge=1,
        le=512,
    )
    lora_alpha: int | None = option(
        None,
        en="Scale of the adapter; empty means twice the rank.",
        zh="适配器缩放；留空为秩的两倍。",
        group="method",
        when=LORA,
        label=("LoRA alpha", "LoRA alpha"),
        ge=1,
        le=4096,
    )
    lora_dropout: float = option(
        0.0,
        en="Share of adapter inputs dropped while training. 0 is fastest.",
        zh="训练时随机丢弃的适配器输入比例。0 最快。",
        group="method",
        when=LORA,
        label=("LoRA dropout", "LoRA dropout"),
        ge=0,
        lt=1,
    )
    lora_target: Names = option(
        ("all",),
        en="Module names that get an adapter, comma-separated; all means every linear layer.",
        zh="加适配器的模块名，逗号分隔；all 表示所有线性层。",
        group="method",
        when=LORA,
        label=("LoRA targets", "LoRA 目标模块"),
        min_length=1,
    )
    use_rslora: bool = option(
        False,
        en="Scale by alpha over the square root of the rank: steadier at high rank.",
        zh="以 alpha/√秩 缩放，高秩时更稳定。",
        group="advanced",
        when=LORA,
    )
