"""What a conversion to GGUF, llama.cpp's format, can be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from studio.config.option import Config, Names, option
from studio.errors import Problem

OUTTYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")


class GgufConfig(Config):
    """One model folder written as one GGUF file for each of the asked types."""

    kind: Literal["gguf"] = "gguf"

    model_name_or_path: str = option(
        "",
        en="The model's folder, or the id of the run that made it.",
        zh="模型文件夹，或产生它的运行 ID。",
        group="gguf",
        label=("Model", "模型"),
    )
    outtype: Names = option(
        ("q8_0",),
        en="Types of the written weights, one file each.",
        zh="写出的权重类型，每种一个文件。",
        group="gguf",
        label=("Types", "类型"),
    )
    run_name: str | None = option(
        None,
        en="A short name for what comes out.",
        zh="产物的简短名称。",
        group="gguf",
        label=("Name", "名称"),
    )

    @property
    def title(self) -> str:
        """What the run is called where no name was given."""
        return self.run_name or "gguf"

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        if not self.model_name_or_path:
            yield Problem("model_name_or_path", "choose the model to convert")
