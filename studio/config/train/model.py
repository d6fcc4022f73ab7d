"""The model that is trained."""

from __future__ import annotations

from studio.config.option import Config, option


class ModelOptions(Config):
    """Where a training starts."""

    model_name_or_path: str = option(
        "seedling",
        en="The model to start from: seedling (bundled), a local folder, or a hub id.",
        zh="起始模型：内置的 seedling、本地文件夹或模型库 ID。",
        group="model",
        label=("Model", "模型"),
        min_length=1,
    )
    run_name: str | None = option(
        None,
        en="A short name for the run, part of its folder's name.",
        zh="运行的简短名称，会出现在文件夹名中。",
        group="model",
        label=("Run name", "运行名称"),
    )
