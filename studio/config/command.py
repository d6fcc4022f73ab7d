"""A configuration as the command line that does the same."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from studio.config.load import RunConfig, changed
from studio.config.option import split_names


def command(config: RunConfig) -> str:
    """The shell-quoted `python -m studio` command for `config`; only what differs from the defaults is said."""
    values = {**({"action": config.action} if config.kind == "data" else {}), **changed(config)}
    first = [*VERB.get(config.kind, ()), *(str(values.pop(key)) for key in SUBJECT[config.kind] if values.get(key))]
    words = [f"{key}={_text(value)}" for key, value in values.items()]
    return shlex.join(["python", "-m", "studio", config.kind, *first, *words])


# what a command names without a key
SUBJECT = {
    "train": (),
    "serve": ("model_name_or_path",),
    "merge": ("adapter_name_or_path",),
    "data": ("action",),
    "arena": (),
    "bench": ("model_name_or_path",),
}
# what stands before it
VERB = {"bench": ("serve",)}


def _text(value: Any) -> str:
    """A value as YAML on one line, which is how overrides are read."""
    if isinstance(value, list) and all(isinstance(item, str) and split_names(item) == [item] for item in value):
        value = ",".join(value)
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
