"""What a conversion to GGUF, llama.cpp's format, can be asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import BeforeValidator

from studio.config.option import Config, option, split_names
from studio.errors import Problem

# about how many bits a weight takes; small models, whose embeddings weigh more, take up to one more
BITS: Mapping[str, float] = MappingProxyType(
    {
        "f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q6_k": 6.6, "q5_k_m": 5.7, "q5_k_s": 5.6, "q4_k_m": 4.9,
        "q4_k_s": 4.7, "q3_k_l": 4.3, "q3_k_m": 4.0, "q3_k_s": 3.7, "q2_k": 3.2, "q5_1": 6.1, "q5_0": 5.7,
        "q4_1": 5.2, "q4_0": 4.7,
    }
)  # fmt: skip
OUTTYPES = tuple(BITS)
FLOATS = ("f32", "f16", "bf16")


def read_types(value: object) -> object:
    """Names of types as a list, however they are written: Q4_K_M,q8_0."""
    names = split_names(value)
    return list(dict.fromkeys(str(name).lower() for name in names)) if isinstance(names, list | tuple) else names


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
    outtype: Annotated[tuple[str, ...], BeforeValidator(read_types)] = option(
        ("q8_0",),
        en=f"Types of the written weights, one file each: {', '.join(OUTTYPES)}.",
        zh="写出的权重类型，每种一个文件；q4_k_m 体积与质量兼顾，q8_0 几乎无损。",
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
        if not self.outtype:
            yield Problem("outtype", f"choose one or more of {', '.join(OUTTYPES)}")
        if unknown := [name for name in self.outtype if name not in OUTTYPES]:
            yield Problem("outtype", f"{', '.join(unknown)} cannot be written: choose from {', '.join(OUTTYPES)}")
