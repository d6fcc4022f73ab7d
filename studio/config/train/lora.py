"""The adapter: its size, its place and its start."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from studio.config.option import Config, Names, option

LORA = {"finetuning_type": "lora"}
NO_NAME = re.compile(r"[*+?\[\](){}|^$\\]")  # what the name of a module never has


def target_pattern(targets: tuple[str, ...]) -> str | None:
    """The regular expression for whole paths of modules that `lora_target` is; None where it is a list of names."""
    text = ",".join(targets)
    return text if NO_NAME.search(text) else None


def layer_numbers(text: str) -> tuple[int, ...]:
    """The layers that "0-3,8" names, in order, counted from 0.

    Raises:
        ValueError: it is no such list.
    """
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers:
            raise ValueError(f"{part} runs backwards")
        found.update(numbers)
    return tuple(sorted(found))


def _joined(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


class LoraOptions(Config):
    """What matters where finetuning_type is lora."""

    lora_rank: int = option(
        8,
        en="Width of the adapter: more learns more and weighs more.",
        zh="适配器的秩：越大学得越多，占用也越大。",
        group="lora",
        when=LORA,
        label=("LoRA rank", "LoRA 秩"),
        ge=1,
        le=512,
    )
    lora_alpha: int | None = option(
        None,
        en="Scale of the adapter; empty means twice the rank.",
        zh="适配器缩放；留空为秩的两倍。",
        group="lora",
        when=LORA,
        label=("LoRA alpha", "LoRA alpha"),
        ge=1,
        le=4096,
    )
    lora_dropout: float = option(
        0.0,
        en="Share of adapter inputs dropped while training. 0 is fastest.",
        zh="训练时随机丢弃的适配器输入比例。0 最快。",
        group="lora",
        when=LORA,
        label=("LoRA dropout", "LoRA dropout"),
        ge=0,
        lt=1,
    )
    lora_target: Names = option(
        ("all",),
        en="Modules that get an adapter: all (every linear layer), names with commas between them, or one regular "
        "expression for whole module paths.",
        zh="加适配器的模块：all（所有线性层）、逗号分隔的名称，或匹配完整模块路径的一个正则表达式。",
        group="lora",
        when=LORA,
        label=("LoRA targets", "LoRA 目标模块"),
        min_length=1,
    )
    use_rslora: bool = option(
        False,
        en="Scale by alpha over the square root of the rank: steadier at high rank.",
        zh="以 alpha/√秩 缩放，高秩时更稳定。",
        group="lora",
        when=LORA,
        label=("rsLoRA", "rsLoRA"),
    )
    use_dora: bool = option(
        False,
        en="Train the length of the weights apart from their direction: learns more at low rank, slower.",
        zh="将权重的长度与方向分开训练（DoRA）：低秩时学得更好，但更慢。",
        group="lora",
        when=LORA,
        label=("DoRA", "DoRA"),
    )
    pissa_init: bool = option(
        False,
        en="Start the adapter from the strongest directions of the weights instead of from nothing.",
        zh="用权重的主奇异方向初始化适配器（PiSSA），而非从零开始。",
        group="lora",
        when=LORA,
        label=("PiSSA", "PiSSA"),
    )
    pissa_iter: int = option(
        16,
        en="Rounds of the fast decomposition for PiSSA; -1 decomposes exactly.",
        zh="PiSSA 快速分解的迭代次数；-1 为精确分解。",
        group="lora",
        when={**LORA, "pissa_init": True},
        label=("PiSSA iterations", "PiSSA 迭代"),
        ge=-1,
        le=1000,
    )
    pissa_convert: bool = option(
        False,
        en="Save a PiSSA adapter as a plain LoRA of twice the rank, which fits the model as it was.",
        zh="将 PiSSA 适配器保存为秩加倍的普通 LoRA，可直接用于原模型。",
        group="lora",
        when={**LORA, "pissa_init": True},
        label=("Save PiSSA as LoRA", "PiSSA 存为 LoRA"),
    )
    loraplus_lr_ratio: float | None = option(
        None,
        en="LoRA+: how many times faster the adapter's second matrix learns; 16 is usual, empty means the same.",
        zh="LoRA+：适配器第二个矩阵的学习率倍数，常用 16；留空为相同。",
        group="lora",
        when=LORA,
        label=("LoRA+ ratio", "LoRA+ 比例"),
        gt=0,
        le=1000,
    )
    loraplus_lr_embedding: float = option(
        1e-6,
        en="Learning rate of adapted embeddings under LoRA+.",
        zh="LoRA+ 下嵌入层适配器的学习率。",
        group="advanced",
        when=LORA,
        gt=0,
        le=1,
    )
    additional_target: Names = option(
        (),
        en="Modules that are trained whole and saved with the adapter, such as embed_tokens or lm_head, "
        "comma-separated.",
        zh="整体训练并随适配器保存的模块，如 embed_tokens 或 lm_head，逗号分隔。",
        group="lora",
        when=LORA,
        label=("Modules trained whole", "整体训练的模块"),
    )
    layers_to_transform: Annotated[str | None, BeforeValidator(_joined)] = option(
        None,
        en="Layers that get an adapter, counted from 0, such as 0-3,8; empty means every layer.",
        zh="加适配器的层，从 0 起，如 0-3,8；留空为所有层。",
        group="lora",
        when=LORA,
        label=("Layers", "层"),
    )
    use_adalora: bool = option(
        False,
        en="Let the rank differ by layer: start wide and prune to lora_rank on average (AdaLoRA).",
        zh="各层的秩自适应：先宽后剪，平均到 lora_rank（AdaLoRA）。",
        group="lora",
        when=LORA,
        label=("AdaLoRA", "AdaLoRA"),
    )
    adalora_init_r: int | None = option(
        None,
        en="Rank that AdaLoRA starts with; empty means one and a half times lora_rank.",
        zh="AdaLoRA 的起始秩；留空为 lora_rank 的 1.5 倍。",
        group="lora",
        when={**LORA, "use_adalora": True},
        label=("AdaLoRA start rank", "AdaLoRA 起始秩"),
        ge=1,
        le=1024,
    )
