"""The dataset that a quantisation names: an entry of the registry, or a file as LLaMA-Factory's examples name it."""

from __future__ import annotations

from pathlib import Path

from studio.config.quantize import QuantizeConfig
from studio.datasets import detect
from studio.datasets.entry import Entry
from studio.datasets.registry import Registry
from studio.errors import DatasetNotFound


def find(config: QuantizeConfig, name: str) -> tuple[Path, Entry]:
    """Where the rows of `name` are, and how they are read.

    Raises:
        DatasetError: neither a usable entry nor a file.
    """
    registry, file = Registry(Path(config.dataset_dir)), Path(name).expanduser()
    try:
        return registry.file(name), registry.entry(name)
    except DatasetNotFound:
        if not file.is_file():
            raise
    return file, detect.propose_for(file).entry(file.stem, str(file))
