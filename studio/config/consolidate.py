"""What making one model of a checkpoint's parts can be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from studio.config.option import Config, option
from studio.errors import Problem


class ConsolidateConfig(Config):
    """A checkpoint of a training as a model or an adapter that can be served."""

    kind: Literal["consolidate"] = "consolidate"

    run: str = option(
        "",
        en="Id of the training whose checkpoint is meant.",
        zh="检查点所属训练的运行 ID。",
        group="consolidate",
        label=("Training", "训练"),
    )
    step: int | None = option(
        None,
        en="The checkpoint's step; empty takes the newest whole one.",
        zh="检查点的步数；留空取最新的完整检查点。",
        group="consolidate",
        label=("Step", "步数"),
        ge=1,
    )
    export_dtype: Literal["auto", "float32", "bfloat16", "float16"] = option(
        "auto",
        en="Type of the written weights; auto is that of the base model, and of an adapter that of the checkpoint.",
        zh="写出的权重类型；auto 与基座模型一致，适配器则与检查点一致。",
        group="consolidate",
        label=("Weights", "权重类型"),
    )
    export_size: int = option(
        5,
        en="Largest size of one weight file, in GB.",
        zh="单个权重文件的最大大小（GB）。",
        group="consolidate",
        label=("Shard size (GB)", "分片大小（GB）"),
        ge=1,
        le=1000,
    )
    run_name: str | None = option(
        None,
        en="A short name for what comes out.",
        zh="产物的简短名称。",
        group="consolidate",
        label=("Name", "名称"),
    )

    @property
    def title(self) -> str:
        """What the run is called where no name was given."""
        return self.run_name or "consolidated"

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        if not self.run:
            yield Problem("run", "name the training whose checkpoint is meant")
