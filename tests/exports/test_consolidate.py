"""Which checkpoint a consolidation means, and what it says of those that it cannot use."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.config.consolidate import ConsolidateConfig
from studio.config.load import parse, save
from studio.config.serve import ServeConfig
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.exports import consolidate
from studio.runs.store import Store
from tests.checkpoints import make_checkpoint


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Trainings: full, with two checkpoints, the newer one damaged; of an adapter without any; and a server."""
    kept = {"full": {"finetuning_type": "full"}, "adapter": {}, "lost": {"model_name_or_path": "/nowhere"}}
    for name, keys in kept.items():
        (tmp_path / name).mkdir()
        save(parse(TrainConfig, {"dataset": ["demo"], **keys}), tmp_path / name / "config.yaml")
        (tmp_path / name / "exit.json").write_text('{"code": 0, "at": 0}')
    for step in (3, 6):
        make_checkpoint(tmp_path / f"full/checkpoints/checkpoint-{step}", step)
    next((tmp_path / "full/checkpoints/checkpoint-6").glob("*.safetensors")).unlink()
    (tmp_path / "server").mkdir()
    save(parse(ServeConfig, {"model_name_or_path": "seedling"}), tmp_path / "server/config.yaml")
    return Store(tmp_path)


def test_the_newest_whole_checkpoint_is_meant(store: Store) -> None:
    planned = consolidate.plan(store, ConsolidateConfig(run="full"))
    assert "checkpoint-3" in planned.title
    assert planned.title.startswith("Make the model of")
    half = consolidate.plan(store, ConsolidateConfig(run="full", export_dtype="float16"))
    whole = consolidate.plan(store, ConsolidateConfig(run="full", export_dtype="float32"))
    assert whole.bytes == 2 * (half.bytes or 0)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"run": "full", "step": 6}, "checkpoint-6 is damaged"),
        ({"run": "full", "step": 4}, "no checkpoint of step 4; it has those of 3"),
        ({"run": "adapter"}, "has no complete checkpoint"),
        ({"run": "lost"}, "/nowhere, which it began with, is no longer here"),
        ({"run": "server"}, "is a serve run: only trainings have checkpoints"),
        ({"run": "nobody"}, "nobody"),
    ],
    ids=["damaged", "step", "none", "base", "kind", "unknown"],
)
def test_what_cannot_be_used_is_told(store: Store, keys: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        consolidate.plan(store, ConsolidateConfig(**keys))


def test_a_run_must_be_named() -> None:
    with pytest.raises(ConfigError, match="name the training"):
        parse(ConsolidateConfig, {})
