"""What a configuration names on this machine, as names that mean the same in every folder."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from studio import models, settings
from studio.config.option import Config
from studio.runs import outputs
from studio.runs.store import Store

C = TypeVar("C", bound=Config)
READ = ("adapter_name_or_path", "model_name_or_path", "tuned_model_name_or_path")
WRITTEN = ("export_dir",)
DATASETS = ("export_quantization_dataset", "eval_dataset")  # entries of the registry, or files
OWN_DATA = "data"  # what dataset_dir is where nobody said more


def settled(config: C) -> C:
    """`config` with whole paths, because a worker starts elsewhere than a command; ids of runs and of the hub stay."""
    keys = (*READ, *WRITTEN, *DATASETS, "dataset_dir")
    named = {key: _settled(key, value) for key in keys if (value := getattr(config, key, None))}
    return config.model_copy(update=named)


def trained_here(store: Store, name: str) -> str | None:
    """The adapter of the newest training called as the last part of `name`, where `name` itself is nothing.

    LLaMA-Factory's files name the output_dir of their training, whose last part is the run's name here.
    """
    if models.is_local(models.resolve(name)) or (store.saves / name / "config.yaml").exists():
        return None
    wanted = name.rstrip("/").rpartition("/")[2]
    made = (output for output in outputs.adapters(store) if getattr(output.run.config, "run_name", None) == wanted)
    return next((str(output.path) for output in made), None)


def _settled(key: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_settled(key, name) for name in value)
    if key == "dataset_dir" and value == OWN_DATA:
        return str(settings.from_environment().data_dir)
    if key in DATASETS and not os.path.isfile(os.path.expanduser(value)):
        return value
    if key in (*WRITTEN, *DATASETS, "dataset_dir"):
        return os.path.abspath(os.path.expanduser(value))
    return value if value == models.BUNDLED else models.resolve(value)
