"""What is said of a quantisation before it starts, about real folders and datasets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from studio import machine, packages
from studio.config.load import parse
from studio.config.merge import MergeConfig
from studio.config.quantize import QuantizeConfig
from studio.config.train import TrainConfig
from studio.errors import ConfigError
from studio.exports import names
from studio.exports.quantize import layers_of, plan, unserved, written_bytes
from studio.files import write_json
from studio.models import check
from studio.runs.store import Store
from studio.settings import ASSETS, ROOT

pytestmark = pytest.mark.skipif(bool(packages.missing_overlay()), reason="llmcompressor is not installed: make extras")
SEEDLING = ASSETS / "seedling"


def config(**keys: Any) -> QuantizeConfig:
    given = {"model_name_or_path": "seedling", "export_quantization_dataset": "identity", "group_size": 64, **keys}
    return parse(QuantizeConfig, {"dataset_dir": str(ROOT / "data"), **given})


def planned(tmp_path: Path, **keys: Any):
    return plan(Store(tmp_path / "saves"), config(**keys))


def refused(tmp_path: Path, **keys: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as raised:
        planned(tmp_path, **keys)
    return {problem.where: problem.what for problem in raised.value.problems}


def test_what_is_written_is_told_closely(tmp_path: Path) -> None:
    said = planned(tmp_path)
    assert said.title == "**seedling**, 5.8 M parameters, as GPTQ W4A16"
    assert said.bytes == pytest.approx(4_628_922, rel=0.02)  # what llmcompressor wrote for it
    assert "128 rows of identity, up to 1024 tokens each, on the" in "\n".join(said.lines)
    assert "42 linear layers" in said.lines[0]


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    said = refused(
        tmp_path, export_quantization_dataset="nowhere", group_size=128, modules_to_not_convert=["0.self_attn.k_proj"]
    )
    assert "nowhere" in said["export_quantization_dataset"]
    assert "leave out all of them or none" in said["modules_to_not_convert"]
    assert "group_size" not in said  # 256 and 768 are multiples of 128


def test_groups_that_do_not_divide_a_layer_are_refused_by_name(tmp_path: Path) -> None:
    folder = copied(tmp_path, **{"model.layers.0.mlp.down_proj.weight": torch.zeros(256, 760, dtype=torch.bfloat16)})
    said = refused(tmp_path, model_name_or_path=str(folder), group_size=32)
    assert "model.layers.0.mlp.down_proj have inputs that are no multiple of 32" in said["group_size"]
    assert planned(tmp_path, model_name_or_path=str(folder), modules_to_not_convert=["0.mlp.down_proj"])


def test_what_is_quantised_already_is_not_again(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"quantization_config": {"quant_method": "gptq"}}))
    said = refused(tmp_path, model_name_or_path=str(folder))
    assert "is quantised already (gptq)" in said["model_name_or_path"]


def test_a_model_without_linear_layers_is_refused_but_for_bitsandbytes(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"architectures": ["GPT2LMHeadModel"]}))
    said = refused(tmp_path, model_name_or_path=str(folder))
    assert "take bitsandbytes, or GGUF" in said["export_quantization_method"]
    assert planned(tmp_path, model_name_or_path=str(folder), export_quantization_method="bitsandbytes")


@pytest.mark.parametrize(
    ("keys", "key", "what"),
    [
        ({"model_name_or_path": ""}, "model_name_or_path", "choose the model"),
        ({"export_quantization_dataset": None}, "export_quantization_dataset", "choose a dataset to calibrate with"),
        (
            {"export_quantization_dataset": None, "export_quantization_method": "rtn"},
            "eval_dataset",
            "choose a dataset to measure perplexity on",
        ),
        ({"modules_to_not_convert": ["re:("]}, "modules_to_not_convert", "is no regular expression"),
        ({"modules_to_not_convert": ["re:.*"]}, "modules_to_not_convert", "leaves nothing to quantise"),
        ({"model_name_or_path": "nobody/nothing"}, "model_name_or_path", "neither a model folder nor a run"),
        ({"eval_dataset": "nowhere"}, "eval_dataset", "nowhere"),
    ],
    ids=["no model", "no set", "no held-out set", "pattern", "nothing left", "no such model", "no such set"],
)
def test_each_refusal_says_what_to_do(tmp_path: Path, keys: dict[str, Any], key: str, what: str) -> None:
    said = refused(tmp_path, **keys)
    assert what in said[key]
    assert len(said) == 1


def test_without_its_packages_it_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "OVERLAY", tmp_path / "nothing")
    assert "-r requirements-quantize.lock" in refused(tmp_path)["export_quantization_method"]
    assert planned(tmp_path, export_quantization_method="bitsandbytes")


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_what_a_model_was_trained_on_here_calibrates_it(tmp_path: Path, stage: str) -> None:
    store = Store(tmp_path / "saves")
    trained = store.create(TrainConfig(dataset=("alpaca_demo", "identity"), stage=stage))
    write_json(trained.path / "result.json", {"output": "adapter"})
    merged = store.create(MergeConfig(adapter_name_or_path=(trained.id,)))
    shutil.copytree(SEEDLING, merged.path / "model")
    write_json(merged.path / "result.json", {"output": "model"})
    if stage == "dpo":
        said = refused(tmp_path, model_name_or_path=merged.id, export_quantization_dataset=None)
        assert list(said) == ["export_quantization_dataset"]
        return
    for name in (merged.id, str(merged.path / "model")):
        told = planned(tmp_path, model_name_or_path=name, export_quantization_dataset=None)
        assert told.lines[-1] == "alpaca_demo was chosen because the model was trained on it"
        title = config(model_name_or_path=name).title
        assert title.endswith("merged-gptq-w4a16")
        assert merged.id[:8] not in title
    chosen = planned(tmp_path, model_name_or_path=merged.id, export_quantization_dataset="identity")
    assert "128 rows of identity" in "".join(chosen.lines)


def test_a_file_serves_as_llama_factory_names_it(tmp_path: Path) -> None:
    rows = tmp_path / "c4_demo.jsonl"
    rows.write_text("".join(json.dumps({"text": f"Row {number} of a text."}) + "\n" for number in range(9)))
    assert planned(tmp_path, export_quantization_dataset=str(rows))
    assert (
        "nothing.jsonl" in refused(tmp_path, export_quantization_dataset="nothing.jsonl")["export_quantization_dataset"]
    )


def test_names_of_data_mean_the_same_in_the_folder_of_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    monkeypatch.setenv("SEEDBED_DATA", str(tmp_path / "own"))
    monkeypatch.chdir(tmp_path)
    given = QuantizeConfig(model_name_or_path="seedling", export_quantization_dataset="rows.jsonl", eval_dataset="sums")
    found = names.settled(given)
    assert (found.model_name_or_path, found.dataset_dir) == ("seedling", str(tmp_path / "own"))
    assert (found.export_quantization_dataset, found.eval_dataset) == (str(tmp_path / "rows.jsonl"), "sums")
    assert names.settled(given.model_copy(update={"dataset_dir": "theirs"})).dataset_dir == str(tmp_path / "theirs")


def test_a_name_stands_for_whole_parts_of_a_path() -> None:
    every = set(layers_of(SEEDLING, config()).taken)
    left = every - set(layers_of(SEEDLING, config(modules_to_not_convert=["down_proj", "layers.5.mlp"])).taken)
    assert left == {f"model.layers.{layer}.mlp.down_proj" for layer in range(6)}
    matched = every - set(layers_of(SEEDLING, config(modules_to_not_convert=[r"re:.*layers\.5\..*"])).taken)
    assert {path.split(".")[2] for path in matched} == {"5"}
    assert len(matched) == 7


def test_what_vllm_does_not_serve_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = layers_of(SEEDLING, config())
    monkeypatch.setattr(machine, "lacks_avx512", lambda: True)
    assert "needs AVX512" in unserved(config(), layers, has_gpu=False)
    assert unserved(config(), layers, has_gpu=True) == ""
    monkeypatch.setattr(machine, "lacks_avx512", lambda: False)
    assert unserved(config(), layers, has_gpu=False) == ""
    assert unserved(config(export_quantization_method="int8"), layers, has_gpu=False) == ""
    assert "W8A16" in unserved(config(export_quantization_bit=8), layers, has_gpu=False)
    assert unserved(config(export_quantization_bit=8), layers, has_gpu=True) == ""
    assert "bitsandbytes" in unserved(config(export_quantization_method="bitsandbytes"), layers, has_gpu=True)
    if not any(machine.gpus()):
        assert "int8 is the method for it" in planned(tmp_path, export_quantization_method="fp8").warnings[0]
    said = planned(tmp_path, export_quantization_method="bitsandbytes")
    assert any(warning.startswith("Not for vLLM on this machine") for warning in said.warnings)


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (4, -1), (8, -1)], ids=str)
def test_more_bits_and_smaller_groups_take_more_room(bits: int, group: int) -> None:
    chosen, least = config(export_quantization_bit=bits, group_size=group), config(group_size=-1)
    info, layers = check(SEEDLING), layers_of(SEEDLING, chosen)
    assert written_bytes(chosen, info, layers) >= written_bytes(least, info, layers)


def copied(tmp_path: Path, **changed: torch.Tensor) -> Path:
    """Seedling's folder with some of its weights changed."""
    from safetensors.torch import load_file

    folder = tmp_path / "copied"
    folder.mkdir()
    for path in SEEDLING.iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    save_file({**load_file(SEEDLING / "model.safetensors"), **changed}, folder / "model.safetensors")
    return folder
