"""A configuration as the command line that does the same."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from studio.config.adapter import AdapterConfig
from studio.config.data import DataConfig
from studio.config.load import RunConfig, changed
from studio.config.option import split_names


def command(config: RunConfig) -> str:
    """The shell-quoted `python -m studio` command for `config`; only what differs from the defaults is said."""
    values = changed(config)
    if isinstance(config, DataConfig | AdapterConfig):
        values["action"] = config.action
    first = [word for key in SUBJECT[config.kind] if values.get(key) for word in _words(values.pop(key))]
    words = [f"{key}={_text(value)}" for key, value in values.items()]
    return shlex.join(["python", "-m", "studio", *WORDS.get(config.kind, (config.kind,)), *first, *words])


# what a command names without a key
SUBJECT = {
    "train": (),
    "serve": ("model_name_or_path",),
    "merge": ("adapter_name_or_path",),
    "data": ("action",),
    "arena": (),
    "bench": ("model_name_or_path",),
    "gguf": ("model_name_or_path",),
    "ollama": ("model_name_or_path",),
    "quantize": ("model_name_or_path",),
    "adapter": ("action", "adapter_name_or_path"),
    "push": ("model_name_or_path", "hub_model_id"),
    "consolidate": ("run",),
}
# the commands that are not called as the kind of run is
WORDS = {
    "bench": ("bench", "serve"),
    "gguf": ("export", "gguf"),
    "ollama": ("export", "ollama"),
    "quantize": ("export", "quantized"),
}


def _words(value: Any) -> list[str]:
    return [str(item) for item in (value if isinstance(value, list) else [value])]


def _text(value: Any) -> str:
    """A value as YAML on one line, which is how overrides are read."""
    if isinstance(value, list) and all(isinstance(item, str) and split_names(item) == [item] for item in value):
        value = ",".join(value)
    # on and off are booleans to YAML unless they are quoted; double quotes stay readable within the shell's
    style = '"' if value in ("on", "off") else None
    text = yaml.safe_dump(value, default_style=style, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
