"""The model that is trained."""

from __future__ import annotations

from typing import Literal

from studio.config.option import Config, Names, option


class ModelOptions(Config):
    """Where a training starts, and what is changed of the model before it does."""

    model_name_or_path: str = option(
        "seedling",
        en="The model to start from: seedling (bundled), a local folder, or a hub id.",
        zh="起始模型：内置的 seedling、本地文件夹或模型库 ID。",
        group="model",
        label=("Model", "模型"),
        min_length=1,
    )
    run_name: str | None = option(
        None,
        en="A short name for the run, part of its folder's name.",
        zh="运行的简短名称，会出现在文件夹名中。",
        group="model",
        label=("Run name", "运行名称"),
    )
    adapter_name_or_path: Names = option(
        (),
        en="Adapters to start from, as runs or folders: all but the last are merged into the model, the last is "
        "trained on.",
        zh="起始适配器（运行或文件夹）：除最后一个外都并入模型，最后一个继续训练。",
        group="model",
        label=("Adapters to start from", "起始适配器"),
    )
    create_new_adapter: bool = option(
        False,
        en="Merge the last adapter too and train a new one on top.",
        zh="最后一个适配器也并入模型，再训练一个新的。",
        group="model",
        label=("New adapter on top", "在其上新建适配器"),
    )
    rope_scaling: Literal["linear", "dynamic", "yarn", "llama3"] | None = option(
        None,
        en="Stretch the model's positions so that rows longer than its own limit can be learned.",
        zh="拉伸位置编码，以训练超过模型自身长度上限的数据。",
        group="model",
        label=("RoPE scaling", "RoPE 缩放"),
    )
    flash_attn: Literal["auto", "disabled", "sdpa", "varlen", "fa2", "fa3"] = option(
        "auto",
        en="How attention is computed: auto takes the fastest that fits the model, varlen is PyTorch's own for rows "
        "laid end to end, disabled the plainest.",
        zh="注意力的计算方式：auto 取适合模型的最快实现，varlen 为 PyTorch 自带的变长注意力，disabled 为最朴素实现。",
        group="precision",
        label=("Attention", "注意力实现"),
    )
    resize_vocab: bool = option(
        False,
        en="Let the model's vocabulary grow to fit its tokenizer and the tokens added here.",
        zh="扩大模型词表以容纳分词器及此处新增的 token。",
        group="model",
        label=("Resize vocabulary", "调整词表大小"),
    )
    add_tokens: Names = option(
        (),
        en="New tokens for words of the data, comma-separated.",
        zh="为数据中的词新增 token，逗号分隔。",
        group="model",
        when={"resize_vocab": True},
        label=("New tokens", "新增 token"),
    )
    add_special_tokens: Names = option(
        (),
        en="New special tokens, such as those of a template, comma-separated.",
        zh="新增特殊 token，例如模板所用的，逗号分隔。",
        group="model",
        when={"resize_vocab": True},
        label=("New special tokens", "新增特殊 token"),
    )
    moe_aux_loss_coef: float | None = option(
        None,
        en="Weight of the loss that spreads tokens over the experts of a mixture-of-experts model.",
        zh="混合专家模型中均衡专家负载的损失权重。",
        group="advanced",
        ge=0,
    )
