"""What a merge says before it starts: what it will write, what to think about, and everything that is against it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from studio.config.load import parse
from studio.config.merge import MergeConfig
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.exports.merge import plan, verified_in
from studio.files import write_json
from studio.models import weights_fingerprint
from studio.runs.store import Store
from studio.settings import ASSETS

SEEDLING = ASSETS / "seedling"
LAYER = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "saves")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter on seedling, as a training leaves it."""
    return make_adapter(tmp_path / "adapter")


def make_adapter(folder: Path, width: int | None = None, base: Path = SEEDLING) -> Path:
    folder.mkdir()
    size = width or json.loads((SEEDLING / "config.json").read_text())["hidden_size"]
    weights = {"lora_A": np.ones((4, size), np.float32), "lora_B": np.ones((size, 4), np.float32)}
    named = {f"base_model.model.{LAYER}.{part}.weight": weight for part, weight in weights.items()}
    save_file(named, folder / "adapter_model.safetensors")
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "r": 4, "base_model_name_or_path": str(base)})
    return folder


def config(adapter: Path | str, **options: Any) -> MergeConfig:
    return parse(MergeConfig, {"adapter_name_or_path": str(adapter), **options})


def problems(store: Store, asked: MergeConfig) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        plan(store, asked)
    return {problem.where: problem.what for problem in caught.value.problems}


def test_it_says_what_it_writes(store: Store, adapter: Path) -> None:
    told = plan(store, config(adapter))
    path = SEEDLING / "model.safetensors"
    stored = path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], "little")
    assert told.bytes == stored
    assert told.title.startswith("LoRA of rank 4 into **seedling**, ")
    assert told.lines[0].startswith("Writes about ")
    assert told.lines[1] == "Then compares it with base and adapter in float32"
    assert told.warnings == ()
    assert plan(store, config(adapter, export_dtype="float32")).bytes == 2 * stored


def test_several_adapters_are_told_with_their_shares(store: Store, adapter: Path, tmp_path: Path) -> None:
    second = make_adapter(tmp_path / "second")
    asked = parse(MergeConfig, {"adapter_name_or_path": [str(adapter), str(second)], "adapter_weights": "1,0.5"})
    assert plan(store, asked).title.startswith("LoRA of rank 4 + 0.5 × LoRA of rank 4 into **seedling**")


def test_other_kinds_of_adapters_need_the_full_memory(store: Store, adapter: Path) -> None:
    stated = json.loads((adapter / "adapter_config.json").read_text())
    write_json(adapter / "adapter_config.json", {**stated, "peft_type": "IA3"})
    assert "only LoRA adapters" in problems(store, config(adapter))["adapter_name_or_path"]
    assert plan(store, config(adapter, merge_method="full_memory")).title.startswith(
        "adapter of kind IA3 into **seedling**"
    )


