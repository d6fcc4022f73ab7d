"""What an export to Ollama can be asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from studio import templates
from studio.config.gguf import OUTTYPES
from studio.config.option import Config, option
from studio.errors import Problem

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?(:[A-Za-z0-9][A-Za-z0-9._-]*)?")
ADVANCED = "advanced"


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
        en=f"Type of the weights: {', '.join(OUTTYPES)}.",
        zh="权重类型；q4_k_m 体积与质量兼顾，q8_0 几乎无损。",
        group="ollama",
        label=("Type", "类型"),
    )
    default_system: str | None = option(
        None,
        en="A system prompt for every chat that brings none of its own.",
        zh="对话未自带系统提示时使用的系统提示。",
        group="ollama",
        label=("System prompt", "系统提示"),
    )
    create: bool = option(
        True,
        en="Have Ollama take the model in, where it is installed here and running.",
        zh="若本机已安装并运行 Ollama，则直接导入模型。",
        group="ollama",
        label=("Create in Ollama", "导入 Ollama"),
    )
    ollama_name: str | None = option(
        None,
        en="What Ollama calls the model; empty means the name of the run or of the model's folder.",
        zh="模型在 Ollama 中的名称；留空使用运行名或模型文件夹名。",
        group="ollama",
        label=("Name in Ollama", "Ollama 中的名称"),
    )
    num_ctx: int | None = option(
        None,
        en="Tokens that a chat may have; empty means what the model takes, 8192 at most, because each costs memory.",
        zh="对话的最大词元数；留空使用模型上限且不超过 8192，因为越大越占内存。",
        group=ADVANCED,
        label=("Context", "上下文"),
        ge=128,
        le=10_000_000,
    )
    temperature: float | None = option(
        None,
        en="Randomness of the answers; empty means what the model recommends.",
        zh="回答的随机性；留空使用模型推荐值。",
        group=ADVANCED,
        label=("Temperature", "温度"),
        ge=0,
        le=2,
    )
    top_p: float | None = option(
        None,
        en="Answers are drawn from the likeliest tokens of this total probability; empty: as the model recommends.",
        zh="从累计概率达到该值的词元中采样；留空使用模型推荐值。",
        group=ADVANCED,
        label=("Top p", "Top p"),
        gt=0,
        le=1,
    )
    template: str | None = option(
        None,
        en="A named chat template instead of the model's own.",
        zh="用命名的对话模板代替模型自带的模板。",
        group=ADVANCED,
        label=("Chat template", "对话模板"),
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
        if self.outtype not in OUTTYPES:
            yield Problem("outtype", f"{self.outtype!r} is none of {', '.join(OUTTYPES)}")
        if self.template and (what := templates.problem(self.template)):
            yield Problem("template", what)
        if self.ollama_name and not NAME.fullmatch(self.ollama_name):
            yield Problem(
                "ollama_name", "write it in small letters, digits, . _ and -, such as my-model or me/my-model:v1"
            )
        if self.default_system and '"""' in self.default_system:
            yield Problem("default_system", 'a Modelfile cannot hold """ in a text: use other quotes')
        elif self.default_system and self.default_system.endswith('"'):
            yield Problem("default_system", 'a text in a Modelfile cannot end with ": end it with another character')
