"""LLaMA-Factory's own example configurations, as they are but for the model and the length, train on its own data."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from studio import packages
from studio.config.load import parse, save
from studio.config.train import TrainConfig
from tests.config.examples import FILE, TRAINING, Example, or_skipped
from tests.worker.conftest import Finished, train_as_configured

SHORT = {
    "model_name_or_path": "seedling",
    "max_steps": 3,
    "max_samples": 24,
    "cutoff_len": 128,
    "gradient_accumulation_steps": 2,
    "overwrite_cache": False,
    # what its identity set leaves for everyone to say
    "model_name": "Sprout",
    "model_author": "Ada",
}
# seedling has six layers, and the text that LLaMA-Factory's pre-training example names is on a hub
OTHERWISE = {
    "extras/llama_pro/llama3_freeze_sft.yaml": {"freeze_trainable_layers": 2},
    "train_lora/qwen3_lora_pretrain.yaml": {"dataset": "wiki_demo"},
}


@pytest.fixture(scope="module")
def their_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of their demo data, beside which rows may be kept."""
    folder = tmp_path_factory.mktemp("theirs") / "data"
    return Path(shutil.copytree(FILE.parent, folder, copy_function=shutil.copyfile))


@pytest.fixture(scope="module")
def saves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One saves folder, so that rows are encoded once."""
    return tmp_path_factory.mktemp("saves")


@pytest.mark.parametrize("example", or_skipped(TRAINING), ids=str)
def test_an_example_trains_three_steps(their_data: Path, saves: Path, example: Example) -> None:
    keys = {**example.values, **SHORT, **OTHERWISE.get(example.name, {}), "dataset_dir": str(their_data)}
    run = Finished(saves / example.name.replace("/", "-"))
    run.run_dir.mkdir()
    config = parse(TrainConfig, keys)
    if problem := packages.missing(config.optim):
        pytest.skip(str(problem))
    save(config, run.run_dir / "config.yaml")
    train_as_configured(run.run_dir)
    assert run.json("result.json")["steps"] == 3
    assert all(map(math.isfinite, run.losses.values()))
    output = "adapter" if example.values["finetuning_type"] == "lora" else "model"
    assert (run.run_dir / output).is_dir()
