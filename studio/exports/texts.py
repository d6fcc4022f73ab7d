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
    training = None if config.export_quantization_dataset else trained(store, config)
    if training is None or training.stage not in TEXT_STAGES or not training.dataset:
        return config
    return config.model_copy(update={"export_quantization_dataset": training.dataset[0]})


def trained(store: Store, config: QuantizeConfig) -> TrainConfig | None:
    """The last training that the model came out of in this studio; None where it came from elsewhere."""
    run = lineage.maker(store, config.model_name_or_path)
    configs = (each.config for each in lineage.ancestry(store, run)) if run else ()
    return next((each for each in configs if isinstance(each, TrainConfig)), None)


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
