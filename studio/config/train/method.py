"""What of the model is trained, and to what end."""

from __future__ import annotations

from typing import Literal

from studio.config.option import Config, Names, option

Stage = Literal["pt", "sft", "rm", "dpo", "kto", "grpo", "rloo"]
LANGUAGE = ("pt", "sft")  # stages that learn to go on as the rows do
ONLINE = ("grpo", "rloo")  # stages that are rewarded for answers of their own
FREEZE = {"finetuning_type": "freeze"}


class MethodOptions(Config):
    """Stage and method, and which layers a freeze leaves free."""

    stage: Stage = option(
        "sft",
        en="Kind of training: pt reads plain text, sft learns answers, rm rates answers, dpo and kto learn what people "
        "prefer, grpo and rloo are rewarded for answers of their own.",
        zh="训练阶段：pt 学习纯文本，sft 学习回答，rm 给回答打分，dpo 和 kto 学习偏好，grpo 和 rloo "
        "按奖励改进自己的回答。",
        group="method",
        label=("Stage", "训练阶段"),
    )
    finetuning_type: Literal["lora", "full", "freeze"] = option(
        "lora",
        en="lora trains a small adapter beside the frozen model; full changes every weight; freeze some layers only.",
        zh="lora 只训练冻结模型旁的小适配器；full 更新全部权重；freeze 只更新部分层。",
        group="method",
        label=("Method", "微调方法"),
    )
    freeze_trainable_layers: int = option(
        2,
        en="Layers that are trained: the last so many, or with a minus the first.",
        zh="训练的层数：正数为最后若干层，负数为最前若干层。",
        group="freeze",
        when=FREEZE,
        label=("Trained layers", "训练层数"),
        ge=-1000,
        le=1000,
    )
    freeze_trainable_modules: Names = option(
        ("all",),
        en="Modules of those layers that are trained, such as self_attn or mlp, comma-separated; all means each.",
        zh="这些层中训练的模块，如 self_attn 或 mlp，逗号分隔；all 表示全部。",
        group="freeze",
        when=FREEZE,
        label=("Trained modules", "训练模块"),
        min_length=1,
    )
    freeze_extra_modules: Names = option(
        (),
        en="Modules outside the layers that are trained too, such as embed_tokens or norm, comma-separated.",
        zh="层以外也训练的模块，如 embed_tokens 或 norm，逗号分隔。",
        group="freeze",
        when=FREEZE,
        label=("Extra modules", "额外模块"),
    )
    use_llama_pro: bool = option(
        False,
        en="Train the blocks that a LLaMA-Pro expansion added, spread evenly over the layers.",
        zh="训练 LLaMA-Pro 扩展所新增、均匀分布在各层间的块。",
        group="freeze",
        when=FREEZE,
        label=("LLaMA-Pro blocks", "LLaMA-Pro 块"),
    )
