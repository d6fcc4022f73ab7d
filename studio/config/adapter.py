"""What can be done with adapters beside merging them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from studio.config.option import Config, Names, option
from studio.errors import Problem


class AdapterConfig(Config):
    """One new adapter made of others, or of the difference of two models."""

    kind: Literal["adapter"] = "adapter"

    action: Literal["extract", "convert", "scale", "average"] = option(
        "convert",
        en="What to do.",
        zh="操作。",
        group="adapter",
        label=("Action", "操作"),
    )
    adapter_name_or_path: Names = option(
        (),
        en="Adapters: folders, or ids of the runs that made them.",
        zh="适配器：文件夹，或产生它们的运行 ID。",
        group="adapter",
        label=("Adapters", "适配器"),
    )
    run_name: str | None = option(
        None,
        en="A short name for what comes out.",
        zh="产物的简短名称。",
        group="adapter",
        label=("Name", "名称"),
    )

    @property
    def title(self) -> str:
        """What the run is called where no name was given."""
        return self.run_name or "adapter"

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong between fields that are each right alone."""
        if self.action != "extract" and not self.adapter_name_or_path:
            yield Problem("adapter_name_or_path", "choose an adapter")
