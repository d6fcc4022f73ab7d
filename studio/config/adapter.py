"""What can be done with adapters beside merging them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from studio.config.option import Config, Names, Shares, option
from studio.errors import Problem


class AdapterConfig(Config):
    """One new adapter made of others, or of the difference of two models."""

    kind: Literal["adapter"] = "adapter"

    action: Literal["extract", "convert", "scale", "average"] = option(
        "extract",
        en="extract takes the difference of two models, or an adapter out of a checkpoint; convert changes the type of "
        "the weights; scale makes an adapter stronger or weaker; average makes one of several.",
        zh="extract：取两个模型之差，或从检查点取出适配器；convert：转换权重类型；scale：增强或减弱；average：合成一个。",
        group="adapter",
        label=("Action", "操作"),
    )
    adapter_name_or_path: Names = option(
        (),
        en="Adapters: folders, or ids of the runs that made them. Extract takes the folder of a checkpoint, or a run "
        "whose newest checkpoint is meant.",
        zh="适配器：文件夹，或产生它们的运行 ID。extract 可填检查点文件夹，或运行 ID（取其最新检查点）。",
        group="adapter",
        label=("Adapters", "适配器"),
    )
    tuned_model_name_or_path: str | None = option(
        None,
        en="The fully fine-tuned model whose difference from the base is wanted: a folder, or the id of a run.",
        zh="全量微调后的模型（求其与基座之差）：文件夹，或运行 ID。",
        group="adapter",
        when={"action": "extract"},
        label=("Fine-tuned model", "微调后的模型"),
    )
    model_name_or_path: str | None = option(
        None,
        en="The base model that it was fine-tuned from; empty means the one that its run names.",
        zh="微调前的基座模型；留空使用其运行记录的基座。",
        group="adapter",
        when={"action": "extract"},
        label=("Base model", "基座模型"),
    )
    lora_rank: int = option(
        32,
        en="Rank of what comes out: of the difference of two models, or of an average by svd.",
        zh="产物的秩：两模型之差，或按 svd 求平均时。",
        group="adapter",
        when={"action": ("extract", "average")},
        label=("Rank", "秩"),
        ge=1,
        le=4096,
    )
    additional_target: Names = option(
        (),
        en="Of the difference of two models: modules to keep whole, such as norm or embed_tokens; all keeps every one "
        "that changed and is no linear layer. Servers take no such adapter; it is for merging.",
        zh="两模型之差中整体保留的模块，如 norm 或 embed_tokens；all 为所有变化的非线性层。推理服务不支持，仅供合并。",
        group="adapter",
        when={"action": "extract"},
        label=("Keep whole", "整体保留"),
    )
    scale: float = option(
        1.0,
        en="What the change of the adapter is multiplied by: 0.5 halves it, -1 turns it around.",
        zh="适配器改变量的倍数：0.5 减半，-1 反向。",
        group="adapter",
        when={"action": "scale"},
        label=("Factor", "倍数"),
        ge=-100,
        le=100,
    )
    adapter_weights: Shares = option(
        (),
        en="The share of each adapter in the average; empty means equal shares that add up to one.",
        zh="各适配器在平均中的占比；留空为相等且总和为 1。",
        group="adapter",
        when={"action": "average"},
        label=("Shares", "占比"),
    )
    combination_type: Literal["cat", "svd"] = option(
        "cat",
        en="cat is exact, its rank the sum of all ranks; svd cuts that down to lora_rank, with the error reported.",
        zh="cat 精确，秩为各秩之和；svd 截断到 lora_rank，并报告误差。",
        group="adapter",
        when={"action": "average"},
        label=("Average by", "平均方式"),
    )
    export_dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto",
        en="Type of the written weights; auto keeps that of the first input.",
        zh="写出的权重类型；auto 与第一个输入一致。",
        group="adapter",
        label=("Weights", "权重类型"),
    )
    run_name: str | None = option(
        None,
        en="A short name for what comes out.",
        zh="产物的简短名称。",
        group="adapter",
        label=("Name", "名称"),
    )

    @property
    def title(self) -> str:
        """What the run is called where no name was given."""
        return self.run_name or f"{self.action} adapter"

    @property
    def shares(self) -> tuple[float, ...]:
        """What each adapter counts in an average."""
        count = len(self.adapter_name_or_path)
        return self.adapter_weights or (1 / count,) * count

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        yield from self._input_problems()
        if self.action == "convert" and self.export_dtype == "auto":
            yield Problem("export_dtype", "choose the type to convert to: float32, bfloat16 or float16")
        if self.action == "scale" and self.scale == 1.0:
            yield Problem("scale", "1 changes nothing: choose another factor")
        if self.adapter_weights and len(self.adapter_weights) != len(self.adapter_name_or_path):
            got, wanted = len(self.adapter_weights), len(self.adapter_name_or_path)
            yield Problem("adapter_weights", f"give one share for each adapter ({wanted}; got {got})")

    def _input_problems(self) -> Iterator[Problem]:
        count, tuned = len(self.adapter_name_or_path), self.tuned_model_name_or_path
        if self.action == "average" and count < 2:
            yield Problem("adapter_name_or_path", f"an average takes two adapters or more (got {count})")
        if self.action in ("convert", "scale") and count != 1:
            yield Problem("adapter_name_or_path", f"choose one adapter (got {count})")
        if self.action == "extract" and (count != 0) == bool(tuned):
            yield Problem(
                "tuned_model_name_or_path",
                "choose a fine-tuned model, or in adapter_name_or_path a checkpoint: one of the two",
            )
        if self.action == "extract" and count > 1:
            yield Problem("adapter_name_or_path", f"choose one checkpoint (got {count})")