def test_everything_that_is_wrong_is_said_at_once(store: Store, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    asked = config("nowhere", model_name_or_path=str(tmp_path / "no model"), export_dir=str(tmp_path / "taken"))
    found = problems(store, asked)
    assert set(found) == {"adapter_name_or_path", "model_name_or_path", "export_dir"}
    assert "neither an adapter folder nor a run" in found["adapter_name_or_path"]
    assert "is not a folder" in found["model_name_or_path"]
    assert "exists: choose another folder, or set overwrite_output_dir" in found["export_dir"]


def test_a_run_that_was_spelled_wrongly_is_told_by_its_id(store: Store) -> None:
    run = store.create(parse(TrainConfig, {"dataset": "identity", "run_name": "bramble"}))
    make_adapter(run.path / "adapter")
    write_json(run.path / "result.json", {"output": "adapter"})
    assert f"nor a run; do you mean {run.id}?" in problems(store, config("brambel"))["adapter_name_or_path"]


def test_a_damaged_base_is_named(store: Store, adapter: Path, tmp_path: Path) -> None:
    base = shutil.copytree(SEEDLING, tmp_path / "base")
    (base / "model.safetensors").write_bytes(b"\xff" * 100)
    assert "damaged" in problems(store, config(adapter, model_name_or_path=str(base)))["model_name_or_path"]


def test_an_adapter_of_another_shape_is_refused(store: Store, tmp_path: Path) -> None:
    narrow = make_adapter(tmp_path / "narrow", width=8)
    assert f"was not trained on {SEEDLING}: {LAYER} is" in problems(store, config(narrow))["model_name_or_path"]


def test_a_base_that_is_the_adapter_is_refused(store: Store, adapter: Path) -> None:
    assert "model_name_or_path" in problems(store, config(adapter, model_name_or_path=str(adapter)))


def test_what_is_merged_is_never_replaced(store: Store, adapter: Path, tmp_path: Path) -> None:
    base = shutil.copytree(SEEDLING, tmp_path / "base")
    (tmp_path / "link").symlink_to(base)
    for place in (base, base / "inside", tmp_path / "link", tmp_path, adapter):
        options = {"model_name_or_path": str(base), "export_dir": str(place), "overwrite_output_dir": True}
        assert "which is merged" in problems(store, config(adapter, **options))["export_dir"]
    with pytest.raises(ConfigError):
        plan(store, config(adapter, export_dir="/", overwrite_output_dir=True))


def test_a_base_that_is_not_here_yet_is_left_to_the_worker(store: Store, adapter: Path) -> None:
    told = plan(store, config(adapter, model_name_or_path="rosa/bramble"))
    assert told.title.endswith("into **rosa/bramble** (not on this machine yet)")
    assert told.bytes is None


def test_too_small_a_disk_is_refused(store: Store, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.exports.plan.free_bytes", lambda folder: 1_000)
    assert "the merged model needs" in problems(store, config(adapter))["disk"]


@pytest.mark.parametrize("changed", ["weights", "config.json"])
def test_another_base_of_equal_shape_is_warned_of(store: Store, adapter: Path, tmp_path: Path, changed: str) -> None:
    digest = hashlib.sha256((SEEDLING / "config.json").read_bytes()).hexdigest()
    recorded = {"name": "seedling", "path": str(SEEDLING), "sha256": digest, "weights": weights_fingerprint(SEEDLING)}
    write_json(adapter / "base.json", recorded)
    assert plan(store, config(adapter)).warnings == ()
    other = shutil.copytree(SEEDLING, tmp_path / "other")
    if changed == "weights":
        data = bytearray((other / "model.safetensors").read_bytes())
        data[-4000:] = bytes(4000)
        (other / "model.safetensors").write_bytes(data)
    else:
        (other / "config.json").write_text((SEEDLING / "config.json").read_text() + "\n")
    (warning,) = plan(store, config(adapter, model_name_or_path=str(other))).warnings
    assert warning.startswith(f"{adapter} was trained on seedling")
    assert changed in warning


def test_a_merge_without_proof_is_warned_of(store: Store, adapter: Path) -> None:
    told = plan(store, config(adapter, verify=False))
    assert told.lines[-1] == "Nothing will be compared: verify is off"
    assert told.warnings == ("a merge that went wrong will not be noticed",)


def test_full_memory_is_warned_of_where_it_does_not_fit(
    store: Store, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.exports.merge._available_bytes", lambda: 1_000_000)
    told = plan(store, config(adapter, merge_method="full_memory"))
    assert "too little to compare" in told.warnings[0]
    assert "full_memory needs about" in told.warnings[1]
    assert not any("compares it" in line for line in told.lines)


@pytest.mark.parametrize(("available", "computed"), [(8e9, "float32"), (4e9, "bfloat16"), (2e9, None)])
def test_what_it_is_compared_in_follows_the_memory(available: float, computed: str | None) -> None:
    assert verified_in(1_000_000_000, int(available)) == computed
