"""Every shipped configuration trains on the bundled model with the bundled data; there is one for every stage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from studio.config.load import parse, preset, preset_names, save
from studio.config.train import TrainConfig
from studio.config.train.method import Stage
from studio.settings import ROOT
from tests.worker.conftest import Finished, train_as_configured

FEW = {"max_steps": 2, "max_samples": 32, "cutoff_len": 128}
ONLINE = {"num_generations": 2, "per_device_train_batch_size": 2, "max_completion_length": 8}
WITHOUT_DATA = {"dataset": "alpaca_demo"}


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of data/, beside which rows may be kept."""
    folder = tmp_path_factory.mktemp("bundled") / "data"
    return Path(shutil.copytree(ROOT / "data", folder, ignore=shutil.ignore_patterns(".*", "rewards")))


def test_every_stage_has_one() -> None:
    assert {preset(name).get("stage", "sft") for name in preset_names()} == set(Stage.__args__)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_trains(tmp_path: Path, bundled: Path, name: str) -> None:
    keys = {**WITHOUT_DATA, **preset(name), **FEW, "dataset_dir": str(bundled)}
    if keys.get("stage") in ("grpo", "rloo"):
        keys |= ONLINE
    run = Finished(tmp_path / "run")
    run.run_dir.mkdir()
    save(parse(TrainConfig, keys), run.run_dir / "config.yaml")
    train_as_configured(run.run_dir)
    assert run.json("result.json")["steps"] == 2
