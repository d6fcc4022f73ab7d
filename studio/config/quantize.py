"""What a quantised checkpoint can be asked for. The keys of LLaMA-Factory's export (`export_quantization_*`) are taken.

Whose checkpoint is read where: gptq, awq, int8, fp8 and rtn write compressed-tensors, which vLLM and Transformers
load; bitsandbytes is for Transformers alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from studio.config.option import Config, Names, option
from studio.errors import Problem

CALIBRATED = ("gptq", "awq", "int8")  # these look at what real texts do inside the model
GROUPED = ("gptq", "awq", "rtn")
BY_BITS = ("gptq", "rtn", "bitsandbytes")
DATE = re.compile(r"^\d{8}-\d{6}-[0-9a-f]+-")  # that an id of a run begins with
ONLY_BITS = {"awq": 4, "int8": 8, "fp8": 8}


class QuantizeConfig(Config):
    """One model folder written again with smaller weights, for vLLM or Transformers."""

    kind: Literal["quantize"] = "quantize"

    model_name_or_path: str = option(
        "",
        en="The model's folder, or the id of the run that made it.",
        zh="模型文件夹，或产生它的运行 ID。",
        group="quantize",
        label=("Model", "模型"),
    )
    export_quantization_method: Literal["gptq", "awq", "int8", "fp8", "rtn", "bitsandbytes"] = option(
        "gptq",
        en="gptq and awq: calibrated weights; int8: calibrated weights and activations (W8A8); fp8: both, for newer "
        "GPUs; rtn: rounding, no calibration; bitsandbytes: for Transformers only.",
        zh="gptq、awq：校准后的低位权重；int8：校准后的权重与激活（W8A8）；fp8：权重与激活，适合较新的 GPU；"
        "rtn：直接取整，无需校准；bitsandbytes：仅供 Transformers 使用。",
        group="quantize",
        label=("Method", "方法"),
    )
    export_quantization_bit: Literal[4, 8] = option(
        4,
        en="Bits of a weight.",
        zh="每个权重的位数。",
        group="quantize",
        when={"export_quantization_method": BY_BITS},
        label=("Bits", "位数"),
    )
    export_quantization_dataset: str | None = option(
        None,
        en="The dataset that calibrates: like what the model will be asked; empty takes what it was trained on here.",
        zh="用于校准的数据集，应与实际使用相近；留空使用该模型在此训练时的数据集。",
        group="quantize",
        label=("Calibration set", "校准数据集"),
    )
    export_quantization_nsamples: int = option(
        128,
        en="Rows drawn from it for calibration.",
        zh="用于校准的样本数。",
        group="quantize",
        when={"export_quantization_method": CALIBRATED},
        label=("Calibration rows", "校准样本数"),
        ge=1,
        le=10_000,
    )
    export_quantization_maxlen: int = option(
        1024,
        en="Tokens kept of each row, in calibration and in measuring.",
        zh="每个样本保留的最大 token 数，用于校准与评测。",
        group="quantize",
        label=("Row length", "样本长度"),
        ge=8,
        le=131_072,
    )
    eval_dataset: str | None = option(
        None,
        en="The dataset that perplexity is measured on; empty takes other rows of the calibration set.",
        zh="用于测量困惑度的数据集；留空使用校准数据集中未参与校准的样本。",
        group="quantize",
        label=("Held-out set", "评测数据集"),
    )
    eval_samples: int = option(
        64,
        en="Rows that perplexity is measured on, before and after.",
        zh="量化前后测量困惑度的样本数。",
        group="quantize",
        label=("Held-out rows", "评测样本数"),
        ge=1,
        le=10_000,
    )
    measure_speed: bool = option(
        True,
        en="Serve the model before and after and measure tokens per second and latency.",
        zh="分别启动量化前后的模型服务，测量吞吐与延迟。",
        group="quantize",
        label=("Measure speed", "测量速度"),
    )
    run_name: str | None = option(
        None,
        en="A short name for what comes out.",
        zh="产物的简短名称。",
        group="quantize",
        label=("Name", "名称"),
    )
    group_size: Literal[32, 64, 128, -1] = option(
        128,
        en="Weights that share a scale: smaller is more exact and larger on disk; -1 is a whole row.",
        zh="共享一个缩放系数的权重数：越小越精确、文件越大；-1 表示整行。",
        group="advanced",
        when={"export_quantization_method": GROUPED},
        label=("Group size", "分组大小"),
    )
    symmetric: bool = option(
        True,
        en="No zero points: a little less exact, served everywhere.",
        zh="对称量化，不含零点：精度略低，兼容性最好。",
        group="advanced",
        when={"export_quantization_method": GROUPED},
        label=("Symmetric", "对称量化"),
    )
    modules_to_not_convert: Names = option(
        ("lm_head",),
        en="Modules left as they are: names, ends of names, or regular expressions after re:.",
        zh="保持原样的模块：名称、名称结尾，或以 re: 开头的正则表达式。",
        group="advanced",
        label=("Modules left out", "跳过的模块"),
    )
    damp_percent: float = option(
        0.01,
        en="Share of the diagonal's mean that is added to GPTQ's Hessian; more where calibration fails.",
        zh="GPTQ 的 Hessian 阻尼比例；校准失败时可增大。",
        group="advanced",
        when={"export_quantization_method": ("gptq", "int8")},
        label=("Dampening", "阻尼"),
        gt=0,
        lt=1,
    )
    smoothing_strength: float = option(
        0.8,
        en="How much of the activations' outliers SmoothQuant moves into the weights; 0 leaves it out.",
        zh="SmoothQuant 将激活离群值转移到权重的程度；0 表示不使用。",
        group="advanced",
        when={"export_quantization_method": "int8"},
        label=("Smoothing", "平滑强度"),
        ge=0,
        le=1,
    )
    quantization_type: Literal["nf4", "fp4"] = option(
        "nf4",
        en="The values that 4 bits stand for.",
        zh="4 位数值的类型。",
        group="advanced",
        when={"export_quantization_method": "bitsandbytes", "export_quantization_bit": 4},
        label=("4-bit type", "4 位类型"),
    )
    double_quantization: bool = option(
        True,
        en="Quantise the scales too.",
        zh="对缩放系数再次量化。",
        group="advanced",
        when={"export_quantization_method": "bitsandbytes", "export_quantization_bit": 4},
        label=("Double quantisation", "双重量化"),
    )
    template: str | None = option(
        None,
        en="A named chat template for the rows; empty is the model's own.",
        zh="用于样本的对话模板名；留空使用模型自带模板。",
        group="advanced",
        label=("Template", "对话模板"),
    )
    export_device: Literal["auto", "cpu"] = option(
        "auto",
        en="auto takes the GPU where there is one, layer by layer.",
        zh="auto 在有 GPU 时逐层使用 GPU。",
        group="advanced",
        label=("Device", "设备"),
    )
    dataset_dir: str = option(
        "data",
        en="Folder that holds dataset_info.json.",
        zh="dataset_info.json 所在文件夹。",
        group="internal",
        min_length=1,
    )
    seed: int = option(
        0,
        en="Decides which rows are drawn.",
        zh="决定抽取哪些样本的随机种子。",
        group="advanced",
        label=("Seed", "随机种子"),
        ge=0,
        le=2**31,
    )

    @property
    def title(self) -> str:
        """What the run is called where no name was given."""
        return self.run_name or f"{self._model}-{self.scheme.replace(' ', '-').lower()}"

    @property
    def _model(self) -> str:
        """The short name of the model: a folder's, or a run's without its date."""
        *parents, last = self.model_name_or_path.rstrip("/").split("/")
        return DATE.sub("", parents[-1] if parents and last == "model" else last)

    @property
    def is_calibrated(self) -> bool:
        """Whether texts decide how weights are rounded."""
        return self.export_quantization_method in CALIBRATED

    @property
    def is_grouped(self) -> bool:
        """Whether weights share a scale in groups."""
        return self.export_quantization_method in GROUPED

    @property
    def bits(self) -> int:
        """Bits of a quantised weight."""
        return ONLY_BITS.get(self.export_quantization_method, self.export_quantization_bit)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Regular expressions of the modules left as they are: a name stands for itself, whole or after a dot."""
        return tuple(
            name.removeprefix("re:") if name.startswith("re:") else rf"(.*\.)?{re.escape(name)}$"
            for name in self.modules_to_not_convert
        )

    @property
    def scheme(self) -> str:
        """The method for people: GPTQ W4A16."""
        method = self.export_quantization_method
        if method == "bitsandbytes":
            return f"bitsandbytes {self.quantization_type if self.bits == 4 else 'int8'}"
        return f"{method.upper()} W{self.bits}A{8 if method in ('int8', 'fp8') else 16}"

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        if not self.model_name_or_path:
            yield Problem("model_name_or_path", "choose the model to quantise")
        for name in self.modules_to_not_convert:
            if name.startswith("re:") and (why := _broken(name.removeprefix("re:"))):
                yield Problem("modules_to_not_convert", f"{name} is no regular expression: {why}")


def _broken(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    return ""
