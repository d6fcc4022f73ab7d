"""What a merge of a LoRA adapter into its base can be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from studio.config.option import Config, option
from studio.errors import Problem


class MergeConfig(Config):
    """One adapter folded into one base model, written as an ordinary model folder."""

    kind: Literal["merge"] = "merge"

    adapter_name_or_path: str = option(
        "",
        en="The adapter's folder, or the id of the run that made it.",
        zh="适配器文件夹，或产生它的运行 ID。",
        group="merge",
        label=("Adapter", "适配器"),
    )
    model_name_or_path: str | None = option(
        None,
        en="The base model; empty means the one that the adapter names.",
        zh="基座模型；留空使用适配器记录的基座。",
        group="merge",
        label=("Base model", "基座模型"),
    )
    export_dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto",
        en="Type of the written weights; auto keeps the base's.",
        zh="写出的权重类型；auto 与基座一致。",
        group="merge",
        label=("Weights", "权重类型"),
    )
    export_size: int = option(
        5,
        en="Largest size of one weight file, in GB.",
        zh="单个权重文件的最大大小（GB）。",
        group="merge",
        label=("Shard size (GB)", "分片大小（GB）"),
        ge=1,
        le=1000,
    )
    run_name: str | None = option(
        None,
        en="A short name for the merged model.",
        zh="合并模型的简短名称。",
        group="merge",
        label=("Name", "名称"),
    )

    @property
    def title(self) -> str:
        """What the merge is called where no name was given."""
        return self.run_name or "merged"

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        if not self.adapter_name_or_path:
            yield Problem("adapter_name_or_path", "choose the adapter to merge")
