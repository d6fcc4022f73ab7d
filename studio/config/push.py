"""What an upload to the Hugging Face hub can be asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from studio.config.option import Config, option
from studio.errors import Problem

REPOSITORY = re.compile(r"(?=[^/]{1,96}/[^/]{1,96}$)\w[\w.-]*/\w(?!.*(--|\.\.|\.git$|[.-]$))[\w.-]*", re.ASCII)


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
    hub_private_repo: bool = option(
        True,
        en="Only you, or your organisation, can see the repository. Nothing is uploaded to a public one unless this is "
        "off.",
        zh="仅您或您的组织可见。除非关闭此项，否则不会上传到公开仓库。",
        group="push",
        label=("Private", "私有"),
    )
    model_card: bool = option(
        True,
        en="Write README.md: data, hyperparameters, curves, base model, licence, proof. Off leaves the folder's own.",
        zh="生成 README.md：数据、超参数、曲线、基座、许可证与验证结果。关闭则保留文件夹自带的。",
        group="push",
        label=("Model card", "模型卡"),
    )
    run_name: str | None = option(
        None,
        en="A short name for the upload among the runs.",
        zh="本次上传在运行列表中的简短名称。",
        group="push",
        label=("Name", "名称"),
    )

    @property
    def title(self) -> str:
        """What the run is called where no name was given."""
        return self.run_name or self.hub_model_id.rpartition("/")[2] or "push"

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        if not self.model_name_or_path:
            yield Problem("model_name_or_path", "choose what to upload")
        if not self.hub_model_id:
            yield Problem("hub_model_id", "say which repository, as owner/name")
        elif not REPOSITORY.fullmatch(self.hub_model_id):
            what = f"{self.hub_model_id[:80]!r} is no repository: write owner/name, both of letters, digits, - _ ."
            yield Problem("hub_model_id", what)
