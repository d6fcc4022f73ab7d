"""A base model in fewer bits below an adapter (QLoRA)."""

from __future__ import annotations

from typing import Literal

from studio.config.option import Config, option

QUANTISED = {"quantization_bit": (4, 8)}
FOUR_BIT = {"quantization_bit": 4}


class QuantisationOptions(Config):
    """How the frozen weights are held in memory."""

    quantization_bit: Literal[4, 8] | None = option(
        None,
        en="Hold the frozen model in 4 or 8 bits below the adapter; empty holds it as it is.",
        zh="以 4 或 8 位存放适配器下的冻结模型；留空保持原样。",
        group="method",
        when={"finetuning_type": "lora"},
        label=("Quantisation bits", "量化位数"),
    )
    quantization_method: Literal["bnb"] = option(
        "bnb",
        en="What quantises the model: bnb is bitsandbytes.",
        zh="量化方法：bnb 为 bitsandbytes。",
        group="quantisation",
        when=QUANTISED,
        label=("Quantisation method", "量化方法"),
    )
    quantization_type: Literal["nf4", "fp4"] = option(
        "nf4",
        en="The 4-bit type: nf4 fits weights best.",
        zh="4 位类型：nf4 最适合权重。",
        group="quantisation",
        when=FOUR_BIT,
        label=("4-bit type", "4 位类型"),
    )
    double_quantization: bool = option(
        True,
        en="Quantise the scales of the 4-bit blocks too: 0.4 bit less for each weight.",
        zh="对 4 位块的缩放因子再量化：每个权重再省约 0.4 位。",
        group="quantisation",
        when=FOUR_BIT,
        label=("Double quantisation", "双重量化"),
    )
    quantization_compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto",
        en="Type that 4-bit weights are computed in; auto is the type of the training.",
        zh="4 位权重的计算类型；auto 与训练精度一致。",
        group="quantisation",
        when=FOUR_BIT,
        label=("Compute type", "计算类型"),
    )
