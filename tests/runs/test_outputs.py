"""What a person may call a model: a folder, the bundled one, a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.config.gguf import GgufConfig
from studio.errors import ModelError
from studio.files import write_json
from studio.runs import outputs
from studio.runs.store import Store
from studio.settings import ASSETS


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "saves")


def test_a_model_is_a_folder_or_the_bundled_one(store: Store, tmp_path: Path) -> None:
    assert outputs.model_of(store, str(tmp_path)) == tmp_path
    assert outputs.model_of(store, "seedling") == ASSETS / "seedling"


def test_a_model_is_what_a_run_made(store: Store) -> None:
    run = store.create(GgufConfig(model_name_or_path="seedling"))
    with pytest.raises(ModelError, match="no finished model"):
        outputs.model_of(store, run.id)
    write_json(run.path / "result.json", {"output": "model"})
    assert outputs.model_of(store, run.id) == run.path / "model"


def test_anything_else_is_no_model(store: Store) -> None:
    with pytest.raises(ModelError, match="neither a model folder nor a run"):
        outputs.model_of(store, "nobody/knows")
