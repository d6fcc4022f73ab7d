"""What a quantised checkpoint can be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from studio.config.option import Config, option
from studio.errors import Problem


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
    run_name: str | None = option(
        None,
        en="A short name for what comes out.",
        zh="产物的简短名称。",
        group="quantize",
        label=("Name", "名称"),
    )

    @property
    def title(self) -> str:
        """What the run is called where no name was given."""
        return self.run_name or "quantized"

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        if not self.model_name_or_path:
            yield Problem("model_name_or_path", "choose the model to quantise")
