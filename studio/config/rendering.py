"""Which rows, and how they become tokens: what a training, a measurement and a preview of masks must agree on."""

from __future__ import annotations

from pydantic import field_validator

from studio import templates
from studio.config.option import Config, option


class Rendering(Config):
    """Options of everything that renders rows of registered datasets with a model's template."""

    trust_remote_code: bool = option(
        False,
        en="Run Python code that comes with the model. Only for authors you trust.",
        zh="运行模型自带的 Python 代码。仅在信任作者时开启。",
        group="advanced",
    )
    dataset_dir: str = option(
        "data",
        en="Folder that holds dataset_info.json.",
        zh="dataset_info.json 所在文件夹。",
        group="advanced",
        min_length=1,
    )
    cutoff_len: int = option(
        2048,
        en="Tokens kept of a row; what is longer is cut.",
        zh="每行保留的最大 token 数，超出部分被截断。",
        group="data",
        label=("Cutoff length", "截断长度"),
        ge=8,
        le=1_048_576,
    )
    default_system: str | None = option(
        None,
        en="System prompt for rows that have none.",
        zh="没有系统提示的行所用的系统提示。",
        group="data",
        label=("Default system prompt", "默认系统提示"),
    )
    train_on_prompt: bool = option(
        False,
        en="Train on the prompts too, not only on the answers.",
        zh="除回答外也训练提示部分。",
        group="advanced",
        label=("Train on prompts", "训练提示部分"),
    )
    mask_history: bool = option(
        False,
        en="Train on the last answer of a conversation only.",
        zh="只训练对话的最后一轮回答。",
        group="advanced",
        label=("Last answer only", "只训练最后回答"),
    )
    template: str | None = option(
        None,
        en="A named chat template such as chatml or qwen3, for models without one; empty uses the model's own.",
        zh="按名称指定对话模板，如 chatml 或 qwen3，适用于没有模板的模型；留空使用模型自带的模板。",
        group="data",
        label=("Template", "对话模板"),
        min_length=1,
    )
    enable_thinking: bool | None = option(
        None,
        en="Tell the template that the model thinks before it answers, or that it does not; empty leaves it to the "
        "template.",
        zh="告诉模板模型是否先思考再回答；留空由模板决定。",
        group="data",
        label=("Thinking", "思考模式"),
    )

    @field_validator("template")
    @classmethod
    def _check_template(cls, name: str | None) -> str | None:
        if name and (what := templates.problem(name)):
            raise ValueError(what)
        return name
