"""The dataset of a quantisation: an entry of the registry, a file as LLaMA-Factory's examples name it, or what the
model was trained on.
"""

from __future__ import annotations

from pathlib import Path

from studio.config.quantize import QuantizeConfig
from studio.config.train import TrainConfig
from studio.datasets import detect
from studio.datasets.entry import Entry
from studio.datasets.registry import Registry
from studio.errors import DatasetNotFound
from studio.exports import lineage
from studio.runs.store import Store

TEXT_STAGES = ("pt", "sft")  # whose rows are conversations or texts


def filled(store: Store, config: QuantizeConfig) -> QuantizeConfig:
    """`config`; where it names no dataset, with the first one that the model was trained on in this studio, if any."""
    run = None if config.export_quantization_dataset else lineage.maker(store, config.model_name_or_path)
    trainings = (each.config for each in lineage.ancestry(store, run)) if run else ()
    for training in trainings:
        if isinstance(training, TrainConfig) and training.stage in TEXT_STAGES and training.dataset:
            return config.model_copy(update={"export_quantization_dataset": training.dataset[0]})
    return config


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
