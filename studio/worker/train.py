"""The worker of a training run: python -m studio.worker.train RUN_DIR

Only what is light is imported here; the training itself is in training.py.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from studio import models
from studio.config.load import load_run_config
from studio.config.train import TrainConfig
from studio.files import read_record
from studio.parallel.strategies import STRATEGIES
from studio.worker import imports, ranks
from studio.worker.door import Desk, leave, serve


def main(run_dir: Path) -> int:
    """Train as config.yaml in `run_dir` says. Returns 0 when completed, 10 when stopped as asked, 1 when failed."""
    return serve(run_dir, _work)


def _work(desk: Desk) -> bool:
    desk.reporter.phase("starting", "loading libraries")
    config = load_run_config(desk.run_dir / "config.yaml")
    assert isinstance(config, TrainConfig)
    _take_devices(config)
    imports.trim(_needed(config))
    from studio.worker import training

    imports.settle()
    desk.clock.lap("imports")
    return training.train(desk)


def _needed(config: TrainConfig) -> set[str]:
    """Packages that few trainings use: for quantised models, some optimizers and trackers."""
    folder = models.folder_of(config.model_name_or_path)
    stored = folder and read_record(folder / "config.json").get("quantization_config")
    is_quantised = stored or config.quantization_bit or config.optim in imports.OF_BITSANDBYTES
    extra = {"bitsandbytes": is_quantised, "deepspeed": STRATEGIES[config.parallel_strategy].is_deepspeed}
    return {*config.report_to, *(name for name, wanted in extra.items() if wanted)}


def _take_devices(config: TrainConfig) -> None:
    """Those that were chosen. Without a launcher there is one process, which takes one GPU unless the layers of the
    model are dealt out."""
    if ranks.PARENT in os.environ:
        return
    visible = config.devices or os.environ.get("CUDA_VISIBLE_DEVICES")
    if config.parallel_strategy != "device_map":
        visible = (visible or "0").split(",")[0]
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    if config.devices:
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as they are shown


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]).resolve()))
