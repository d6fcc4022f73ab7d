"""What a merge of adapters into their base can be asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath
from typing import Literal

from pydantic import field_validator

from studio import templates
from studio.config.option import Config, Names, Shares, option
from studio.errors import Problem

RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}-?(.*)")  # the id of a run: when, something random, its name


class MergeConfig(Config):
    """Adapters folded into one base model, written as an ordinary model folder."""

    kind: Literal["merge"] = "merge"

    adapter_name_or_path: Names = option(
        (),
        en="The adapter's folder, or the id of the run that made it; of several, all are added to the base.",
        zh="适配器文件夹，或产生它的运行 ID；给出多个时全部加到基座上。",
        group="merge",
        label=("Adapters", "适配器"),
    )
    adapter_weights: Shares = option(
        (),
        en="How much of each adapter is added, in their order; empty adds the whole of each.",
        zh="各适配器的权重，按顺序给出；留空表示全部按 1 相加。",
        group="merge",
        label=("Shares of the adapters", "适配器权重"),
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
    export_dir: str | None = option(
        None,
        en="Folder to write the merged model to; empty keeps it in the run's own folder.",
        zh="合并模型的写出文件夹；留空则保存在运行自己的文件夹中。",
        group="advanced",
        label=("Export folder", "导出文件夹"),
        min_length=1,
    )
    overwrite_output_dir: bool = option(
        False,
        en="Replace what the export folder holds already.",
        zh="替换导出文件夹中已有的内容。",
        group="advanced",
        label=("Replace the export folder", "覆盖导出文件夹"),
    )
    merge_method: Literal["stream", "full_memory"] = option(
        "stream",
        en="stream reads and writes tensor by tensor; full_memory loads the whole model in float32 and has PEFT merge, "
        "for adapters that streaming does not know.",
        zh="stream 逐张量读写；full_memory 以 float32 载入整个模型并由 PEFT 合并，用于流式不支持的适配器。",
        group="advanced",
        label=("Method", "合并方式"),
    )
    dequantize_base: Literal["none", "auto", "nf4", "fp4", "int8"] = option(
        "none",
        en="For adapters trained on a quantised base: first round what was quantised as training saw it; auto takes "
        "the type from the training run; none merges into the 16-bit base.",
        zh="适配器训练于量化基座时：先按训练所见对权重取整；auto 取自训练运行，none 不取整。",
        group="advanced",
        label=("Round the base as in QLoRA", "按 QLoRA 取整基座"),
    )
    template: str | None = option(
        None,
        en="A named chat template such as chatml or qwen3 to write where neither the adapter nor the base has one.",
        zh="适配器与基座都没有对话模板时写入的命名模板，如 chatml 或 qwen3。",
        group="advanced",
        label=("Template", "对话模板"),
        min_length=1,
    )
    verify: bool = option(
        True,
        en="Compare the merged model with base and adapter before it may be used; if it differs, it is quarantined.",
        zh="使用前将合并模型与“基座+适配器”逐一比对；不一致的结果会被隔离。",
        group="advanced",
        label=("Verify", "验证"),
    )
    export_device: Literal["cpu", "auto"] = option(
        "cpu",
        en="Where the models are compared; auto takes a GPU if there is one. Merging itself needs none.",
        zh="比对模型所用的设备；auto 优先使用 GPU。合并本身不需要 GPU。",
        group="advanced",
        label=("Verify on", "验证设备"),
    )
    trust_remote_code: bool = option(
        False,
        en="Run Python code that comes with the model. Only for authors you trust.",
        zh="运行模型自带的 Python 代码。仅在信任作者时开启。",
        group="advanced",
        label=("Trust remote code", "信任远程代码"),
    )

    @field_validator("template")
    @classmethod
    def _check_template(cls, name: str | None) -> str | None:
        if name and (what := templates.problem(name)):
            raise ValueError(what)
        return name

    @property
    def title(self) -> str:
        """What the merge is called where no name was given: as what was merged is."""
        origins = [origin for name in self.adapter_name_or_path if (origin := _origin(name))]
        return self.run_name or "-".join([*origins, "merged"])

    @property
    def weights(self) -> tuple[float, ...]:
        """The share of each adapter, in their order."""
        return self.adapter_weights or (1.0,) * len(self.adapter_name_or_path)

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        if not self.adapter_name_or_path:
            yield Problem("adapter_name_or_path", "choose the adapter to merge")
        if len(self.weights) != len(self.adapter_name_or_path):
            what = f"give one for each of the {len(self.adapter_name_or_path)} adapters, or none"
            yield Problem("adapter_weights", f"{what} (got {len(self.weights)})")
        if not all(self.weights):
            yield Problem("adapter_weights", "a share of 0 adds nothing: leave that adapter out")
        if self.dequantize_base != "none" and self.merge_method == "full_memory":
            yield Problem("dequantize_base", "only merge_method: stream rounds the base")
        if self.overwrite_output_dir and not self.export_dir:
            yield Problem("overwrite_output_dir", "there is no export_dir to replace")


def _origin(name: str) -> str:
    """The name of the run that an adapter comes from, or of its folder."""
    path = PurePath(name)
    runs = [found[1] for part in path.parts if (found := RUN.fullmatch(part))]
    return runs[-1] if runs else path.parent.name if path.name == "adapter" else path.name
