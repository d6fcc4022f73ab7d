"""What an upload to the Hugging Face hub can be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from studio.config.option import Config, option
from studio.errors import Problem


class PushConfig(Config):
    """One finished adapter, model or export uploaded to one repository."""

    kind: Literal["push"] = "push"

    model_name_or_path: str = option(
        "",
        en="What to upload: a folder, or the id of the run that made it.",
        zh="要上传的内容：文件夹，或产生它的运行 ID。",
        group="push",
        label=("What to upload", "上传内容"),
    )
    hub_model_id: str = option(
        "",
        en="The repository, as owner/name.",
        zh="仓库名，形如 owner/name。",
        group="push",
        label=("Repository", "仓库"),
    )
    run_name: str | None = option(
        None,
        en="A short name for what comes out.",
        zh="产物的简短名称。",
        group="push",
        label=("Name", "名称"),
    )

    @property
    def title(self) -> str:
        """What the run is called where no name was given."""
        return self.run_name or "push"

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        if not self.model_name_or_path:
            yield Problem("model_name_or_path", "choose what to upload")
        if not self.hub_model_id:
            yield Problem("hub_model_id", "say which repository, as owner/name")
