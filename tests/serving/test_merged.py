"""Merged models of adapters: which one that is there may be taken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from safetensors.numpy import save_file

from studio.config.merge import MergeConfig
from studio.files import write_json
from studio.models import adapter_info, fingerprint
from studio.runs.store import Store
from studio.serving import merged


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "use_dora": True, "base_model_name_or_path": "/models/fox"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file({"a": numpy.zeros(2)}, folder / "adapter_model.safetensors")
    return folder


def merge(store: Store, adapter: Path, **options: Any) -> Path:
    """A finished merge run of this adapter, as its worker leaves it."""
    run = store.create(MergeConfig(adapter_name_or_path=str(adapter), **options))
    (run.path / "model").mkdir()
    write_json(run.path / "result.json", {"output": "model", "adapter_sha256": fingerprint(adapter)})
    return run.path / "model"


def test_the_newest_merge_of_the_same_files_is_taken(adapter: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "saves")
    assert merged.find(store, adapter_info(adapter)) is None
    made = merge(store, adapter)
    assert merged.find(store, adapter_info(adapter)) == made
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    assert merged.find(store, adapter_info(copy)) == made, "the same adapter under another path"


CHANGES: dict[str, Callable[[Path, Path], Any]] = {
    "other weights": lambda adapter, model: save_file({"a": numpy.ones(2)}, adapter / "adapter_model.safetensors"),
    "another scale": lambda adapter, model: write_json(
        adapter / "adapter_config.json",
        {**json.loads((adapter / "adapter_config.json").read_text()), "lora_alpha": 99},
    ),
    "a model that was deleted": lambda adapter, model: shutil.rmtree(model),
    "a merge from before hashes were kept": lambda adapter, model: write_json(
        model.parent / "result.json", {"output": "model"}
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_merge_of_anything_else_is_not_taken(adapter: Path, tmp_path: Path, change: str) -> None:
    store = Store(tmp_path / "saves")
    CHANGES[change](adapter, merge(store, adapter))
    assert merged.find(store, adapter_info(adapter)) is None


OTHERWISE: dict[str, dict[str, Any]] = {
    "type": {"export_dtype": "float16"},
    "base": {"model_name_or_path": "/models/owl"},
    "share": {"adapter_weights": "0.5"},
    "rounding": {"dequantize_base": "nf4"},
    "not compared": {"verify": False},
    "elsewhere": {"export_dir": "/models/merged"},
}


@pytest.mark.parametrize("options", OTHERWISE.values(), ids=OTHERWISE)
def test_a_merge_that_was_asked_for_otherwise_is_not_taken(
    adapter: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    store = Store(tmp_path / "saves")
    merge(store, adapter, **options)
    assert merged.find(store, adapter_info(adapter)) is None
    made = merge(store, adapter, model_name_or_path="/models/fox")
    assert merged.find(store, adapter_info(adapter)) == made
