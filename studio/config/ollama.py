"""What an export to Ollama can be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from studio.config.option import Config, option
from studio.errors import Problem


class OllamaConfig(Config):
    """One model folder written as a GGUF file and the Modelfile that Ollama makes a model of."""

    kind: Literal["ollama"] = "ollama"

    model_name_or_path: str = option(
        "",
        en="The model's folder, or the id of the run that made it.",
        zh="模型文件夹，或产生它的运行 ID。",
        group="ollama",
        label=("Model", "模型"),
    )
    outtype: str = option(
        "q8_0",
        en="Type of the weights.",
        zh="权重类型。",
        group="ollama",
        label=("Type", "类型"),
    )
    run_name: str | None = option(
        None,
        en="A short name for what comes out.",
        zh="产物的简短名称。",
        group="ollama",
        label=("Name", "名称"),
    )

    @property
    def title(self) -> str:
        """What the run is called where no name was given."""
        return self.run_name or "ollama"

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        if not self.model_name_or_path:
            yield Problem("model_name_or_path", "choose the model to export")
