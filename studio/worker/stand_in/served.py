"""The models that a server answers as: one base under its names, and adapters under theirs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from studio.errors import RequestFailed, ServingError
from studio.worker.stand_in import adapters


class NotServed(ServingError):
    """There is no model of that name."""


@dataclass
class Served:
    """Models by name. `path` is the base's folder; `length_max` its context in tokens."""

    base: PreTrainedModel
    path: str
    names: Sequence[str]
    length_max: int
    tuned: dict[str, tuple[str, PreTrainedModel]] = field(default_factory=dict)

    def model(self, name: str | None) -> PreTrainedModel:
        """The model that is asked for; the base where no name is given.

        Raises:
            NotServed
        """
        if name is None or name in self.names:
            return self.base
        if name in self.tuned:
            return self.tuned[name][1]
        raise NotServed(f"The model `{name}` does not exist. Valid aliases: {', '.join(self.names)}.")

    def load(self, name: str, path: str, in_place: bool) -> None:
        """Load an adapter; answers under way go on with the one that they began with.

        Raises:
            RequestFailed: the name is taken.
            NotServed: there is no adapter in `path`.
            AdapterRefused: it does not fit.
        """
        if name in self.names:
            raise RequestFailed(f"The lora adapter '{name}' conflicts with a served base model.")
        if name in self.tuned and not in_place:
            raise RequestFailed(
                f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
                "'load_inplace' to True."
            )
        if not (Path(path) / "adapter_config.json").is_file():
            raise NotServed(f"No adapter found for {path}: adapter_config.json is missing")
        self.tuned[name] = path, adapters.load(self.base, Path(path))

    def unload(self, name: str) -> None:
        """Forget an adapter.

        Raises:
            NotServed
        """
        if self.tuned.pop(name, None) is None:
            raise NotServed(f"The lora adapter '{name}' cannot be found.")

    def to_json(self) -> dict[str, Any]:
        """The value of /v1/models."""
        base = [self._card(name, self.path, None) for name in self.names]
        tuned = [self._card(name, path, self.names[0]) for name, (path, _) in self.tuned.items()]
        return {"object": "list", "data": base + tuned}

    def _card(self, name: str, root: str, parent: str | None) -> dict[str, Any]:
        facts = {"root": root, "parent": parent, "max_model_len": None if parent else self.length_max}
        return {"id": name, "object": "model", "created": int(time.time()), "owned_by": "seedbed", **facts}
