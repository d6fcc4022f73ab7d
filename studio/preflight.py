"""What a training needs from this machine, looked at before any process starts: its datasets and its model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from studio import models
from studio.config.load import parse
from studio.config.option import split_names
from studio.config.train import TrainConfig
from studio.datasets.registry import Registry
from studio.errors import ConfigError, DatasetError, ModelError, Problem


def train_config(values: Mapping[str, Any], registry: Registry) -> TrainConfig:
    """`values` as a configuration that can start here.

    Raises:
        ConfigError: with every problem, those of the configuration and those of what it names.
    """
    missing = [*_datasets(values.get("dataset"), registry), *_model(values.get("model_name_or_path"))]
    try:
        config = parse(TrainConfig, values)
    except ConfigError as error:
        raise ConfigError([*error.problems, *missing]) from error
    if missing:
        raise ConfigError(missing)
    return config


def _datasets(given: Any, registry: Registry) -> Iterator[Problem]:
    names = split_names(given)
    for name in names if isinstance(names, list | tuple) else ():
        try:
            registry.file(str(name))
        except DatasetError as error:
            yield Problem("dataset", str(error))


def _model(given: Any) -> Iterator[Problem]:
    """A hub id is left to the worker: only it may ask the network."""
    if not given or not models.is_local(name := models.resolve(str(given))):
        return
    try:
        info = models.check(Path(name))
    except ModelError as error:
        yield Problem("model_name_or_path", str(error))
        return
    if not info.has_chat_template:
        what = f"{name} has no chat template: take the chat (instruct) version of the model"
        yield Problem("model_name_or_path", what)
